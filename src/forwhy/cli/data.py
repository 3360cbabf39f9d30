"""`forwhy data import`, `show`, `audit` and `export`; raw reviews are in `data_reviews`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from forwhy.cli.console import JsonFlag, emit, one_line, plain, show
from forwhy.cli.data_reviews import export_app, import_amazon, import_google, import_recbole, import_yelp
from forwhy.cli.data_saving import Name, Out, Target, keep, place_of, report

if TYPE_CHECKING:
    from rich.table import Table

    from forwhy.data.audit import Finding
    from forwhy.data.dataset import Dataset

data_app = typer.Typer(
    help="Import a dataset; show, audit or export one.", no_args_is_help=True, rich_markup_mode=None
)
import_app = typer.Typer(
    help="Import raw reviews, a published layout or plain tables.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
data_app.add_typer(import_app, name="import")
data_app.add_typer(export_app, name="export")
for name, command in {
    "amazon": import_amazon,
    "yelp": import_yelp,
    "google": import_google,
    "recbole": import_recbole,
}.items():
    import_app.command(name)(command)

TableFile = Annotated[Path | None, typer.Option(help="CSV, TSV, JSONL or parquet; by extension.")]
Seed = Annotated[int, typer.Option(help="Seed of the splits that have to be made.")]


@import_app.command("xrec")
def import_xrec(
    folder: Annotated[Path, typer.Argument(help="Folder with total_*.csv and trn/val/tst.pkl.")],
    target: Target = None,
    out: Out = None,
    name: Name = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """XRec's published layout (the pickles are read through an allow-list)."""
    from forwhy.data.sources import import_xrec as read

    place = place_of(target, out)
    keep(read(folder, name, seed), place, as_json)


@import_app.command("lcrec")
def import_lcrec(
    folder: Annotated[Path, typer.Argument(help="Folder with X.inter.json, X.item.json, X.index.json.")],
    target: Target = None,
    out: Out = None,
    name: Name = None,
    prefix: Annotated[str | None, typer.Option(help="X, when the folder holds several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """LC-Rec's trio: last item of each sequence is test, the one before validation."""
    from forwhy.data.sources import import_lcrec as read

    place = place_of(target, out)
    keep(read(folder, name, prefix), place, as_json)


@import_app.command("tables")
def import_tables(
    interactions: Annotated[Path, typer.Option(help="CSV, TSV, JSONL or parquet of who took what.")],
    target: Target = None,
    out: Out = None,
    items: TableFile = None,
    users: TableFile = None,
    reviews: TableFile = None,
    explanations: TableFile = None,
    profiles: TableFile = None,
    intents: TableFile = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="TABLE.COLUMN=THEIRS, e.g. interactions.user_id=user.")
    ] = None,
    duplicates: Annotated[
        Literal["error", "first", "keep"], typer.Option(help="Repeated rows; keep is for purchase sequences.")
    ] = "error",
    unknown_ids: Annotated[
        Literal["error", "allow"], typer.Option(help="Ids that another table lacks.")
    ] = "error",
    name: Name = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Plain tables with anyone's column names."""
    from forwhy.data.sources import import_tables as read

    place = place_of(target, out)
    dataset = read(
        interactions,
        items,
        users,
        reviews,
        explanations,
        intents,
        profiles,
        columns=_mapping(columns or []),
        seed=seed,
        name=name,
        duplicates=duplicates,
        unknown_ids=unknown_ids,
    )
    keep(dataset, place, as_json)


@data_app.command("show")
def show_data(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")], as_json: JsonFlag = False
) -> None:
    """Counts, splits and leaks of a dataset."""
    from forwhy.data.dataset import Dataset

    report(Dataset.load(folder), as_json)


@data_app.command("audit")
def audit_data(
    folder: Annotated[Path, typer.Argument(help="Dataset folder.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 2 when there is a leak.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Every leak and oddity that can be found, what it means for numbers, and what to do."""
    from forwhy.data.audit import audit
    from forwhy.data.dataset import Dataset
    from forwhy.errors import UserError

    dataset = Dataset.load(folder)
    findings = audit(dataset)
    if as_json:
        emit(_audit_document(dataset, findings))
    else:
        show(_audit_table(dataset.name, findings))
    leaking = [finding.id for finding in findings if finding.severity == "leak"]
    if strict and leaking:
        raise UserError(f"{folder}: leaks: {', '.join(leaking)}; each one's remedy stands in the audit")


def _audit_document(dataset: Dataset, findings: list[Finding]) -> dict[str, object]:
    from forwhy.data.audit import SEVERITIES

    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "counts": {name: sum(finding.severity == name for finding in findings) for name in SEVERITIES},
        "findings": [finding.document() for finding in findings],
    }


def _audit_table(name: str, findings: list[Finding]) -> Table:
    """One row per finding."""
    from rich.table import Table

    table = Table("finding", "what it means, what to do, examples", title=plain(name), show_lines=True)
    for finding in findings:
        count = f"{finding.count:,} of {finding.of:,} ({finding.count / finding.of:.1%})"
        examples = (_example(case) for case in finding.examples)
        said = (finding.meaning, f"Remedy: {finding.remedy}.", *examples)
        table.add_row(f"{finding.severity}: {finding.id}\n{count}", "\n".join(said))
    return table


def _example(case: Mapping[str, str | int]) -> str:
    """One line; its values are strangers' words."""
    values = {key: f'"{one_line(value)}"' if isinstance(value, str) else value for key, value in case.items()}
    return "- " + ", ".join(f"{key} {value}" for key, value in values.items())


def _mapping(columns: list[str]) -> dict[str, str]:
    """`interactions.user_id=user` for every column -> our column -> theirs."""
    from forwhy.errors import UserError

    mapping: dict[str, str] = {}
    for entry in columns:
        ours, equals, theirs = entry.partition("=")
        if not (equals and "." in ours and theirs):
            raise UserError(f"--map {entry}: expected TABLE.COLUMN=THEIRS, e.g. interactions.user_id=user")
        mapping[ours.strip()] = theirs
    return mapping
