"""`forwhy data import`: a dataset from raw reviews, a published layout or plain tables."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from rich.table import Table
from typer import Argument, Option

from forwhy.atomic import read_signed, refuse_foreign
from forwhy.cli import JsonFlag, app_of, emit, log, plain, show
from forwhy.cli.options import Given, pairs, takes
from forwhy.columns import TABLES
from forwhy.data import sources
from forwhy.data.dataset import FORMAT, MARKER, Dataset
from forwhy.data.sources.recbole import RecBoleFilters
from forwhy.data.sources.reviews import ReviewFilters
from forwhy.data.sources.tables import TableOptions
from forwhy.errors import UserError

import_app = app_of(help="Import raw reviews, a published layout or plain tables.")

Target = Annotated[Path | None, Argument(help="Folder to write the data set to.")]
Out = Annotated[Path | None, Option("--out", "-o", help="The folder to write, as an option.")]
Name = Annotated[str | None, Option(help="Name of the dataset; default: the folder's.")]
SkipBad = Annotated[
    bool, Option("--skip-bad", help="Leave rows out that cannot be read: counted, the first few named.")
]
TableFile = Annotated[Path | None, Option(help="CSV, TSV, JSONL or parquet, plain, .gz or .zip.")]
Query = Annotated[str | None, Option(help="A query, or the name of a table.")]
_MAP = "OURS=THEIRS or TABLE.OURS=THEIRS, e.g. user_id=customer; THEIRS is - for none; repeatable."
Columns = Annotated[list[str] | None, Option("--map", help=_MAP)]
Interactions = Annotated[str, Option("--query", "--interactions", help="Query, or table, of who took what.")]
Url = Annotated[str | None, Argument(help="sqlite:///shop.db, postgresql+psycopg://user@host/shop, …")]
UrlName = Annotated[str | None, Option(help="Environment variable that holds the URL instead.")]
NOT_TABLES = frozenset({"identical_texts", "users", "columns"})
SHARE = {"share": "sample"}


def _import(
    target: Path | None, out: Path | None, name: str | None, as_json: bool, read: Callable[..., Dataset]
) -> None:
    """Read a dataset, save it, and show counts, splits and leaks; of a log also its steps and bad rows."""
    place = folder_of("data import", target, out)
    refuse_foreign(place, MARKER)  # before what may take long
    dataset = read(name=name or place.absolute().name)
    _tell_lost(place, dataset)
    dataset.save(place)
    summary = dataset.summary()
    account = {key: value for key, value in dataset.source.items() if key in ("steps", "bad_rows")}
    if as_json:
        emit(summary | account)
        return
    if account:
        show(_steps(**account), *(f"bad row: {plain(row)}" for row in account["bad_rows"]["first"]))
    show(summary_table(summary), *_outlook(dataset, summary, shlex.quote(str(place))))


def _tell_lost(place: Path, dataset: Dataset) -> None:
    """Says what was mined of the data set that is there and goes with it, and how to mine it again."""
    try:
        source = read_signed(place, MARKER, "a data set", FORMAT, "forwhy data import")["source"]
    except UserError:
        return
    mined = {about.partition(" ")[0]: entry["model"] for about, entry in source.get("mined", {}).items()}
    for kind in sorted(mined.keys() - dataset.tables.keys()):
        how = "--extractive" if mined[kind] == "extractive" else f"--llm {shlex.quote(mined[kind])}"
        again = f"forwhy mine {kind} {shlex.quote(str(place))} {how}"
        said = "%s: the mined %s go with the old rows; mine them again (kept answers are used): %s"
        log.warning(said, place, kind, again)


def folder_of(command: str, target: Path | None, out: Path | None) -> Path:
    """The one folder to write that a command was given, last or with `--out`."""
    place = target or out
    if place is None or (target and out):
        raise UserError(f"{command}: name one folder to write, last or with --out")
    return place


def _outlook(dataset: Dataset, counts: Mapping[str, Any], place: str) -> Iterator[str]:
    timed = "timestamp" in dataset.table("interactions").columns
    order = "yes, there are times" if timed else "no, interactions have no time"
    yield f"Rankings: yes. The next item (SASRec, LLM-BS): {order}."
    texts = [f"{counts[name]:,} {name}" for name in ("titles", "descriptions", "reviews") if counts[name]]
    yield f"Words that say why (BEAT): from {', '.join(texts) or 'nothing yet; give titles with --items'}."
    told = sum(counts["explanations"].values())
    none = "not yet, there are no explanations; until then reasons are plain sentences"
    yield f"A model that explains: {f'yes, from {told:,} explanations' if told else none}."
    if counts["reviews"] and not told:
        yield f"  from reviews: forwhy mine explanations {place} --llm MODEL --llm-url URL"
    yield f"Next: forwhy data audit {place}"
    yield f"Then: forwhy init {place}"


def _steps(steps: Sequence[Mapping[str, Any]], bad_rows: Mapping[str, Any]) -> Table:
    table = Table("step", "dropped", "rows left", "users left", "items left")
    for reason, count in bad_rows["reasons"].items():
        table.add_row(plain(f"bad rows: {reason}"), f"{count:,}", "", "", "")
    for step in steps:
        counts = (f"{step[key]:,}" for key in ("dropped", "rows", "users", "items"))
        table.add_row(plain(step["step"]), *counts)
    return table


def summary_table(summary: Mapping[str, Any]) -> Table:
    """One row per count; of leaks only those that there are."""
    table = Table("what", "count", title=plain(summary["name"]))
    for key, value in summary.items():
        if key == "leaks":
            found = {name.replace("_", " "): number for name, number in value.items() if number}
            for name, number in (found or {"leaks": "none"}).items():
                table.add_row(name, str(number))
        elif isinstance(value, dict):
            parts = ", ".join(f"{number:,} {split}" for split, number in value.items())
            table.add_row(key, parts if any(value.values()) else "0")
        elif key != "name":
            table.add_row(key, f"{value:,}" if isinstance(value, int) else plain(value))
    return table


Reviews = Annotated[list[Path], Option("--reviews", help="JSON lines, plain or gzip; repeatable.")]
Facts = Annotated[list[Path] | None, Option(help="Facts about the items, as the reviews; repeatable.")]


def _reviews_command(source: str, about: str) -> None:

    @import_app.command(source, help=about)
    @takes(ReviewFilters, SHARE)
    def command(
        reviews: Reviews,
        filters: Given[ReviewFilters],
        target: Target = None,
        out: Out = None,
        meta: Facts = None,
        skip_bad: SkipBad = False,
        name: Name = None,
        as_json: JsonFlag = False,
    ) -> None:
        options = {"filters": filters.model(), "skip_bad": skip_bad}
        read = partial(sources.SOURCES[source], reviews, meta or (), **options)
        _import(target, out, name, as_json, read)


for source, about in (
    ("amazon", "Amazon Reviews 2023 or 2018: review and meta files."),
    ("yelp", "Yelp's review (--reviews) and business (--meta) files."),
    ("google", "Google Local's review and meta files."),
):
    _reviews_command(source, about)


@import_app.command("recbole")
@takes(RecBoleFilters, SHARE, without={"identical_texts"})
def import_recbole(
    folder: Annotated[Path, Argument(help="Folder with NAME.inter, or NAME.train.inter and so on.")],
    filters: Given[RecBoleFilters],
    target: Target = None,
    out: Out = None,
    fields: Annotated[
        list[str] | None, Option("--map", help="OURS=THEIRS, e.g. item_id=business_id; repeatable.")
    ] = None,
    skip_bad: SkipBad = False,
    name: Name = None,
    as_json: JsonFlag = False,
) -> None:
    """RecBole's atomic files, with or without its benchmark split."""
    names = pairs("--map", fields or (), "item_id=business_id")
    read = partial(sources.import_recbole, folder, names=names, filters=filters.model())
    _import(target, out, name, as_json, partial(read, skip_bad=skip_bad))


@import_app.command("xrec")
def import_xrec(
    folder: Annotated[Path, Argument(help="Folder with total_*.csv and trn/val/tst.pkl.")],
    target: Target = None,
    out: Out = None,
    name: Name = None,
    seed: Annotated[int, Option(min=0, help="Seed of the splits that have to be made.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """XRec's published layout (the pickles are read through an allow-list)."""
    _import(target, out, name, as_json, partial(sources.import_xrec, folder, seed=seed))


@import_app.command("nlg4rs")
def import_nlg4rs(
    folder: Annotated[Path, Argument(help="Folder with reviews.pickle and folders of index files.")],
    target: Target = None,
    out: Out = None,
    name: Name = None,
    fold: Annotated[int, Option(help="Which folder of index files is the split.", min=1)] = 1,
    as_json: JsonFlag = False,
) -> None:
    """The layout of PETER's and PEPLER's reviews, with features (the pickle is read through an allow-list)."""
    _import(target, out, name, as_json, partial(sources.import_nlg4rs, folder, fold=fold))


@import_app.command("lcrec")
def import_lcrec(
    folder: Annotated[Path, Argument(help="Folder with X.inter.json, X.item.json, X.index.json.")],
    target: Target = None,
    out: Out = None,
    name: Name = None,
    prefix: Annotated[str | None, Option(help="X, when the folder holds several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """LC-Rec's trio: last item of each sequence is test, the one before validation."""
    _import(target, out, name, as_json, partial(sources.import_lcrec, folder, prefix=prefix))


def _chosen(options: Given[TableOptions], columns: Sequence[str] | None) -> dict[str, Any]:
    mapping = pairs("--map", columns or (), "user_id=customer")
    return options.model(columns=mapping).model_dump(exclude_unset=True)


@import_app.command("tables")
@takes(TableOptions, SHARE, without=NOT_TABLES)
def import_tables(
    interactions: Annotated[Path, Option(help="CSV, TSV, JSONL or parquet of who took what.")],
    options: Given[TableOptions],
    target: Target = None,
    out: Out = None,
    items: TableFile = None,
    users: TableFile = None,
    reviews: TableFile = None,
    explanations: TableFile = None,
    profiles: TableFile = None,
    intents: TableFile = None,
    columns: Columns = None,
    name: Name = None,
    as_json: JsonFlag = False,
) -> None:
    """Plain tables with anyone's column names."""
    files = (interactions, items, users, reviews, explanations, intents, profiles)
    read = partial(sources.import_tables, *files, **_chosen(options, columns))
    _import(target, out, name, as_json, read)


@import_app.command("sql")
@takes(TableOptions, SHARE, without=NOT_TABLES)
def import_sql(
    options: Given[TableOptions],
    interactions: Interactions,
    url: Url = None,
    target: Target = None,
    out: Out = None,
    url_env: UrlName = None,
    items: Query = None,
    users: Query = None,
    reviews: Query = None,
    explanations: Query = None,
    profiles: Query = None,
    intents: Query = None,
    columns: Columns = None,
    timeout: Annotated[float, Option(help="Seconds that a query may take.")] = 600.0,
    name: Name = None,
    as_json: JsonFlag = False,
) -> None:
    """A database's rows, by one query (or table name) each; nothing is written to it."""
    if url_env is not None:
        url, target = None, target or (Path(url) if url else None)
        if not (url := os.environ.get(url_env)):
            raise UserError(f"--url-env {url_env}: no such environment variable; export {url_env}=URL first")
    if url is None:
        raise UserError("data import sql: no database; give its URL, or --url-env NAME")
    given = locals()  # the parameters that are called as tables are
    queries = {table: given[table] for table in TABLES if given.get(table)}
    read = partial(sources.import_sql, url, queries, timeout=timeout, **_chosen(options, columns))
    _import(target, out, name, as_json, read)
