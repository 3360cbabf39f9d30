"""`forwhy data`: show, audit or export a dataset; `importing` makes one.

`forwhy indices`: build, show or export item indices, for a model that writes items.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.table import Table
from typer import Argument, Option

from forwhy.cli import JsonFlag, app_of, emit, one_line, plain, show
from forwhy.cli.importing import Out, folder_of, import_app, summary_table
from forwhy.cli.options import Given, takes
from forwhy.columns import Graph
from forwhy.data.audit import audit
from forwhy.data.dataset import Dataset
from forwhy.data.finding import SEVERITIES, Finding
from forwhy.data.sources.papers import export_lcrec
from forwhy.data.sources.recbole import export_recbole
from forwhy.errors import UserError
from forwhy.vocabulary.index import IndexConfig, ItemIndex, to_json
from forwhy.vocabulary.indexing import build_index, health, read_vectors, semantic_vectors, spectral_vectors

data_app = app_of()
export_app = app_of(help="Write a dataset in another library's layout.")
data_app.add_typer(import_app, name="import")
data_app.add_typer(export_app, name="export")
indices_app = app_of()

Folder = Annotated[Path, Argument(help="Dataset folder.")]
Written = Annotated[Path | None, Argument(help="Folder to write; its name becomes the data set's.")]
GraphOption = Annotated[Graph, Option(help="leak-free: no training pair whose explanation is held out.")]
Single = Annotated[bool, Option("--single", help="One .inter without the split; RecBole makes its own.")]
_INDEX = "Folder of an index; default: the column `index`, if there is one."
OtherIndex = Annotated[Path | None, Option(help=_INDEX)]
Semantic = Annotated[str, Option(help="FILE.npy with a row per item, or a text encoder's name.")]
Behaviour = Annotated[str, Option(help="FILE.npy with a row per item, or spectral: from the training graph.")]
IndexFolder = Annotated[Path, Argument(help="Folder of an index.")]


@data_app.command("show")
def show_data(folder: Folder, as_json: JsonFlag = False) -> None:
    """Counts, splits and leaks of a dataset."""
    summary = Dataset.load(folder).summary()
    emit(summary) if as_json else show(summary_table(summary))


@export_app.command("recbole")
def export_data(
    folder: Folder,
    target: Written = None,
    out: Out = None,
    single: Single = False,
    graph: GraphOption = "leak-free",
) -> None:
    """RecBole's atomic files with our split, and a YAML that names it."""
    place = folder_of("data export", target, out)
    export_recbole(Dataset.load(folder), place, single=single, graph=graph)
    show(*(str(path) for path in sorted(place.iterdir())))


@export_app.command("lcrec")
def export_trio(
    folder: Folder,
    target: Written = None,
    out: Out = None,
    index: OtherIndex = None,
    graph: GraphOption = "leak-free",
) -> None:
    """LC-Rec's trio: histories, texts about items and, where there is one, their index."""
    place = folder_of("data export", target, out)
    found = None if index is None else ItemIndex.from_pretrained(index)
    export_lcrec(Dataset.load(folder), place, graph)
    if found is not None:
        to_json(found, place / f"{place.absolute().name}.index.json")
    show(*(str(path) for path in sorted(place.iterdir())))


@data_app.command("audit")
def audit_data(
    folder: Folder,
    strict: Annotated[bool, Option("--strict", help="Exit status 2 when there is a leak.")] = False,
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
            values = [f'"{one_line(it)}"' if isinstance(it, str) else str(it) for it in case.values()]
            said.append(f"- {', '.join(map(' '.join, zip(case, values, strict=True)))}")
        table.add_row(f"{finding.severity}: {finding.id}\n{count}", "\n".join(said))
    return table


@indices_app.command("build")
@takes(IndexConfig)
def write_index(
    dataset: Annotated[Path, Argument(help="Dataset folder.")],
    target: Annotated[Path, Option("--out", "-o", help="Folder to write the index to.")],
    options: Given[IndexConfig],
    semantic: Semantic = "minilm",
    behaviour: Behaviour = "spectral",
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
            wrong = f"{behaviour!r} is neither a FILE.npy nor spectral"
            raise UserError(f"--behaviour: {wrong}; give one of them")
        taken = read_vectors(Path(behaviour)) if named else spectral_vectors(data, seed=config.seed)
    index = build_index(data.items, config, says, taken, data.edges("train"))
    index.save_pretrained(target)
    _show_index(index, as_json)


@indices_app.command("show")
def show_index(folder: IndexFolder, as_json: JsonFlag = False) -> None:
    """The health report: use, perplexity, branching, neighbour purity."""
    _show_index(ItemIndex.from_pretrained(folder), as_json)


@indices_app.command("export")
def export_index(
    folder: IndexFolder, target: Annotated[Path, Argument(help="X.index.json to write, as LC-Rec has it.")]
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
            f"{entry['nodes']:,}", f"{entry['branching']:.2f}", f"{entry['forced']:.0%}"
        )  # fmt: skip
    show(levels)
    if not report["purity"]:
        return
    purity = Table("near in", "first code of", "shared with 10 nearest", "by chance", title="neighbours")
    for vectors, shared in report["purity"].items():
        for source, shares in shared.items():
            purity.add_row(vectors, source, f"{shares['neighbours']:.1%}", f"{shares['chance']:.1%}")
    show(purity)
