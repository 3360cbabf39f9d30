"""`forwhy indices build`, `show` and `export`: item indices for a model that generates items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from forwhy.cli import JsonFlag, app_of, emit, one_line, show
from forwhy.cli.options import Given, takes
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.vocabulary.config import IndexConfig
from forwhy.vocabulary.indices.build import (
    build_index,
    health,
    read_vectors,
    semantic_vectors,
    spectral_vectors,
)
from forwhy.vocabulary.indices.index import ItemIndex, to_json

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
    says = _semantic(data, semantic) if "semantic" in config.reads else None
    taken = _behaviour(data, behaviour, config.seed) if "behaviour" in config.reads else None
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


def _semantic(data: Dataset, name: str) -> NDArray[np.floating]:
    from forwhy.text.encoder import text_encoder

    if name.endswith(".npy"):
        return read_vectors(Path(name))
    return semantic_vectors(data, text_encoder(name))


def _behaviour(data: Dataset, name: str, seed: int) -> NDArray[np.floating]:
    if name.endswith(".npy"):
        return read_vectors(Path(name))
    if name != "spectral":
        raise UserError(f"--behaviour: {name!r} is neither a FILE.npy nor spectral; give one of them")
    return spectral_vectors(data, seed=seed)


def _report(index: ItemIndex, as_json: bool) -> None:
    report = health(index) | dict(index.metrics)  # one read from a file has no report of its own
    examples = {str(index.items.values[n]): index.names(n) for n in range(min(3, len(index)))}
    if as_json:
        emit({"fingerprint": index.fingerprint, "examples": examples, **report})
        return
    for item, names in examples.items():
        show(f"{one_line(item)}: {''.join(names)}")
    show(_levels(report), *([_purity(report)] if report["purity"] else []))


def _levels(report: dict[str, Any]) -> Table:
    table = Table("level", "source", "codes", "used", "perplexity", "nodes", "branching", "forced")
    table.title = f"{report['items']:,} items"
    for level, entry in enumerate(report["levels"]):
        numbers = (entry[name] for name in ("size", "used"))
        table.add_row(
            str(level + 1), entry["source"], *map(str, numbers), f"{entry['perplexity']:.0f}",
            f"{entry['nodes']:,}", f"{entry['branching']:.2f}", f"{entry['forced']:.0%}",
        )  # fmt: skip
    return table


def _purity(report: dict[str, Any]) -> Table:
    table = Table("near in", "first code of", "shared with 10 nearest", "by chance", title="neighbours")
    for vectors, sources in report["purity"].items():
        for source, shares in sources.items():
            table.add_row(vectors, source, f"{shares['neighbours']:.1%}", f"{shares['chance']:.1%}")
    return table
