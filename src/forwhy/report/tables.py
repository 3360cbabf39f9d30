"""Every result table, built once from the evaluations of one or several runs.

A table says what is shown, marked, greyed and bold; `terminal` and `page` only draw it. Each builder gives None where
nothing of it was measured.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.document import WAYS, Examined, apart, ranked_as
from forwhy.evaluate.gain import LEAST
from forwhy.evaluate.registry import CHOICES, CONTROLS, METRICS, hint, is_neutral
from forwhy.report.writing import counted, digits, grouped, joined, number, percent

Bold = Collection[tuple[str, str]]
"""(run, metric) of the cells that may be bold."""
Values = Mapping[str, Any]
"""A part of an evaluation document: metric -> value, with `intervals` and, of texts, `std`."""
Said = tuple[Sequence[str], str]
"""Names of runs and what is said of them: apart, as a name may be written from right to left."""

SHOWN_TEXT = ("bleu1", "bleu4", "rougeL", "similarity", "own_mrr", "own_tfidf", "distinct2", "length")
SHOWN_RANKING = ("recall@20", "ndcg@20", "hr@20", "recall@50")
SHOWN_NEXT_ITEM = ("recall@5", "recall@10", "ndcg@5", "ndcg@10")
"""Of systems of the next item, as their papers have it."""
DECIMALS = {"NLL": 3, "gain: item": 4, "gain: user": 4, "gain: both": 4, "gain: everything": 4}


@dataclass(frozen=True)
class Cell:
    """A value as measured, or words; `decimals`: digits on the page, where a column is of one width.

    `mark`: "level" or "above", a control that is at least as good, the second beyond chance.
    """

    value: float | str | None = None
    decimals: int = 3
    interval: Sequence[float] | None = None
    deviation: float | None = None
    mark: str = ""
    bold: bool = False


@dataclass(frozen=True)
class TableRow:
    """A run (its position), or below it one of its controls, variants or groups; without cells, a heading of rows."""

    label: str
    cells: Sequence[Cell]
    run: int | None = None
    hint: str = ""
    faded: bool = False
    """A difference that chance may have made."""


@dataclass(frozen=True)
class Table:
    """Rows under their columns (metrics and counts), and what must be said with them."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[TableRow]
    notes: Sequence[Said] = ()


class Below(NamedTuple):
    """A row below a run, marked where it `can_win` and is at least as good."""

    label: str
    values: Values
    hint: str = ""
    can_win: bool = True


# --- what a document says


def measured(parts: Iterable[Values]) -> list[str]:
    """Metrics that some part holds: those of the registry in its order, then others as they came."""
    numbers = [name for part in parts for name, value in part.items() if type(value) in (int, float)]
    found = dict.fromkeys(name for name in numbers if name not in ("pairs", "users", "dropped"))
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def shown_ranking(
    documents: Sequence[Mapping[str, Any]], usual: tuple[str, ...] = SHOWN_RANKING
) -> tuple[str, ...]:
    """Ranking metrics to show: those of the next item where all these evaluations are about it."""
    ranked = [document for document in documents if document.get("ranking")]
    next_item = [ranked_as(document)[1] == "next-item" for document in ranked]
    return SHOWN_NEXT_ITEM if ranked and all(next_item) else usual


def standing(method: Values, control: Values, metric: str) -> str:
    """How a control stands to its run: "above" it beyond chance, "level", "below" beyond chance.

    Beyond chance: the paired 95% interval of the difference, uncorrected, leaves out 0. Without an interval a control
    that is at least as good is "level".
    """
    ends = (control.get("margin") or {}).get("intervals", {}).get(metric)
    if ends is not None:
        return "above" if ends[1] < 0 else "below" if ends[0] > 0 else "level"
    return "level" if control[metric] >= method[metric] else "below"


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

    def control(name: str, it: Values) -> Below:
        own = it["pairs"] - it["fallbacks"] if "fallbacks" in it else None
        return Below(name, {**it, "pairs": own}, it.get("sentence") or CONTROLS.get(name, ""))

    controls = [[control(*one) for one in run.controls.items()] for run in runs]
    return _table(caption, runs, ["pairs"], metrics, [run.text for run in runs], controls, bold)


def group_table(runs: Sequence[Examined]) -> Table | None:
    """Main text metrics of all users and, below them, by group of users."""

    def group(name: str, it: Values) -> Below:
        few, most = it.get("training_texts") or (None, None)
        texts = few if few == most else f"{few} to {most}"
        return Below(name, {**it, "texts": texts}, can_win=False)

    found = [run.part("groups") for run in runs]
    known = measured(it for groups in found for it in groups.values())
    metrics = [metric for metric in SHOWN_TEXT if metric in known]
    whole = [run.text if groups and metrics else {} for run, groups in zip(runs, found, strict=True)]
    below = [[group(*one) for one in groups.items()] for groups in found]
    caption, notes = "Explanations by users' training texts", [((), f"- fewer than {LEAST} pairs")]
    return _table(caption, runs, ["texts", "users", "pairs"], metrics, whole, below, notes=notes)


def ranking_table(
    runs: Sequence[Examined], metrics: Sequence[str], bold: Bold = (), caption: str = ""
) -> Table | None:
    """Full ranking of each run and, below it, of its variants and the baselines."""
    splits = {run.protocol.get("evaluated", "test") for run in runs if run.ranking}
    caption = caption or f"Full ranking on {' and '.join(sorted(splits))}"
    others = []
    for run in runs:
        asked = {label: run.part(way) for way, label in WAYS.items() if run.part(way)}
        variants = [Below(*one, can_win=False) for one in {**asked, **run.part("variants")}.items()]
        others.append([*variants, *(Below(*one) for one in run.part("baselines").items())])
    notes = [((), why)] if (why := apart(runs)) else ()
    return _table(caption, runs, ["users"], metrics, [run.ranking for run in runs], others, bold, notes)


def order_table(runs: Sequence[Examined]) -> Table | None:
    """Some users of each run after their histories as they are, and after the same items in random order."""
    orders = [run.part("order") for run in runs]
    metrics = [it for it in SHOWN_NEXT_ITEM if all(it in order["given"] for order in orders if order)]
    given = [order.get("given") for order in orders]
    shuffled = _one_below("in random order", [order.get("shuffled") for order in orders])
    caption = "What order is worth: histories as they are and, below each, in random order"
    return _table(caption, runs, ["users"], metrics, given, shuffled)


def gain_table(runs: Sequence[Examined]) -> Table | None:
    """NLL, and what the right user and item are worth."""

    def gain(run: Examined) -> Values:
        found = run.part("information_gain")
        if not found:
            return {}
        of_sides = {f"gain: {side}": found[side] for side in found["intervals"]}
        ends = {f"gain: {side}": it for side, it in found["intervals"].items()}
        ends["NLL"] = run.document["nll_interval"]
        return {"pairs": found["pairs"], "NLL": run.document.get("nll"), **of_sides, "intervals": ends}

    caption = "Language model: NLL, and what the right tokens are worth, in nats per token"
    models = {run.protocol.get("model") for run in runs if run.part("information_gain")}
    notes = [((), "different models count different tokens: compare gains, not NLLs")] * (len(models) > 1)
    found = [gain(run) for run in runs]
    metrics = [name for name in DECIMALS if any(name in values for values in found)]
    return _table(caption, runs, ["pairs"], metrics, found, notes=notes)


def grounding_table(runs: Sequence[Examined]) -> Table | None:
    """Shares of supported claims, controls under their run; the notes say how sure the matcher is."""

    def control(name: str, it: Values) -> Below:
        return Below(name, it, CONTROLS.get(name, ""), can_win=name != "reference")

    grounded = [run.part("grounding") for run in runs]
    methods: list[Values] = [it.get("method", {}) for it in grounded]
    controls = [[control(*one) for one in it.get("controls", {}).items()] for it in grounded]
    told = [(run.name, it) for run, it in zip(runs, grounded, strict=True) if it]
    notes = alike((name, words) for name, it in told for words in _calibrated(it))
    caption = "Grounding: share of claims that something known supports"
    shown = ["supported"] * any("supported" in method for method in methods)
    metrics = ("precision", "precision_item", "precision_user", "recall", *shown, "claims")
    return _table(caption, runs, [], metrics, methods, controls, notes=notes)


def choice_table(runs: Sequence[Examined]) -> Table | None:
    """Whose text, whose like: shares of right choices beside chance."""
    found = [run.part("two_choice") for run in runs]
    metrics = [name for name in CHOICES if any(name in it for it in found)]
    chance = _one_below("chance", [dict.fromkeys(metrics, 0.5)] * len(runs))
    told = [(run.name, it["choices"]) for run, it in zip(runs, found, strict=True) if it]
    notes = alike((name, f"choices: {by_reason(choices)}.") for name, choices in told)
    return _table("Whose is it, of two?", runs, [], metrics, found, chance, notes=notes)


def profile_table(runs: Sequence[Examined]) -> Table | None:
    """Likeness of written profiles to people's own ones, above other people's; below it, of another person's."""
    found = [run.part("profiles") for run in runs]
    pairs = [it and (it["shuffled"], it["intervals"]["shuffled"]) for it in found]
    dealt = [one and {"right": one[0], "intervals": {"right": one[1]}} for one in pairs]
    below = _one_below("of another person", dealt, can_win=True)
    caption = "Who people are, written from their words: more like their own profile than like others'"
    return _table(caption, runs, ["people"], ["right"], found, below)


def retrieval_table(runs: Sequence[Examined]) -> Table | None:
    """Own text among all held-out texts, given the macro words, beside chance."""
    found = [run.part("text_retrieval") for run in runs]
    own = [it and {**it, "texts": it["pairs"]} for it in found]
    chance = _one_below("chance", [it.get("chance") for it in found])
    caption = "Own text among all held-out texts, given the macro words"
    return _table(caption, runs, ["texts"], ["median_rank", "mrr", "hit@10"], own, chance)


def words_table(runs: Sequence[Examined]) -> Table | None:
    """How much of the vectors of held-out explanations follows from the words of item and user, beside controls."""
    found: list[Values] = [run.part("words").get("explained_variance") or {} for run in runs]
    controls = [[Below(*one) for one in it.get("controls", {}).items()] for it in found]
    caption = "Share of the variance of held-out explanations that follows from the words"
    return _table(caption, runs, ["pairs"], ["item", "user", "both"], found, controls)


def _one_below(label: str, values: Sequence[Values | None], can_win: bool = False) -> list[list[Below]]:
    return [[Below(label, it, can_win=can_win)] if it else [] for it in values]


def _table(
    caption: str,
    runs: Sequence[Examined],
    counts: Sequence[str],
    metrics: Sequence[str],
    own: Sequence[Values | None],
    below: Sequence[Sequence[Below]] = (),
    bold: Bold = (),
    notes: Sequence[Said] = (),
) -> Table | None:
    """Counts, then metrics, of each run that has them (`own`); below it, of what is held against it."""
    rows = []
    for position, (run, method) in enumerate(zip(runs, own, strict=True)):
        if not method:
            continue
        cells = [_cell(method, it, _decimals(it, method), bold=(run.name, it) in bold) for it in metrics]
        rows.append(TableRow(run.name, [*_counts(method, counts), *cells], position))
        for other in below[position] if below else ():
            known = [(it, _decimals(it, method, other), _mark(method, other, it)) for it in metrics]
            cells = [_cell(other.values, *one) for one in known]
            rows.append(TableRow(other.label, [*_counts(other.values, counts), *cells], hint=other.hint))
    return Table(caption, [*counts, *metrics], rows, notes) if rows else None


# --- tables of rows under a heading


def health_table(runs: Sequence[Examined]) -> Table | None:
    """How evenly and how fully each codebook is used."""
    rows: list[TableRow] = []
    for position, run in enumerate(runs):
        if books := run.part("health"):
            rows.append(TableRow(run.name, [], position))
            for book, it in books.items():
                rows.append(TableRow(book, [Cell(f"{it[name]:.0f}") for name in ("perplexity", "used")]))
    return Table("Codebooks", ["perplexity", "words in use"], rows) if rows else None


def comparison_table(comparisons: Sequence[Comparison]) -> Table | None:
    """Every comparison by metric under its two runs; faded where it does not survive correction."""
    rows: list[TableRow] = []
    for (a, b), together in grouped(((one.a, one.b), one) for one in comparisons).items():
        rows.append(TableRow(f"{a} \u2212 {b}", []))
        for one in together:
            (mean, *ends), decimals = one.difference, digits(one.difference)
            ps = ["< 0.001" if p < 0.001 else f"{p:.3f}" for p in (one.p, one.p_holm)]
            said = [number(one.effect, 2, sign=True), *ps, f"{one.pairs:,}"]
            cells = [Cell(number(mean, decimals, sign=True), decimals, ends), *map(Cell, said)]
            rows.append(TableRow(one.metric, cells, hint=hint(one.metric), faded=one.p_holm > LEVEL))
    columns = ["difference", "effect", "p", "Holm p", "shared"]
    return Table("Differences between runs", columns, rows) if rows else None


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
    known = metric in method and metric in control
    if not other.can_win or is_neutral(metric) or not known or control[metric] < method[metric]:
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
    if excluded := by_reason(grounding["method"].get("excluded")):
        yield f"pairs that do not count: {excluded}."
