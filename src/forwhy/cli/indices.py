"""`forwhy indices build`, `show` and `export`: item indices for a model that generates items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwhy.cli.console import JsonFlag, emit, one_line, show

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from forwhy.data.dataset import Dataset
    from forwhy.vocabulary.indices import ItemIndex

indices_app = typer.Typer(
    help="Build, show or export item indices.", no_args_is_help=True, rich_markup_mode=None
)

Folder = Annotated[Path, typer.Argument(help="Folder of an index.")]


@indices_app.command("build")
def build(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder.")],
    target: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the index to.")],
    source: Annotated[str, typer.Option(help="unit, semantic, behaviour, random or file.")] = "unit",
    semantic: Annotated[
        str, typer.Option(help="FILE.npy with a row per item, or a text encoder's name.")
    ] = "minilm",
    behaviour: Annotated[
        str, typer.Option(help="FILE.npy with a row per item, or spectral: from the training graph.")
    ] = "spectral",
    width: Annotated[str, typer.Option(help="Codes per level, or auto.")] = "256",
    depth: Annotated[str, typer.Option(help="Levels per source, or auto.")] = "auto",
    method: Annotated[str, typer.Option(help="kmeans or rqvae.")] = "kmeans",
    file: Annotated[Path | None, typer.Option(help="X.index.json of --source file.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Gives every item its index, writes them, and says how healthy they are."""
    from forwhy.data.dataset import Dataset
    from forwhy.vocabulary.indices import build_index

    config = _config(
        {"source": source, "width": width, "depth": depth, "method": method, "file": file, "seed": seed}
    )
    data = Dataset.load(dataset)
    says = _semantic(data, semantic) if "semantic" in config.reads else None
    taken = _behaviour(data, behaviour, seed) if "behaviour" in config.reads else None
    index = build_index(data.items, config, says, taken)
    index.save_pretrained(target)
    _report(index, as_json)


@indices_app.command("show")
def show_index(folder: Folder, as_json: JsonFlag = False) -> None:
    """The health report: use, perplexity, branching, neighbour purity."""
    from forwhy.vocabulary.indices import ItemIndex

    _report(ItemIndex.from_pretrained(folder), as_json)


@indices_app.command("export")
def export(
    folder: Folder, target: Annotated[Path, typer.Argument(help="X.index.json to write, as LC-Rec has it.")]
) -> None:
    """Writes the published format, {item: ["<a_183>", …]}."""
    from forwhy.vocabulary.indices import ItemIndex, to_json

    to_json(ItemIndex.from_pretrained(folder), target)


def _config(given: dict[str, Any]) -> Any:  # noqa: ANN401 - its type would be imported at start
    from pydantic import ValidationError

    from forwhy.errors import UserError
    from forwhy.vocabulary.indices import IndexConfig

    try:
        return IndexConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = f"option --{first['loc'][0]}" if first["loc"] else "options"
        raise UserError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from error


def _semantic(data: Dataset, name: str) -> NDArray[np.floating]:
    from forwhy.text.encoder import text_encoder
    from forwhy.vocabulary.indices import read_vectors, semantic_vectors

    return read_vectors(Path(name)) if name.endswith(".npy") else semantic_vectors(data, text_encoder(name))


def _behaviour(data: Dataset, name: str, seed: int) -> NDArray[np.floating]:
    from forwhy.errors import UserError
    from forwhy.vocabulary.indices import read_vectors, spectral_vectors

    if not name.endswith(".npy") and name != "spectral":
        raise UserError(f"option --behaviour: {name!r} is neither a FILE.npy nor spectral; give one of them")
    return read_vectors(Path(name)) if name.endswith(".npy") else spectral_vectors(data, seed=seed)


def _report(index: ItemIndex, as_json: bool) -> None:
    from forwhy.vocabulary.indices import health

    report = {
        **health(index),
        **index.metrics,
    }  # one that was read from a file by hand has no report of its own
    examples = {str(index.items.values[n]): index.names(n) for n in range(min(3, len(index)))}
    if as_json:
        emit({"fingerprint": index.fingerprint, "examples": examples, **report})
        return
    for item, names in examples.items():
        show(f"{one_line(item)}: {''.join(names)}")
    show(_levels(report), *([_purity(report)] if report["purity"] else []))


def _levels(report: dict[str, Any]) -> Table:
    from rich.table import Table

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
    from rich.table import Table

    table = Table("near in", "first code of", "shared with 10 nearest", "by chance", title="neighbours")
    for vectors, sources in report["purity"].items():
        for source, shares in sources.items():
            table.add_row(vectors, source, f"{shares['neighbours']:.1%}", f"{shares['chance']:.1%}")
    return table
