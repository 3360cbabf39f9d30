"""`forwhy indices build`, `show` and `export`: item indices for a model that generates items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from forwhy.cli import JsonFlag, app_of, emit, one_line, show
from forwhy.cli.options import Given, takes
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.vocabulary.indices.build import (
    build_index,
    health,
    read_vectors,
    semantic_vectors,
    spectral_vectors,
)
from forwhy.vocabulary.indices.index import IndexConfig, ItemIndex, to_json

indices_app = app_of()

Folder = Annotated[Path, typer.Argument(help="Folder of an index.")]


@indices_app.command("build")
@takes(IndexConfig)
def build(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the index to.")],
    options: Given[IndexConfig],
    semantic: Annotated[
        str, typer.Option(help="FILE.npy with a row per item, or a text encoder's name.")
    ] = "minilm",
    behaviour: Annotated[
        str, typer.Option(help="FILE.npy with a row per item, or spectral: from the training graph.")
    ] = "spectral",
    as_json: JsonFlag = False,
) -> None:
    """Gives every item its index, writes them, and says how healthy they are."""
    config = options.model()
    data = Dataset.load(dataset)
    says = taken = None
    if "semantic" in config.reads:
        from forwhy.text.encoder import text_encoder

        named = semantic.endswith(".npy")
        says = read_vectors(Path(semantic)) if named else semantic_vectors(data, text_encoder(semantic))
    if "behaviour" in config.reads:
        named = behaviour.endswith(".npy")
        if not named and behaviour != "spectral":
            raise UserError(
                f"--behaviour: {behaviour!r} is neither a FILE.npy nor spectral; give one of them"
            )
        taken = read_vectors(Path(behaviour)) if named else spectral_vectors(data, seed=config.seed)
    index = build_index(data.items, config, says, taken)
    index.save_pretrained(target)
    _report(index, as_json)


@indices_app.command("show")
def show_index(folder: Folder, as_json: JsonFlag = False) -> None:
    """The health report: use, perplexity, branching, neighbour purity."""
    _report(ItemIndex.from_pretrained(folder), as_json)


@indices_app.command("export")
def export(
    folder: Folder, target: Annotated[Path, typer.Argument(help="X.index.json to write, as LC-Rec has it.")]
) -> None:
    """Writes the published format, {item: ["<a_183>", …]}."""
    to_json(ItemIndex.from_pretrained(folder), target)


def _report(index: ItemIndex, as_json: bool) -> None:
    report = health(index) | dict(index.metrics)  # one read from a file has no report of its own
    examples = {str(index.items.values[n]): index.names(n) for n in range(min(3, len(index)))}
    if as_json:
        emit({"fingerprint": index.fingerprint, "examples": examples, **report})
        return
    for item, names in examples.items():
        show(f"{one_line(item)}: {''.join(names)}")
    levels = Table("level", "source", "codes", "used", "perplexity", "nodes", "branching", "forced")
    levels.title = f"{report['items']:,} items"
    for level, entry in enumerate(report["levels"]):
        levels.add_row(
            str(level + 1), entry["source"], str(entry["size"]), str(entry["used"]), f"{entry['perplexity']:.0f}",
            f"{entry['nodes']:,}", f"{entry['branching']:.2f}", f"{entry['forced']:.0%}",
        )  # fmt: skip
    show(levels)
    if not report["purity"]:
        return
    purity = Table("near in", "first code of", "shared with 10 nearest", "by chance", title="neighbours")
    for vectors, sources in report["purity"].items():
        for source, shares in sources.items():
            purity.add_row(vectors, source, f"{shares['neighbours']:.1%}", f"{shares['chance']:.1%}")
    show(purity)
