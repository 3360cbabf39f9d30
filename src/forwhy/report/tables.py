"""Every table of the page as rows of cells: what is shown, marked, greyed and bold is decided here."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.reading import Examined
from forwhy.evaluate.registry import METRICS, NEUTRAL
from forwhy.evaluate.report import SHOWN_NEXT_ITEM, SHOWN_TEXT, shown_ranking
from forwhy.report.wording import CONTROLS, digits, hint, interval, number, probability

Bold = Collection[tuple[str, str]]
Values = Mapping[str, Any]

NO_METRICS = {"pairs", "users", "dropped"}
CONVENTIONS = ("peter_", "sacrebleu")
OVERLAP = ("bleu", "rouge")
PLACES, PLACES_NEXT_ITEM = 20, 10
"""The k of the ranking table in view, where it was measured; of systems of the next item."""


@dataclass(frozen=True)
class Column:
    """One metric."""

    name: str
    hint: str = ""
    neutral: bool = False


@dataclass(frozen=True)
class Cell:
    """One value."""

    value: str
    interval: str = ""
    deviation: str = ""
    mark: str = ""
    """"level" or "above": a control that is at least as good, the second beyond chance."""
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """A run, or a control or group under its run."""

    label: str
    cells: Sequence[Cell]
    run: int | None = None
    """Position of the run; None for what stands under one."""
    hint: str = ""
    faded: bool = False
    """A difference that chance may have made."""


@dataclass(frozen=True)
class Table:
    """Rows under their columns."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def text_of(run: Examined) -> Values:
    """The run's text metrics; empty when there are none."""
    return run.document.get("text") or {}


def controls_of(run: Examined) -> Mapping[str, Values]:
    """Control -> its text metrics."""
    return run.document.get("controls") or {}


def measured(tables: Sequence[Values]) -> list[str]:
    """Metrics that some table holds: those of the registry in its order, then others as they came."""
    found = dict.fromkeys(
        name for table in tables for name, value in table.items() if _is_metric(name, value)
    )
    return [name for name in METRICS if name in found] + [name for name in found if name not in METRICS]


def standing(method: Values, control: Values, metric: str) -> str:
    """How a control stands to its run: "above" it beyond chance, "level", "below" beyond chance.

    Beyond chance: the paired 95% interval of the difference, not corrected for the number of metrics, leaves
    out 0. Without an interval a control that is at least as good is "level".
    """
    ends = (control.get("margin") or {}).get("intervals", {}).get(metric)
    if ends is not None:
        return "above" if ends[1] < 0 else "below" if ends[0] > 0 else "level"
    return "level" if control[metric] >= method[metric] else "below"


def judged(run: Examined) -> list[str]:
    """Text metrics of a run by which a control can win."""
    return [metric for metric in measured([text_of(run)]) if metric not in NEUTRAL]


def text_tables(runs: Sequence[Examined], bold: Bold) -> tuple[list[Table], list[Table]]:
    """The tables in view and those to be unfolded: every metric is in one of them."""
    metrics = measured([text_of(run) for run in runs])
    families: dict[str, list[str]] = {
        "Main metrics": [metric for metric in SHOWN_TEXT if metric in metrics],
        "Read by a model or judged": [],
        "BLEU and ROUGE": [],
        "BLEU and ROUGE by other conventions": [],
        "Variety, length and counts: more is not better": [],
    }
    for metric in metrics:
        if metric not in families["Main metrics"]:
            families[_family(metric)].append(metric)
    tables = [_text_table(name, found, runs, bold) for name, found in families.items()]
    shown = [table for table in tables[:2] if table.columns]
    return shown, [table for table in tables[2:] if table.columns]


def group_table(runs: Sequence[Examined]) -> Table | None:
    """Main text metrics by group of users."""
    groups = [(position, run, run.document.get("groups") or {}) for position, run in enumerate(runs)]
    metrics = [
        m for m in SHOWN_TEXT if m in measured([text for *_, found in groups for text in found.values()])
    ]
    rows = []
    for position, run, found in groups:
        if found:
            rows.append(Row(run.name, _cells(text_of(run), metrics, deviations=True), position))
            rows += [
                Row(_with_pairs(name, text), _cells(text, metrics, True)) for name, text in found.items()
            ]
    return Table("By group of users", _columns(metrics), rows) if rows else None


def ranking_tables(runs: Sequence[Examined], bold: Bold) -> list[Table]:
    """Full ranking at one k, then at the others."""
    ranked = [(position, run) for position, run in enumerate(runs) if run.document.get("ranking")]
    metrics = measured([run.document["ranking"] for _, run in ranked])
    ks = sorted({int(metric.partition("@")[2]) for metric in metrics if "@" in metric})
    next_item = shown_ranking([run.document for run in runs]) == SHOWN_NEXT_ITEM
    ks.sort(key=lambda k: k != (PLACES_NEXT_ITEM if next_item else PLACES))
    return [
        _ranking_table(f"First {k}", [m for m in metrics if m.endswith(f"@{k}")], ranked, bold) for k in ks
    ]


def order_table(runs: Sequence[Examined]) -> Table | None:
    """Some users of each run after their histories as they are, and after the same items in random order."""
    found = [(run.name, run.document["order"]) for run in runs if run.document.get("order")]
    metrics = [it for it in SHOWN_NEXT_ITEM if all(it in order["given"] for _, order in found)]
    rows = [
        Row(f"{name}, {order[kind]['users']:,} users, {words}", _cells(order[kind], metrics, False))
        for name, order in found
        for kind, words in (("given", "histories as they are"), ("shuffled", "in random order"))
    ]
    return Table("What order is worth", _columns(metrics), rows) if rows else None


def gain_table(runs: Sequence[Examined]) -> Table | None:
    """NLL, and what the right user and item are worth."""
    sides = ("user", "item", "both")
    columns = [
        Column("NLL", "negative log-likelihood of the reference, nats per token", neutral=True),
        *(Column(f"gain: {side}", f"nats per token lost with another pair's {side}") for side in sides),
    ]
    rows = []
    for position, run in enumerate(runs):
        gain = run.document.get("information_gain")
        if gain:
            nll = {"nll": run.document["nll"], "intervals": {"nll": run.document["nll_interval"]}}
            rows.append(
                Row(run.name, [_cell(nll, "nll", 3), *(_cell(gain, side, 4) for side in sides)], position)
            )
    return Table("Nats per token", columns, rows) if rows else None


def grounding_table(runs: Sequence[Examined]) -> Table | None:
    """Shares of supported claims, controls under their run."""
    columns = [
        Column("precision", "share of the text's claims that evidence of the item or the user supports"),
        Column("precision_item", "the same by evidence of the item alone"),
        Column("precision_user", "the same by evidence of the user alone"),
        Column("recall", "share of the reference's claims that the text supports"),
        Column("claims", "claims in a text", neutral=True),
    ]
    names = [column.name for column in columns]
    rows = []
    for position, run in enumerate(runs):
        grounding = run.document.get("grounding")
        if grounding:
            method = grounding["method"]
            rows.append(Row(run.name, _cells(method, names), position))
            rows += [
                Row(
                    name,
                    _control_cells(method, control, names, name != "reference"),
                    hint=CONTROLS.get(name, ""),
                )
                for name, control in grounding["controls"].items()
            ]
    return Table("Share of claims that are supported", columns, rows) if rows else None


def comparison_table(comparisons: Sequence[Comparison]) -> Table | None:
    """Every comparison by metric under its two runs; faded where it does not survive correction."""
    columns = [
        Column("difference", "the first run minus the second, with its paired bootstrap 95% interval"),
        Column("effect", "Cohen's d: the mean difference in units of its own deviation over pairs"),
        Column("p", "two-sided, by paired permutation"),
        Column("Holm p", "p corrected for all comparisons in this table"),
        Column("pairs", "pairs, or users, that both have"),
    ]
    rows = []
    for (a, b), together in by_runs(comparisons).items():
        rows.append(Row(f"{a} \u2212 {b}", []))
        rows += [
            Row(one.metric, _comparison_cells(one), hint=hint(one.metric), faded=one.p_holm > LEVEL)
            for one in together
        ]
    return Table("Differences between runs", columns, rows) if rows else None


def by_runs(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], list[Comparison]]:
    """The two names -> their comparisons, in order."""
    together: dict[tuple[str, str], list[Comparison]] = {}
    for one in comparisons:
        together.setdefault((one.a, one.b), []).append(one)
    return together


def retrieval_table(runs: Sequence[Examined]) -> Table | None:
    """Own text among all held-out texts, given the macro words, beside chance."""
    names = ("median_rank", "mrr", "hit@10")
    hints = (
        "rank of a pair's own text: less is better",
        "mean of 1 over the rank",
        "share ranked in the first ten",
    )
    rows = []
    for position, run in enumerate(runs):
        found = run.document.get("text_retrieval")
        if found:
            rows.append(Row(run.name, _cells(found, names), position))
            rows.append(Row("chance", _cells(found["chance"], names)))
    columns = [Column(name, words) for name, words in zip(names, hints, strict=True)]
    return Table("Own text among all held-out texts, given the macro words", columns, rows) if rows else None


def legend(tables: Sequence[Table]) -> list[Column]:
    """Each described column of these tables once."""
    return list({column.name: column for table in tables for column in table.columns if column.hint}.values())


def _is_metric(name: str, value: object) -> bool:
    return name not in NO_METRICS and isinstance(value, int | float) and not isinstance(value, bool)


def _family(metric: str) -> str:
    if metric in NEUTRAL:
        return "Variety, length and counts: more is not better"
    if metric.startswith(CONVENTIONS):
        return "BLEU and ROUGE by other conventions"
    return "BLEU and ROUGE" if metric.startswith(OVERLAP) else "Read by a model or judged"


def _text_table(caption: str, metrics: Sequence[str], runs: Sequence[Examined], bold: Bold) -> Table:
    rows = []
    for position, run in enumerate(runs):
        if text_of(run):
            rows.append(Row(run.name, _cells(text_of(run), metrics, True, (run.name, bold)), position))
            rows += _control_rows(text_of(run), controls_of(run), metrics)
    return Table(caption, _columns(metrics), rows)


def _control_rows(method: Values, controls: Mapping[str, Values], metrics: Sequence[str]) -> Iterator[Row]:
    for name, control in controls.items():
        words = control.get("sentence") or CONTROLS.get(name, "")
        yield Row(name, _control_cells(method, control, metrics), hint=words)


def _ranking_table(
    caption: str, metrics: Sequence[str], ranked: Sequence[tuple[int, Examined]], bold: Bold
) -> Table:
    rows = []
    for position, run in ranked:
        ranking = run.document["ranking"]
        rows.append(Row(run.name, _cells(ranking, metrics, False, (run.name, bold)), position))
        rows += [
            Row(name, _control_cells(ranking, other, metrics, can_win=kind == "baselines"))
            for kind in ("variants", "baselines")
            for name, other in (run.document.get(kind) or {}).items()
        ]
    return Table(caption, _columns(metrics), rows)


def _columns(metrics: Sequence[str]) -> list[Column]:
    return [Column(metric, hint(metric), is_neutral(metric)) for metric in metrics]


def is_neutral(metric: str) -> bool:
    """Whether more of it is not better, whatever its "@k"."""
    return metric.partition("@")[0] in NEUTRAL


def _cells(
    values: Values, metrics: Sequence[str], deviations: bool = False, of: tuple[str, Bold] = ("", ())
) -> list[Cell]:
    name, bold = of
    return [
        _cell(values, metric, _decimals(metric, values), deviations, bold=(name, metric) in bold)
        for metric in metrics
    ]


def _control_cells(
    method: Values, control: Values, metrics: Sequence[str], can_win: bool = True
) -> list[Cell]:
    return [
        _cell(
            control,
            metric,
            _decimals(metric, method),
            True,
            _mark(method, control, metric) if can_win else "",
        )
        for metric in metrics
    ]


def _mark(method: Values, control: Values, metric: str) -> str:
    known = metric in method and metric in control
    if not known or is_neutral(metric) or metric == "claims" or control[metric] < method[metric]:
        return ""
    return "above" if standing(method, control, metric) == "above" else "level"


def _decimals(metric: str, values: Values) -> int:
    """One width for a metric wherever it stands."""
    known = METRICS.get(metric)
    if known and known.top is not None:
        return 3 if known.top == 1 else 2
    return digits([values[metric]]) if metric in values else 3


def _cell(
    values: Values, metric: str, decimals: int, deviations: bool = False, mark: str = "", bold: bool = False
) -> Cell:
    if metric not in values:
        return Cell(number(None, 0))
    deviation = (values.get("std") or {}).get(metric) if deviations else None
    return Cell(
        number(values[metric], decimals),
        interval((values.get("intervals") or {}).get(metric), decimals),
        "" if deviation is None else number(deviation, decimals),
        mark,
        bold,
    )


def _comparison_cells(one: Comparison) -> list[Cell]:
    mean, low, high = one.difference
    decimals = digits([mean, low, high])
    return [
        Cell(number(mean, decimals, sign=True), interval([low, high], decimals)),
        Cell(number(one.effect, 2, sign=True)),
        Cell(probability(one.p)),
        Cell(probability(one.p_holm)),
        Cell(f"{one.pairs:,}"),
    ]


def _with_pairs(name: str, text: Values) -> str:
    return f"{name} ({text['pairs']:,})" if "pairs" in text else name
