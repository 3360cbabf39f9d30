"""What every import ends with: a place to write to, the data set saved, its counts shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwhy.cli.console import emit, plain, show

if TYPE_CHECKING:
    from rich.table import Table

    from forwhy.data.dataset import Dataset

Target = Annotated[Path | None, typer.Argument(help="Folder to write the data set to.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The same, as an option.")]
Name = Annotated[str | None, typer.Option(help="Name of the dataset; default: the folder's.")]


def place_of(target: Path | None, out: Path | None) -> Path:
    """Where the data set goes: the last argument, or --out."""
    from forwhy.errors import UserError

    place = target or out
    if place is None or (target and out):
        raise UserError("data import: name one folder to write, last or with --out")
    return place


def keep(dataset: Dataset, out: Path, as_json: bool) -> None:
    """Save, then report."""
    dataset.save(out)
    report(dataset, as_json)


def report(dataset: Dataset, as_json: bool) -> None:
    """Show counts, splits and leaks."""
    summary = dataset.summary()
    if as_json:
        emit(summary)
    else:
        show(summary_table(summary))


def summary_table(summary: dict[str, object]) -> Table:
    """The summary with one row per number."""
    from rich.table import Table

    table = Table("what", "count", title=plain(summary["name"]))
    for key, value in summary.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                table.add_row(f"{key}: {inner}", str(number))
        elif key != "name":
            table.add_row(key, plain(value))
    return table
