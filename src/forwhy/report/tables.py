"""Every result table, built once from the evaluations of one or several runs.

A table says what is shown, marked, greyed and bold; `terminal` and `page` only draw it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.document import Examined
from forwhy.evaluate.gain import LEAST
from forwhy.evaluate.registry import METRICS, NEUTRAL
from forwhy.report.cells import (
    CONTROLS,
    Cell,
    Said,
    Table,
    TableRow,
    columns,
    counted,
    digits,
    hint,
    is_neutral,
    joined,
    number,
    percent,
    probability,
)

Bold = Collection[tuple[str, str]]
"""(run, metric) of the cells that may be bold."""
Values = Mapping[str, Any]
"""A part of an evaluation document: metric -> value, with `intervals` and, of texts, `std`."""
SHOWN_TEXT = ("bleu1", "bleu4", "rougeL", "similarity", "distinct2", "length")
SHOWN_RANKING = ("recall@20", "ndcg@20", "hr@20", "recall@50")
SHOWN_NEXT_ITEM = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
"""Of systems of the next item, as their papers have it."""
GROUNDED = ("precision", "precision_item", "precision_user", "recall", "claims")
RETRIEVED = ("median_rank", "mrr", "hit@10")
DIFFERENCES = ("difference", "effect", "p", "Holm p", "shared")
NO_METRICS = {"pairs", "users", "dropped"}


class Below(NamedTuple):
    """What stands in a row below a run."""

    label: str
    values: Values
    counts: Sequence[str] = ()
    hint: str = ""
    can_win: bool = True


def text_of(run: Examined) -> Values:
    """The run's text metrics; empty when there are none."""
    return run.document.get("text") or {}


def controls_of(run: Examined) -> Mapping[str, Values]:
    """Control -> its text metrics."""
    return run.document.get("controls") or {}


def ranking_of(run: Examined) -> Values:
    """The run's ranking metrics; empty when there are none."""
    return run.document.get("ranking") or {}


def protocol_of(run: Examined) -> Values:
    """What the run's numbers are about; empty when nothing is recorded."""
    return run.document.get("protocol") or {}


def measured(tables: Sequence[Values]) -> list[str]:
    """Metrics that some table holds: those of the registry in its order, then others as they came."""
    found = dict.fromkeys(
        name
        for table in tables
        for name, value in table.items()
        if name not in NO_METRICS and type(value) in (int, float)
    )
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def shown_ranking(
    documents: Sequence[Mapping[str, Any]], usual: tuple[str, ...] = SHOWN_RANKING
) -> tuple[str, ...]:
    """Ranking metrics to show: those of the next item where all these evaluations are about it."""
    ranked = [document for document in documents if document.get("ranking")]
    next_item = [(document.get("protocol") or {}).get("task") == "next-item" for document in ranked]
    return SHOWN_NEXT_ITEM if ranked and all(next_item) else usual


def judged(run: Examined) -> list[str]:
    """Text metrics of a run by which a control can win."""
    return [metric for metric in measured([text_of(run)]) if metric not in NEUTRAL]


def standing(method: Values, control: Values, metric: str) -> str:
    """How a control stands to its run: "above" it beyond chance, "level", "below" beyond chance.

    Beyond chance: the paired 95% interval of the difference, not corrected for the number of metrics, leaves
    out 0. Without an interval a control that is at least as good is "level".
    """
    ends = (control.get("margin") or {}).get("intervals", {}).get(metric)
    if ends is not None:
        return "above" if ends[1] < 0 else "below" if ends[0] > 0 else "level"
    return "level" if control[metric] >= method[metric] else "below"


def by_runs(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], list[Comparison]]:
    """The two names -> their comparisons, in order."""
    together: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons:
        together.setdefault((one.a, one.b), []).append(one)
    return together


def alike(said: Sequence[tuple[str, str]]) -> list[Said]:
    """(run, words) -> each words once, with all runs they are said of."""
    names: dict[str, list[str]] = {}
    for name, words in said:
        names.setdefault(words, []).append(name)
    return [(of, words) for words, of in names.items()]


# --- the tables; each is None where nothing of it was measured


def text_table(
    runs: Sequence[Examined], metrics: Sequence[str], bold: Bold = (), caption: str = "Main metrics"
) -> Table | None:
    """Text metrics of each run and, below it, of its controls."""
    rows: list[TableRow] = []
    for position, run in enumerate(runs):
        if text_of(run):
            counts = [f"{text_of(run)['pairs']:,}"]
            rows += _with_others(position, run.name, text_of(run), counts, metrics, _controls(run), bold)
    return _table(caption, ["pairs", *metrics], rows)


def group_table(runs: Sequence[Examined]) -> Table | None:
    """Main text metrics by group of users, below those of all."""
    found = [run.document.get("groups") or {} for run in runs]
    metrics = [
        m for m in SHOWN_TEXT if m in measured([group for groups in found for group in groups.values()])
    ]
    rows: list[TableRow] = []
    for position, (run, groups) in enumerate(zip(runs, found, strict=True)):
        if groups:
            whole = text_of(run)
            rows.append(TableRow(run.name, [*_group_counts(whole), *_cells(whole, metrics)], position))
            rows += [
                TableRow(name, [*_group_counts(group), *_cells(group, metrics)])
                for name, group in groups.items()
            ]
    names = ["texts", "users", "pairs", *metrics]
    note = f"- fewer than {LEAST} pairs"
    return _table("Explanations by users' training texts", names, rows, [((), note)])


def ranking_table(
    runs: Sequence[Examined], metrics: Sequence[str], caption: str, bold: Bold = ()
) -> Table | None:
    """Full ranking of each run and, below it, of its variants and the baselines."""
    rows: list[TableRow] = []
    for position, run in enumerate(runs):
        if ranking_of(run):
            others = [
                Below(name, values, [f"{values['users']:,}"], can_win=kind == "baselines")
                for kind in ("variants", "baselines")
                for name, values in (run.document.get(kind) or {}).items()
            ]
            counts = [f"{ranking_of(run)['users']:,}"]
            rows += _with_others(position, run.name, ranking_of(run), counts, metrics, others, bold)
    return _table(caption, ["users", *metrics], rows)


def order_table(runs: Sequence[Examined]) -> Table | None:
    """Some users of each run after their histories as they are, and after the same items in random order."""
    orders = {
        position: run.document["order"] for position, run in enumerate(runs) if run.document.get("order")
    }
    metrics = [metric for metric in SHOWN_NEXT_ITEM if all(metric in it["given"] for it in orders.values())]
    rows: list[TableRow] = []
    for position, order in orders.items():
        rows.append(TableRow(runs[position].name, [], position))
        rows += [
            TableRow(label, [Cell(f"{order[kind]['users']:,}"), *_cells(order[kind], metrics)])
            for kind, label in (("given", "histories as they are"), ("shuffled", "in random order"))
        ]
    return _table("What order is worth", ["users", *metrics], rows)


def health_table(runs: Sequence[Examined]) -> Table | None:
    """How evenly and how fully each codebook is used."""
    rows: list[TableRow] = []
    for position, run in enumerate(runs):
        books = run.document.get("health") or {}
        rows += [TableRow(run.name, [], position)] if books else []
        rows += [
            TableRow(book, [Cell(f"{health['perplexity']:.0f}"), Cell(f"{health['used']:.0f}")])
            for book, health in books.items()
        ]
    return _table("Codebooks", ["perplexity", "words in use"], rows)


def gain_table(runs: Sequence[Examined]) -> Table | None:
    """NLL, and what the right user and item are worth."""
    sides = ("item", "user", "both")
    rows, models = [], set()
    for position, run in enumerate(runs):
        gain = run.document.get("information_gain")
        if gain:
            nll = {"nll": run.document["nll"], "intervals": {"nll": run.document["nll_interval"]}}
            cells = [
                Cell(f"{gain['pairs']:,}"),
                _cell(nll, "nll", 3),
                *(_cell(gain, side, 4) for side in sides),
            ]
            rows.append(TableRow(run.name, cells, position))
            models.add(protocol_of(run).get("model"))
    words = "different models count different tokens: compare gains, not NLLs"
    caption = "Language model: NLL, and what the right tokens are worth, in nats per token"
    names = ["pairs", "NLL", *(f"gain: {side}" for side in sides)]
    return _table(caption, names, rows, [((), words)] if len(models) > 1 else [])


def grounding_table(runs: Sequence[Examined]) -> Table | None:
    """Shares of supported claims, controls under their run; the notes say how sure the matcher is."""
    rows: list[TableRow] = []
    said: list[tuple[str, str]] = []
    for position, run in enumerate(runs):
        grounding = run.document.get("grounding")
        if grounding:
            others = [
                Below(name, values, hint=CONTROLS.get(name, ""), can_win=name != "reference")
                for name, values in grounding["controls"].items()
            ]
            rows += _with_others(position, run.name, grounding["method"], (), GROUNDED, others)
            said += [(run.name, words) for words in _calibrated(grounding)]
    return _table("Grounding: share of claims that something known supports", GROUNDED, rows, alike(said))


def retrieval_table(runs: Sequence[Examined]) -> Table | None:
    """Own text among all held-out texts, given the macro words, beside chance."""
    rows = []
    for position, run in enumerate(runs):
        found = run.document.get("text_retrieval")
        if found:
            rows.append(
                TableRow(run.name, [Cell(f"{found['pairs']:,}"), *_cells(found, RETRIEVED)], position)
            )
            rows.append(TableRow("chance", [Cell(""), *_cells(found["chance"], RETRIEVED)]))
    caption = "Own text among all held-out texts, given the macro words"
    return _table(caption, ["texts", *RETRIEVED], rows)


def comparison_table(comparisons: Sequence[Comparison]) -> Table | None:
    """Every comparison by metric under its two runs; faded where it does not survive correction."""
    rows: list[TableRow] = []
    for (a, b), together in by_runs(comparisons).items():
        rows.append(TableRow(f"{a} \u2212 {b}", []))
        rows += [
            TableRow(one.metric, _comparison_cells(one), hint=hint(one.metric), faded=one.p_holm > LEVEL)
            for one in together
        ]
    return _table("Differences between runs", DIFFERENCES, rows)


# --- rows and cells


def _table(
    caption: str, names: Sequence[str], rows: Sequence[TableRow], notes: Sequence[Said] = ()
) -> Table | None:
    return Table(caption, columns(names), rows, notes) if rows else None


def _controls(run: Examined) -> Iterator[Below]:
    for name, control in controls_of(run).items():
        own = f"{control['pairs'] - control['fallbacks']:,}" if "fallbacks" in control else ""
        yield Below(name, control, [own], control.get("sentence") or CONTROLS.get(name, ""))


def _with_others(
    position: int,
    name: str,
    method: Values,
    counts: Sequence[str],
    metrics: Sequence[str],
    others: Iterable[Below],
    bold: Bold = (),
) -> Iterator[TableRow]:
    """A run's row, and those below it: marked where they win, and with as many digits as the run has."""
    decimals = {metric: _decimals(metric, method) for metric in metrics}
    own = [_cell(method, metric, decimals[metric], bold=(name, metric) in bold) for metric in metrics]
    yield TableRow(name, [*map(Cell, counts), *own], position)
    for other in others:
        cells = [
            _cell(other.values, metric, decimals[metric], _mark(method, other, metric)) for metric in metrics
        ]
        yield TableRow(other.label, [*map(Cell, other.counts), *cells], hint=other.hint)


def _cells(values: Values, metrics: Sequence[str]) -> list[Cell]:
    return [_cell(values, metric, _decimals(metric, values)) for metric in metrics]


def _cell(values: Values, metric: str, decimals: int, mark: str = "", bold: bool = False) -> Cell:
    if metric not in values:
        return Cell()
    interval, deviation = ((values.get(part) or {}).get(metric) for part in ("intervals", "std"))
    return Cell(values[metric], decimals, interval, deviation, mark, bold)


def _mark(method: Values, other: Below, metric: str) -> str:
    control = other.values
    if not other.can_win or is_neutral(metric) or metric not in method or metric not in control:
        return ""
    if control[metric] < method[metric]:
        return ""
    return "above" if standing(method, control, metric) == "above" else "level"


def _decimals(metric: str, values: Values) -> int:
    """One width for a metric in all rows of a run."""
    known = METRICS.get(metric)
    if known and known.top is not None:
        return 3 if known.top == 1 else 2
    return digits([values[metric]]) if metric in values else 3


def _group_counts(group: Values) -> list[Cell]:
    few, most = group.get("training_texts") or (None, None)
    texts = "" if few is None else str(few) if few == most else f"{few} to {most}"
    return [Cell(texts), *(Cell(f"{group[name]:,}" if name in group else "") for name in ("users", "pairs"))]


def _calibrated(grounding: Values) -> list[str]:
    """The threshold, its errors and what follows from them."""
    calibration = grounding["calibration"]
    missed, accepted = calibration["missed"]["either"], calibration["accepted"]["either"]
    words = [
        f"a claim counts as supported from a score of {number(calibration['threshold'], 3)} on. Fitted on "
        f"{counted(calibration['claims']['either'], 'claim')} of training texts, this misses {percent(missed)} of the "
        f"claims that are right and accepts {percent(accepted)} of claims beside another pair's evidence, so a "
        "precision is read by its margin over the dealt row, not by itself."
    ]
    excluded = by_reason(grounding["method"].get("excluded"))
    return [*words, f"pairs that do not count: {excluded}."] if excluded else words


def by_reason(counts: Mapping[str, int] | None) -> str:
    """As in "3 (no evidence) and 1 (no claims)"; "" where nothing was left out."""
    return joined([f"{n:,} ({reason.replace('_', ' ')})" for reason, n in (counts or {}).items() if n])


def _comparison_cells(one: Comparison) -> list[Cell]:
    mean, low, high = one.difference
    decimals = digits([mean, low, high])
    return [
        Cell(number(mean, decimals, sign=True), decimals, [low, high]),
        Cell(number(one.effect, 2, sign=True)),
        Cell(probability(one.p)),
        Cell(probability(one.p_holm)),
        Cell(f"{one.pairs:,}"),
    ]
