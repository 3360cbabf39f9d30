"""Every result table, built once from the evaluations of one or several runs.

A table says what is shown, marked, greyed and bold; `terminal` and `page` only draw it. Each builder gives None where
nothing of it was measured.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
    grouped,
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
DECIMALS = {"NLL": 3, "gain: item": 4, "gain: user": 4, "gain: both": 4}


class Below(NamedTuple):
    """A row below a run."""

    label: str
    values: Values
    hint: str = ""
    can_win: bool = True
    """Whether it is marked where it is at least as good as the run."""


# --- what a document says


def measured(parts: Iterable[Values]) -> list[str]:
    """Metrics that some part holds: those of the registry in its order, then others as they came."""
    found = dict.fromkeys(
        name
        for part in parts
        for name, value in part.items()
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


def is_overlap(metric: str) -> bool:
    """Whether it is BLEU or ROUGE by some convention (BLEURT is neither)."""
    return metric.startswith(("bleu", "rouge", "peter_", "sacrebleu")) and not metric.startswith("bleurt")


def judged(run: Examined) -> list[str]:
    """Text metrics of a run by which a control can win."""
    return [metric for metric in measured([run.text]) if metric not in NEUTRAL]


def standing(method: Values, control: Values, metric: str) -> str:
    """How a control stands to its run: "above" it beyond chance, "level", "below" beyond chance.

    Beyond chance: the paired 95% interval of the difference, not corrected for the number of metrics, leaves
    out 0. Without an interval a control that is at least as good is "level".
    """
    ends = (control.get("margin") or {}).get("intervals", {}).get(metric)
    if ends is not None:
        return "above" if ends[1] < 0 else "below" if ends[0] > 0 else "level"
    return "level" if control[metric] >= method[metric] else "below"


def by_runs(comparisons: Iterable[Comparison]) -> dict[tuple[str, str], list[Comparison]]:
    """The two names -> their comparisons, in order."""
    return grouped(((one.a, one.b), one) for one in comparisons)


def by_reason(counts: Mapping[str, int] | None) -> str:
    """As in "3 (no evidence) and 1 (no claims)"; "" where nothing was left out."""
    return joined([f"{n:,} ({reason.replace('_', ' ')})" for reason, n in (counts or {}).items() if n])


def alike(said: Iterable[tuple[str, str]]) -> list[Said]:
    """(run, words) -> each words once, with all runs they are said of."""
    return [(names, words) for words, names in grouped((words, name) for name, words in said).items()]


# --- tables of a row for each run, and rows below it


def text_table(
    runs: Sequence[Examined],
    metrics: Sequence[str],
    bold: Bold = (),
    caption: str = "Explanations and, below each, its controls",
) -> Table | None:
    """Text metrics of each run and, below it, of its controls, with the pairs that these have a text for."""

    def controls(run: Examined) -> Iterator[Below]:
        for name, it in run.controls.items():
            own = it["pairs"] - it["fallbacks"] if "fallbacks" in it else None
            yield Below(name, {**it, "pairs": own}, it.get("sentence") or CONTROLS.get(name, ""))

    return _table(caption, runs, ["pairs"], metrics, lambda run: run.text, controls, bold)


def group_table(runs: Sequence[Examined]) -> Table | None:
    """Main text metrics of all users and, below them, by group of users."""

    def groups(run: Examined) -> Iterator[Below]:
        for name, it in run.part("groups").items():
            few, most = it.get("training_texts") or (None, None)
            texts = few if few == most else f"{few} to {most}"
            yield Below(name, {**it, "texts": texts}, can_win=False)

    found = measured(group for run in runs for group in run.part("groups").values())
    metrics = [metric for metric in SHOWN_TEXT if metric in found]
    caption, notes = "Explanations by users' training texts", [((), f"- fewer than {LEAST} pairs")]
    names = ["texts", "users", "pairs"]

    def whole(run: Examined) -> Values:
        return run.text if run.part("groups") else {}

    return _table(caption, runs, names, metrics, whole, groups, notes=notes)


def ranking_table(
    runs: Sequence[Examined], metrics: Sequence[str], bold: Bold = (), caption: str = ""
) -> Table | None:
    """Full ranking of each run and, below it, of its variants and the baselines."""
    splits = {run.protocol.get("evaluated", "test") for run in runs if run.ranking}
    caption = caption or f"Full ranking on {' and '.join(sorted(splits))}"

    def others(run: Examined) -> Iterator[Below]:
        for kind in ("variants", "baselines"):
            for name, it in run.part(kind).items():
                yield Below(name, it, can_win=kind == "baselines")

    return _table(caption, runs, ["users"], metrics, lambda run: run.ranking, others, bold)


def order_table(runs: Sequence[Examined]) -> Table | None:
    """Some users of each run after their histories as they are, and after the same items in random order."""
    orders = [run.part("order") for run in runs if run.part("order")]
    metrics = [metric for metric in SHOWN_NEXT_ITEM if all(metric in it["given"] for it in orders)]
    caption = "What order is worth: histories as they are and, below each, in random order"

    def shuffled(run: Examined) -> Iterator[Below]:
        yield Below("in random order", run.part("order")["shuffled"], can_win=False)

    return _table(caption, runs, ["users"], metrics, lambda run: run.part("order").get("given"), shuffled)


def gain_table(runs: Sequence[Examined]) -> Table | None:
    """NLL, and what the right user and item are worth."""

    def gain(run: Examined) -> Values | None:
        found, nll = run.part("information_gain"), run.document.get("nll")
        if not found:
            return None
        of_sides = {f"gain: {side}": found[side] for side in ("item", "user", "both")}
        ends = {f"gain: {side}": it for side, it in found["intervals"].items()}
        ends["NLL"] = run.document["nll_interval"]
        return {"pairs": found["pairs"], "NLL": nll, **of_sides, "intervals": ends}

    caption = "Language model: NLL, and what the right tokens are worth, in nats per token"
    models = {run.protocol.get("model") for run in runs if run.part("information_gain")}
    words = "different models count different tokens: compare gains, not NLLs"
    return _table(caption, runs, ["pairs"], list(DECIMALS), gain, notes=[((), words)] * (len(models) > 1))


def grounding_table(runs: Sequence[Examined]) -> Table | None:
    """Shares of supported claims, controls under their run; the notes say how sure the matcher is."""

    def controls(run: Examined) -> Iterator[Below]:
        for name, it in run.part("grounding")["controls"].items():
            yield Below(name, it, CONTROLS.get(name, ""), can_win=name != "reference")

    grounded = {run.name: run.part("grounding") for run in runs if run.part("grounding")}
    notes = alike((name, words) for name, it in grounded.items() for words in _calibrated(it))
    caption = "Grounding: share of claims that something known supports"

    def method(run: Examined) -> Values | None:
        return run.part("grounding").get("method")

    return _table(caption, runs, [], GROUNDED, method, controls, notes=notes)


def retrieval_table(runs: Sequence[Examined]) -> Table | None:
    """Own text among all held-out texts, given the macro words, beside chance."""

    def retrieval(run: Examined) -> Values | None:
        found = run.part("text_retrieval")
        return {**found, "texts": found["pairs"]} if found else None

    def chance(run: Examined) -> Iterator[Below]:
        yield Below("chance", run.part("text_retrieval")["chance"], can_win=False)

    caption = "Own text among all held-out texts, given the macro words"
    return _table(caption, runs, ["texts"], RETRIEVED, retrieval, chance)


def _table(
    caption: str,
    runs: Sequence[Examined],
    counts: Sequence[str],
    metrics: Sequence[str],
    own: Callable[[Examined], Values | None],
    below: Callable[[Examined], Iterable[Below]] = lambda run: (),
    bold: Bold = (),
    notes: Sequence[Said] = (),
) -> Table | None:
    """Counts, then metrics, of each run that has them; below it, of what is held against it."""
    rows = []
    for position, run in enumerate(runs):
        method = own(run)
        if not method:
            continue
        cells = [_cell(method, it, _decimals(it, method), bold=(run.name, it) in bold) for it in metrics]
        rows.append(TableRow(run.name, [*_counts(method, counts), *cells], position))
        for other in below(run):
            cells = [
                _cell(other.values, it, _decimals(it, method, other), _mark(method, other, it))
                for it in metrics
            ]
            rows.append(TableRow(other.label, [*_counts(other.values, counts), *cells], hint=other.hint))
    return Table(caption, columns([*counts, *metrics]), rows, notes) if rows else None


# --- tables of rows under a heading


def health_table(runs: Sequence[Examined]) -> Table | None:
    """How evenly and how fully each codebook is used."""
    rows: list[TableRow] = []
    for position, run in enumerate(runs):
        rows += [TableRow(run.name, [], position)] if run.part("health") else []
        for book, health in run.part("health").items():
            rows.append(TableRow(book, [Cell(f"{health[name]:.0f}") for name in ("perplexity", "used")]))
    return Table("Codebooks", columns(["perplexity", "words in use"]), rows) if rows else None


def comparison_table(comparisons: Sequence[Comparison]) -> Table | None:
    """Every comparison by metric under its two runs; faded where it does not survive correction."""
    rows: list[TableRow] = []
    for (a, b), together in by_runs(comparisons).items():
        rows.append(TableRow(f"{a} \u2212 {b}", []))
        for one in together:
            (mean, *ends), decimals = one.difference, digits(one.difference)
            cells = [
                Cell(number(mean, decimals, sign=True), decimals, ends),
                Cell(number(one.effect, 2, sign=True)),
                Cell(probability(one.p)),
                Cell(probability(one.p_holm)),
                Cell(f"{one.pairs:,}"),
            ]
            rows.append(TableRow(one.metric, cells, hint=hint(one.metric), faded=one.p_holm > LEVEL))
    return Table("Differences between runs", columns(DIFFERENCES), rows) if rows else None


# --- cells


def _counts(values: Values, names: Sequence[str]) -> list[Cell]:
    found = [values.get(name) for name in names]
    return [Cell(f"{it:,}" if isinstance(it, int) else it or "") for it in found]


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


def _decimals(metric: str, method: Values, other: Below | None = None) -> int:
    """As many as the run has; a row that is not held against it may have more."""
    known = METRICS.get(metric)
    if known and known.top is not None:
        return 3 if known.top == 1 else 2
    rows = [method] if other is None or other.can_win else [method, other.values]
    wanted = [DECIMALS.get(metric) or digits([values[metric]]) for values in rows if metric in values]
    return max(wanted, default=3)


def _calibrated(grounding: Values) -> Iterator[str]:
    """The threshold, its errors and what follows from them; pairs that were left out."""
    calibration = grounding["calibration"]
    missed, accepted = calibration["missed"]["either"], calibration["accepted"]["either"]
    yield (
        f"a claim counts as supported from a score of {number(calibration['threshold'], 3)} on. Fitted on "
        f"{counted(calibration['claims']['either'], 'claim')} of training texts, this misses {percent(missed)} of the "
        f"claims that are right and accepts {percent(accepted)} of claims beside another pair's evidence, so a "
        "precision is read by its margin over the dealt row, not by itself."
    )
    excluded = by_reason(grounding["method"].get("excluded"))
    if excluded:
        yield f"pairs that do not count: {excluded}."
