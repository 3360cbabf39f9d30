"""The page: its sections put together, escaped, and written whole or not at all.

matplotlib and Jinja2 are imported when a page is written (`pip install 'forwhy[report]'`).
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from forwhy.atomic import atomic_file
from forwhy.errors import UserError, need
from forwhy.evaluate.compare import Comparison
from forwhy.evaluate.document import Examined, protocol_in_words
from forwhy.evaluate.registry import NEUTRAL
from forwhy.report import figures, findings, samples, tables
from forwhy.report.cells import CONTROLS, Table, clean, counted, interval, number
from forwhy.report.figures import RUNS
from forwhy.report.tables import (
    SHOWN_NEXT_ITEM,
    SHOWN_TEXT,
    Bold,
    measured,
    shown_ranking,
)

NAMES = {
    "graph": "protocol",
    "masked": "left out of rankings",
    "model": "language model",
    "encoder": "text encoder",
    "evaluation seed": "seed of the evaluation",
}
"""Value of the protocol -> its name on the page, where that is another."""
PARTS = ("judge", "notes")
"""Further mappings of a document that are shown as they are."""

PLACES, PLACES_NEXT_ITEM = 20, 10
"""The k of the ranking table in view, where it was measured; of systems of the next item."""
MAIN, READ, WORDS = "Main metrics", "Read by a model or judged", "BLEU and ROUGE"
OTHERWISE = "BLEU and ROUGE by other conventions"
NOT_BETTER = "Variety, length and counts: more is not better"
CAPTIONS = (MAIN, READ, WORDS, OTHERWISE, NOT_BETTER)
IN_VIEW = CAPTIONS[:2]
"""Of the tables of text metrics; the others are folded."""

INTERVALS = "Filled: a run. Open: its controls, in its colour. Bars are bootstrap 95% intervals over pairs."
CELLS = (
    "In each cell: the value, in parentheses its standard deviation over pairs, and below its bootstrap 95% interval. "
    "△ a control at least as good as its run; ▲ better beyond chance (the paired interval leaves out 0; not "
    "corrected for the number of metrics). Bold: beats every other run after Holm's correction. Grey: more is not "
    "better."
)
GAIN = (
    "How many nats per token of the reference are lost when the language model is shown another pair's user, item or "
    "both. At 0 the text is generic, however well it scores."
)
TESTED = (
    "Paired permutation tests on the pairs that both runs have; Holm's correction is for all rows together. Faded rows "
    "may be chance (Holm p above 0.05)."
)
SCORES = "How many pairs have which score; the stroke is the median. Controls are paler."
STEPS = "By training step. Perplexity: how many words of a book are in even use."
USAGE = "Slots that a word fills, words in order from the fullest."

Part = tuple[str, Any]
"""A kind of part that the template knows, and what is in it."""
KEY: Part = ("key", None)


class Section(NamedTuple):
    """A part of the page under a heading that says what was found."""

    id: str
    link: str
    """Its name in the list of sections."""
    heading: str
    parts: Sequence[Part]


def write_report(
    path: Path,
    examined: Sequence[Examined],
    comparisons: Sequence[Comparison],
    bold: Bold,
    title: str = "Explanations, measured",
    command: str | None = None,
) -> None:
    """Write one self-contained HTML page about these runs.

    The page loads nothing (its policy forbids it), reads without JavaScript, and is the same bytes for the
    same input. Parts that were not measured are left out. Of more than 300 pairs so many are shown, evenly
    spaced from best to worst; of a text at most 10,000 characters. Cost: 2 to 5 s, most of it drawing.

    Args:
        path: Where the page goes.
        examined: The runs, in the order of their colours, each its own name.
        comparisons: Of `compare`, shown in full.
        bold: (run, metric) of the cells that may be bold, of `bold_cells`.
        title: Of the page.
        command: What made the page, shown for whoever wants to make it again.

    Raises:
        UserError: nothing to show, two runs of one name, or matplotlib or Jinja2 is not installed.
    """
    names = [run.name for run in examined]
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"{path}: the runs are {', '.join(names) or 'none'}; give one or more, each its own name"
        )
    for module in ("matplotlib", "jinja2"):
        need(module, "report")
    shown = samples.cards(examined)
    page = _filled(
        title=title,
        command=command,
        runs=[{"name": run.name, "colour": position % RUNS} for position, run in enumerate(examined)],
        subject=findings.subject(examined),
        findings=findings.findings(examined, comparisons),
        sections=list(_sections(examined, comparisons, bold)),
        samples=shown,
        scores=_embedded({"metrics": shown.metrics, "scores": shown.scores}),
        protocols=[_protocol(run) for run in examined],
        signatures={name: it for run in examined for name, it in run.text.get("signatures", {}).items()},
    )
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _sections(runs: Sequence[Examined], comparisons: Sequence[Comparison], bold: Bold) -> Iterator[Section]:
    """Those of which something was measured."""
    yield from _text(runs, bold)
    yield from _ranking(runs, bold)
    gain, grounding = tables.gain_table(runs), tables.grounding_table(runs)
    if gain:
        parts = [_note(GAIN), KEY, ("panels", figures.gain_panel(runs)), ("table", gain)]
        yield Section("gain", "Gain", findings.gain_heading(runs), parts)
    if grounding:
        parts = [("table", grounding), _legend([grounding])]
        yield Section("grounding", "Grounding", findings.grounding_heading(runs), parts)
    differences = tables.comparison_table(comparisons)
    if differences:
        parts = [_note(TESTED), ("table", differences), _legend([differences])]
        yield Section("comparisons", "Differences", findings.comparison_heading(comparisons), parts)
    if panels := figures.distribution_panels(runs):
        heading = findings.distribution_heading(runs, panels[-1].title)
        yield Section("distributions", "Scores", heading, [_note(SCORES), ("panels", panels)])
    if panels := figures.curve_panels(runs):
        heading = findings.training_heading(runs)
        yield Section("training", "Training", heading, [KEY, ("panels", panels), _note(STEPS)])
    if panels := figures.usage_panels(runs):
        words = [("note", ([run.name], f"{figures.usage_words(run)}.")) for run in runs if run.usage]
        parts = [KEY, ("panels", panels), _note(USAGE), *words, *_shown(tables.health_table(runs))]
        yield Section("usage", "Codebooks", findings.usage_heading(runs), parts)


def _text(runs: Sequence[Examined], bold: Bold) -> Iterator[Section]:
    found = {
        caption: table
        for caption, metrics in _text_families(runs).items()
        if metrics and (table := tables.text_table(runs, metrics, bold, caption))
    }
    if not found:
        return
    folded = [table for caption, table in found.items() if caption not in IN_VIEW]
    panels = figures.interval_panels(runs)
    controls = dict.fromkeys(name for run in runs for name in run.controls if name in CONTROLS)
    parts: list[Part] = [("panels", panels), _note(INTERVALS)] if panels else []
    parts += [
        _note(CELLS),
        *_shown(*(found.get(caption) for caption in IN_VIEW), tables.group_table(runs)),
        ("folded", ("Every other metric", folded)),
        _legend(list(found.values())),
        ("terms", ("What the controls are", [(name, CONTROLS[name]) for name in controls])),
    ]
    yield Section("text", "Text", findings.text_heading(runs), parts)


def _text_families(runs: Sequence[Examined]) -> dict[str, list[str]]:
    """Caption -> text metrics: together all that were measured."""
    metrics = measured([run.text for run in runs])
    families: dict[str, list[str]] = {caption: [] for caption in CAPTIONS}
    for metric in [*(metric for metric in SHOWN_TEXT if metric in metrics), *metrics]:
        if metric in families[MAIN]:
            continue
        families[MAIN if metric in SHOWN_TEXT else _family(metric)].append(metric)
    return families


def _family(metric: str) -> str:
    if metric in NEUTRAL:
        return NOT_BETTER
    if metric.startswith(("peter_", "sacrebleu")):
        return OTHERWISE
    return WORDS if metric.startswith(("bleu", "rouge")) else READ


def _ranking(runs: Sequence[Examined], bold: Bold) -> Iterator[Section]:
    """The usual k in view, the others folded."""
    metrics = measured([run.ranking for run in runs])
    ks = sorted({int(metric.partition("@")[2]) for metric in metrics if "@" in metric})
    next_item = shown_ranking([run.document for run in runs]) == SHOWN_NEXT_ITEM
    ks.sort(key=lambda k: k != (PLACES_NEXT_ITEM if next_item else PLACES))
    found = [
        table
        for k in ks
        if (
            table := tables.ranking_table(
                runs, [it for it in metrics if it.endswith(f"@{k}")], f"First {k}", bold
            )
        )
    ]
    retrieval = tables.retrieval_table(runs)
    if not found and not retrieval:
        return
    heading = "Own text among all held-out texts"
    parts: list[Part] = []
    if found:
        heading = findings.ranking_heading(runs, found[0].columns[1].name)
        parts = [
            _note(findings.ranking_note(runs)),
            ("table", found[0]),
            ("folded", ("Other list lengths", found[1:])),
        ]
    parts += [*_shown(tables.order_table(runs), retrieval), _legend(found[:1])]
    yield Section("ranking", "Ranking", heading, parts)


def _note(words: str) -> Part:
    return "note", ((), words)


def _shown(*found: Table | None) -> list[Part]:
    return [("table", table) for table in found if table]


def _legend(shown: Sequence[Table]) -> Part:
    """Each described column of these tables once."""
    columns = {column.name: column.hint for table in shown for column in table.columns if column.hint}
    return "terms", ("What the columns mean", list(columns.items()))


def _protocol(run: Examined) -> dict[str, Any]:
    """Sentences, every value, and whatever else a document holds."""
    excluded = {reason: n for reason, n in (run.document.get("exclusions") or {}).items() if n}
    parts = {"excluded pairs": excluded, **{part: run.document.get(part) or {} for part in PARTS}}
    return {
        "name": run.name,
        "sentences": protocol_in_words(run.protocol),
        "lines": [(NAMES.get(name, name), value) for name, value in _flat(run.protocol)],
        "parts": {part: list(_flat(values)) for part, values in parts.items() if values},
    }


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings and lists as names and values; null is left out."""
    for key, value in values.items():
        name = f"{before}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name} ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        elif value is not None:
            yield name, str(value)


def _filled(**content: object) -> str:
    """The template filled in; every string is cleaned and escaped on its way out."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("forwhy.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
        undefined=StrictUndefined,
    )
    style, script = (
        files("forwhy.report").joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    return environment.get_template("page.html").render(
        content,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        drawn=Markup,
        counted=counted,
        number=number,
        interval=interval,
    )


def _embedded(document: object) -> str:
    """JSON that holds no character by which an HTML parser could leave the script element."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
