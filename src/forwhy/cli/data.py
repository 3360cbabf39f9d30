"""`forwhy data`: import a dataset from raw reviews, a published layout or plain tables; show, audit or export one.

`forwhy indices`: build, show or export item indices, for a model that writes items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from forwhy.cli import JsonFlag, app_of, emit, one_line, plain, show
from forwhy.cli.options import Given, pairs, takes
from forwhy.columns import Graph
from forwhy.data import sources
from forwhy.data.audit import audit
from forwhy.data.dataset import Dataset
from forwhy.data.finding import SEVERITIES, Finding
from forwhy.data.sources.recbole import export_recbole
from forwhy.data.sources.reviews import ReviewFilters
from forwhy.errors import UserError
from forwhy.vocabulary.index import IndexConfig, ItemIndex, to_json
from forwhy.vocabulary.indexing import build_index, health, read_vectors, semantic_vectors, spectral_vectors

data_app = app_of()
import_app = app_of(help="Import raw reviews, a published layout or plain tables.")
export_app = app_of(help="Write a dataset in another library's layout.")
data_app.add_typer(import_app, name="import")
data_app.add_typer(export_app, name="export")
indices_app = app_of()

Folder = Annotated[Path, typer.Argument(help="Dataset folder.")]
IndexFolder = Annotated[Path, typer.Argument(help="Folder of an index.")]
Target = Annotated[Path | None, typer.Argument(help="Folder to write the data set to.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write, as an option.")]
Name = Annotated[str | None, typer.Option(help="Name of the dataset; default: the folder's.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave rows out that cannot be read: counted, the first few named.")
]
TableFile = Annotated[Path | None, typer.Option(help="CSV, TSV, JSONL or parquet; by extension.")]
Seed = Annotated[int, typer.Option(help="Seed of the splits that have to be made.")]
SHARE = {"share": "sample"}


# --- what the imports share


def _import(target: Path | None, out: Path | None, as_json: bool, read: Callable[[], Dataset]) -> None:
    """Read a dataset, save it, and show counts, splits and leaks; of a log also its steps and bad rows."""
    place = target or out
    if place is None or (target and out):
        raise UserError("data import: name one folder to write, last or with --out")
    dataset = read()
    dataset.save(place)
    summary = dataset.summary()
    log = {key: value for key, value in dataset.source.items() if key in ("steps", "bad_rows")}
    if as_json:
        emit(summary | log)
        return
    if log:
        show(_steps(**log), *(f"bad row: {plain(row)}" for row in log["bad_rows"]["first"]))
    show(_summary_table(summary))


def _steps(steps: Sequence[Mapping[str, Any]], bad_rows: Mapping[str, Any]) -> Table:
    """One row per step."""
    table = Table("step", "dropped", "rows left", "users left", "items left")
    for reason, count in bad_rows["reasons"].items():
        table.add_row(plain(f"bad rows: {reason}"), f"{count:,}", "", "", "")
    for step in steps:
        counts = (f"{step[key]:,}" for key in ("dropped", "rows", "users", "items"))
        table.add_row(plain(step["step"]), *counts)
    return table


def _summary_table(summary: dict[str, object]) -> Table:
    """One row per number."""
    table = Table("what", "count", title=plain(summary["name"]))
    for key, value in summary.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                table.add_row(f"{key}: {inner}", str(number))
        elif key != "name":
            table.add_row(key, plain(value))
    return table


# --- raw reviews and logs, filtered


class RecBoleFilters(ReviewFilters):
    """A log without texts stays as it is, unless asked."""

    duplicates: Literal["first", "last", "keep"] = "keep"


def _reviews_command(source: str, about: str) -> None:
    """One command; the sources differ in their field names only."""

    @import_app.command(source, help=about)
    @takes(ReviewFilters, SHARE)
    def command(
        reviews: Annotated[
            list[Path], typer.Option("--reviews", help="JSON lines, plain or gzip; repeatable.")
        ],
        filters: Given[ReviewFilters],
        target: Target = None,
        out: Out = None,
        meta: Annotated[
            list[Path] | None,
            typer.Option("--meta", help="Facts about the items, as the reviews; repeatable."),
        ] = None,
        skip_bad: SkipBad = False,
        name: Name = None,
        as_json: JsonFlag = False,
    ) -> None:
        place = (target or out or Path()).absolute()
        options = {"filters": filters.model(), "name": name or place.name, "skip_bad": skip_bad}
        _import(target, out, as_json, partial(sources.SOURCES[source], reviews, meta or (), **options))


for source, about in (
    ("amazon", "Amazon Reviews 2023 or 2018: review and meta files."),
    ("yelp", "Yelp's review (--reviews) and business (--meta) files."),
    ("google", "Google Local's review and meta files."),
):
    _reviews_command(source, about)


@import_app.command("recbole")
@takes(RecBoleFilters, SHARE, without={"identical_texts"})
def import_recbole(
    folder: Annotated[Path, typer.Argument(help="Folder with NAME.inter, or NAME.train.inter and so on.")],
    filters: Given[RecBoleFilters],
    target: Target = None,
    out: Out = None,
    fields: Annotated[
        list[str] | None, typer.Option("--map", help="OURS=THEIRS, e.g. item_id=business_id; repeatable.")
    ] = None,
    skip_bad: SkipBad = False,
    name: Name = None,
    as_json: JsonFlag = False,
) -> None:
    """RecBole's atomic files, with or without its benchmark split."""
    names = pairs("--map", fields or (), "item_id=business_id")
    read = partial(sources.import_recbole, folder, names=names, filters=filters.model(), name=name)
    _import(target, out, as_json, partial(read, skip_bad=skip_bad))


# --- published layouts and plain tables


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
    _import(target, out, as_json, partial(sources.import_xrec, folder, name, seed))


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
    _import(target, out, as_json, partial(sources.import_lcrec, folder, name, prefix))


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
    read = partial(
        sources.import_tables,
        interactions,
        items,
        users,
        reviews,
        explanations,
        intents,
        profiles,
        columns=pairs("--map", columns or (), "interactions.user_id=user"),
        seed=seed,
        name=name,
        duplicates=duplicates,
        unknown_ids=unknown_ids,
    )
    _import(target, out, as_json, read)


# --- a dataset that is there


@data_app.command("show")
def show_data(folder: Folder, as_json: JsonFlag = False) -> None:
    """Counts, splits and leaks of a dataset."""
    summary = Dataset.load(folder).summary()
    emit(summary) if as_json else show(_summary_table(summary))


@export_app.command("recbole")
def export_data(
    folder: Folder,
    target: Annotated[Path, typer.Argument(help="Folder to write; its name becomes RecBole's dataset.")],
    single: Annotated[
        bool, typer.Option("--single", help="One .inter without the split; RecBole makes its own.")
    ] = False,
    graph: Annotated[
        Graph, typer.Option(help="leak-free: no training pair whose explanation is held out.")
    ] = "leak-free",
) -> None:
    """RecBole's atomic files with our split, and a YAML that names it."""
    export_recbole(Dataset.load(folder), target, single=single, graph=graph)
    show(*(str(path) for path in sorted(target.iterdir())))


@data_app.command("audit")
def audit_data(
    folder: Folder,
    strict: Annotated[bool, typer.Option("--strict", help="Exit status 2 when there is a leak.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Every leak and oddity that can be found, what it means for numbers, and what to do."""
    dataset = Dataset.load(folder)
    findings = audit(dataset)
    if as_json:
        counts = {name: sum(finding.severity == name for finding in findings) for name in SEVERITIES}
        document = {"name": dataset.name, "fingerprint": dataset.fingerprint, "counts": counts}
        emit({**document, "findings": [finding.document() for finding in findings]})
    else:
        show(_audit_table(dataset.name, findings))
    leaking = [finding.id for finding in findings if finding.severity == "leak"]
    if strict and leaking:
        raise UserError(f"{folder}: leaks: {', '.join(leaking)}; each one's remedy stands in the audit")


def _audit_table(name: str, findings: list[Finding]) -> Table:
    """One row per finding; what its examples hold are strangers' words."""
    table = Table("finding", "what it means, what to do, examples", title=plain(name), show_lines=True)
    for finding in findings:
        count = f"{finding.count:,} of {finding.of:,} ({finding.count / finding.of:.1%})"
        said = [finding.meaning, f"Remedy: {finding.remedy}."]
        for case in finding.examples:
            values = (
                f'{key} "{one_line(it)}"' if isinstance(it, str) else f"{key} {it}"
                for key, it in case.items()
            )
            said.append(f"- {', '.join(values)}")
        table.add_row(f"{finding.severity}: {finding.id}\n{count}", "\n".join(said))
    return table


# --- item indices


@indices_app.command("build")
@takes(IndexConfig)
def write_index(
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
    _show_index(index, as_json)


@indices_app.command("show")
def show_index(folder: IndexFolder, as_json: JsonFlag = False) -> None:
    """The health report: use, perplexity, branching, neighbour purity."""
    _show_index(ItemIndex.from_pretrained(folder), as_json)


@indices_app.command("export")
def export_index(
    folder: IndexFolder,
    target: Annotated[Path, typer.Argument(help="X.index.json to write, as LC-Rec has it.")],
) -> None:
    """Writes the published format, {item: ["<a_183>", …]}."""
    to_json(ItemIndex.from_pretrained(folder), target)


def _show_index(index: ItemIndex, as_json: bool) -> None:
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
    for vectors, shared in report["purity"].items():
        for source, shares in shared.items():
            purity.add_row(vectors, source, f"{shares['neighbours']:.1%}", f"{shares['chance']:.1%}")
    show(purity)
