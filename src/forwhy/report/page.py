"""The page: its sections put together, escaped, and written whole or not at all.

matplotlib and Jinja2 are imported when a page is written (`pip install 'forwhy[report]'`).
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from forwhy.atomic import refuse_other, write_text
from forwhy.errors import UserError, need
from forwhy.evaluate.compare import Comparison
from forwhy.evaluate.document import Examined, protocol_in_words, ranked_as
from forwhy.evaluate.registry import CONTROLS, NEUTRAL, hint, is_neutral, is_overlap
from forwhy.evaluate.text import OWN
from forwhy.report import figures, findings, samples, tables
from forwhy.report.people import People, from_texts
from forwhy.report.tables import SHOWN_NEXT_ITEM, SHOWN_TEXT, Bold, Table, measured, shown_ranking
from forwhy.report.writing import clean, counted, grouped, interval, number

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
IN_VIEW = ("Main metrics", "Read by a model or judged")
VARIETY = "Variety, length and counts: more is not better"
FOLDED = ("BLEU and ROUGE", "BLEU and ROUGE by other conventions", VARIETY)
"""Captions of the tables of text metrics."""

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
STEPS = "By training step. Perplexity: how many words of a book are in even use."
USAGE = (
    "Across: the words of a book in percent, the fullest first. Up: how often a word is used, in times of even use, "
    "the dotted line."
)

Part = tuple[str, Any]
"""A kind of part that the template knows, and what is in it."""
KEY: Part = ("key", None)
Section = tuple[str, str, Sequence[Part]]
"""A folded part of the page: its id, a heading in plain words, and what is in it."""


def check_page(path: Path) -> None:
    """A UserError for a file that is there and no page of ours: a report never replaces what it reads."""
    refuse_other(path, lambda begin: b'<meta name="generator" content="forwhy"' in begin or _POLICY in begin)


_POLICY = b"content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\""
"""Of every page of ours, also of versions that did not name themselves."""


def write_report(
    path: Path,
    examined: Sequence[Examined],
    comparisons: Sequence[Comparison],
    bold: Bold,
    title: str = "Explanations, measured",
    command: str | None = None,
    people: People | None = None,
) -> None:
    """Write one self-contained HTML page about these runs, which loads and runs nothing; equal input, equal bytes.

    Parts that were not measured are left out. Of more than 300 pairs so many are shown, evenly spaced from best to
    worst; of a text at most 10,000 characters. `examined`: in the order of their colours, each its own name; `command`:
    what made the page; `people`: with whom it begins; without any, with texts of the runs.
    Cost: 2 to 5 s, most of it drawing. A UserError for nothing to show, two runs of one name, or where matplotlib or
    Jinja2 is not installed.
    """
    check_page(path)
    names = [run.name for run in examined]
    if not names or len(set(names)) < len(names):
        given = ", ".join(names) or "none"
        raise UserError(f"{path}: the runs are {given}; give one or more, each its own name")
    for module in ("matplotlib", "jinja2"):
        need(module, "report")
    page = filled(
        "page.html",
        title=title,
        command=command,
        runs=examined,
        people=people or from_texts(examined),
        subject=findings.subject(examined),
        findings=findings.findings(examined, comparisons),
        sections=list(_sections(examined, comparisons, bold)),
        samples=samples.cards(examined),
        protocols=[_protocol(run) for run in examined],
        signatures={name: it for run in examined for name, it in run.text.get("signatures", {}).items()},
    )
    write_text(path, page)


def _sections(runs: Sequence[Examined], comparisons: Sequence[Comparison], bold: Bold) -> Iterator[Section]:
    yield from _text(runs, bold)
    yield from _ranking(runs, bold)
    if gain := tables.gain_table(runs):
        parts = [_note(GAIN), KEY, ("panels", figures.gain_panel(runs)), ("table", gain)]
        yield "gain", "What the model owes to the right person and thing", parts
    if grounding := tables.grounding_table(runs):
        yield "grounding", "Which claims are supported", [("table", grounding), _legend([grounding])]
    if choices := tables.choice_table(runs):
        yield "choices", "Whose is it, of two people", [("table", choices), _legend([choices])]
    if differences := tables.comparison_table(comparisons):
        parts = [_note(TESTED), ("table", differences), _legend([differences])]
        yield "comparisons", "Which differences between runs are beyond chance", parts
    if panels := figures.curve_panels(runs):
        yield "training", "How training went", [KEY, ("panels", panels), _note(STEPS)]
    panels, health = figures.usage_panels(runs), _shown(tables.health_table(runs))
    if panels or health:
        parts = [KEY, ("panels", panels), _note(USAGE)] if panels else []
        yield "usage", "How evenly the words are used", [*parts, *health]


def _text(runs: Sequence[Examined], bold: Bold) -> Iterator[Section]:
    families = grouped((_family(metric), metric) for metric in measured(run.text for run in runs))
    found = {name: tables.text_table(runs, metrics, bold, name) for name, metrics in families.items()}
    shown, folded = ([it for name in names if (it := found.get(name))] for names in (IN_VIEW, FOLDED))
    if not shown and not folded:
        return
    panels = figures.interval_panels(runs)
    controls = dict.fromkeys(name for run in runs for name in run.controls if name in CONTROLS)
    parts = [
        *([("panels", panels), _note(INTERVALS)] if panels else []),
        _note(CELLS),
        *_shown(*shown, tables.group_table(runs)),
        ("folded", ("Every other metric", folded)),
        _legend([*shown, *folded]),
        ("terms", ("What the controls are", [(name, CONTROLS[name]) for name in controls])),
    ]
    yield "text", "How near the texts are to what people wrote", parts


def _family(metric: str) -> str:
    if metric in (*SHOWN_TEXT, *OWN):
        return IN_VIEW[0]
    if metric in NEUTRAL:
        return VARIETY
    if metric.startswith(("peter_", "sacrebleu")):
        return FOLDED[1]
    return FOLDED[0] if is_overlap(metric) else IN_VIEW[1]


def _ranking(runs: Sequence[Examined], bold: Bold) -> Iterator[Section]:
    metrics = measured(run.ranking for run in runs)
    ks = sorted({int(metric.partition("@")[2]) for metric in metrics if "@" in metric})
    usual = PLACES_NEXT_ITEM if shown_ranking([run.document for run in runs]) == SHOWN_NEXT_ITEM else PLACES
    ks.sort(key=lambda k: k != usual)
    at = {k: [metric for metric in metrics if metric.endswith(f"@{k}")] for k in ks}
    found = _shown(*(tables.ranking_table(runs, names, bold, f"First {k}") for k, names in at.items()))
    others = _shown(tables.order_table(runs), tables.retrieval_table(runs), tables.words_table(runs))
    if found:
        folded = ("folded", ("Other list lengths", [table for _, table in found[1:]]))
        parts = [_note(_ranked(runs)), found[0], folded, *others, _legend([found[0][1]])]
        yield "ranking", "How much of what people took is in their lists", parts
    elif others:
        yield "ranking", "Own text among all held-out texts", others


def _ranked(runs: Sequence[Examined]) -> str:
    next_item = {ranked_as(run.document)[1] == "next-item" for run in runs if run.ranking}
    left_out = "nothing left out" if next_item == {True} else "training items left out"
    left_out += " (of the next item nothing)" * (len(next_item) > 1)
    return f"Every item of the catalogue is ranked for each user, {left_out}, ties counted against the run."


def _note(words: str) -> Part:
    return "note", ((), words)


def _shown(*found: Table | None) -> list[Part]:
    return [("table", table) for table in found if table]


def _legend(shown: Sequence[Table]) -> Part:
    columns = dict.fromkeys(column for table in shown for column in table.columns if hint(column))
    return "terms", ("What the columns mean", [(column, hint(column)) for column in columns])


def _protocol(run: Examined) -> dict[str, Any]:
    """Sentences, every value, and whatever else a document holds."""
    excluded = {reason: n for reason, n in run.part("exclusions").items() if n}
    parts = {"excluded pairs": excluded, **{part: run.part(part) for part in PARTS}}
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
        elif value is not None:
            yield name, ", ".join(map(str, value if isinstance(value, list | tuple) else [value]))


def filled(template: str, **content: object) -> str:
    """A template filled in; every string is cleaned and escaped on its way out."""
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
    style = files("forwhy.report").joinpath("page.css").read_text(encoding="utf-8")
    environment.globals |= {it.__name__: it for it in (counted, number, interval, hint, is_neutral)}
    return environment.get_template(template).render(content, style=Markup(style), drawn=Markup)
