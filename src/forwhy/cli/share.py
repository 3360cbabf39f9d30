"""What leaves this machine or this library: `forwhy push` and `forwhy export`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
from typer import Argument, Option

from forwhy import hub
from forwhy.cli import log, show
from forwhy.cli.ask import Run
from forwhy.recipe import RunFolder
from forwhy.recipe.exporting import export_run
from forwhy.recipe.pushing import write_push


def push(
    run: Run,
    name: Annotated[str, Argument(help="Repository on the hub, as me/model.")],
    private: Annotated[bool, Option("--private", help="Only you can see it.")] = False,
    dry_run: Annotated[Path | None, Option(help="Write this folder, and upload nothing.")] = None,
) -> None:
    """Upload what a run has learned, with a card; the token is read from HF_TOKEN."""
    folder = RunFolder.open(run)
    if dry_run is not None:
        write_push(folder, dry_run, name)
        show(f"{dry_run}: what would be uploaded to {name}; nothing was")
        return
    with TemporaryDirectory() as place:
        write_push(folder, Path(place) / "push", name)
        files = [file for file in Path(place).rglob("*") if file.is_file()]
        size = sum(file.stat().st_size for file in files) / 1e6
        seen = "private" if private else "public"
        log.warning("pushing to %s at %s (%s): %d files, %.1f MB", name, hub.host(), seen, len(files), size)
        hub.put(Path(place) / "push", name, private)
    show(f"{hub.host()}/{name}")


def bake(
    run: Run,
    out: Annotated[
        Path, Option("--out", "-o", help="New folder to write: the base model's size, and a tenth more.")
    ],
    examples: Annotated[
        int, Option(min=0, max=1000, help="Test pairs whose prompts and texts go with it.")
    ] = 8,
) -> None:
    """The language model of a run with its behaviour words in it: an ordinary folder that any engine reads.

    Nothing is uploaded. Of systems 'beat' and 'because', trained with explainer.preset = "baked".
    """
    from forwhy.explain.baked import EXAMPLES, bake

    folder = RunFolder.open(run)
    explainer, pairs = folder.explainer(), folder.dataset().pairs("test")
    usable = pairs.select(np.flatnonzero(explainer.supported(pairs))[:examples])
    told = bake(explainer, out, usable)
    show(f"{out}: {told['base_model']['id']} with {told['words']:,} words from id {told['first_id']:,}")
    show(f"{len(usable)} prompts and what is written for them: {out / EXAMPLES}")


def export(run: Run, out: Annotated[Path, Option("--out", "-o", help="New folder to write.")]) -> None:
    """Vectors and codes of users and items as parquet and .npy, with codebooks and words where there are such."""
    show(*(str(out / name) for name in export_run(RunFolder.open(run), out)))
