"""What a result table is made of, and how numbers, names and strangers' texts are written in a report."""

import math
import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from forwhy.evaluate.registry import METRICS, NEUTRAL

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Said = tuple[Sequence[str], str]
"""Names of runs and what is said of them: apart, as a name may be written from right to left."""


@dataclass(frozen=True)
class TableColumn:
    """A metric or a count."""

    name: str
    hint: str = ""
    neutral: bool = False
    """More of it is not better."""


@dataclass(frozen=True)
class Cell:
    """A value as measured, or words; a renderer decides how many digits are shown."""

    value: float | str | None = None
    decimals: int = 3
    """Digits on the page, where a column is of one width."""
    interval: Sequence[float] | None = None
    deviation: float | None = None
    mark: str = ""
    """"level" or "above": a control that is at least as good, the second beyond chance."""
    bold: bool = False


@dataclass(frozen=True)
class TableRow:
    """A run, or below it one of its controls, variants or groups; without cells, a heading of rows."""

    label: str
    cells: Sequence[Cell]
    run: int | None = None
    """Position of the run; None for a row below one."""
    hint: str = ""
    faded: bool = False
    """A difference that chance may have made."""


@dataclass(frozen=True)
class Table:
    """Rows under their columns, and what must be said with them."""

    caption: str
    columns: Sequence[TableColumn]
    rows: Sequence[TableRow]
    notes: Sequence[Said] = ()


NOTHING = "\u2013"
"""In a cell without a value."""

# Spaces of any kind keep words apart; the rest could hide, reverse or break what is shown.
SPACES = re.compile("[\t\x0b\x0c\r\x1c-\x1f\x85\u2028\u2029]")
UNSHOWN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")

CONTROLS = {
    "constant": "one training sentence for all, best by BLEU-1",
    "constant_similar": "one training sentence for all, best by similarity",
    "constant_halves": "for each half of the pairs the sentence best by BLEU-1 on the other half's references",
    "dealt": "the run's own outputs, each given to another pair",
    "nearest_item": "what the most similar user was told of the same item in training, else the constant",
    "nearest_user": "what the same user was told of the most similar item in training, else the constant",
    "profile": "the item's profile or description, else the constant",
    "reference": "the pair's own text: what a perfect writer reaches under this matcher",
}
"""What a control is, where the name does not say it."""

RANKING = {
    "recall": "share of a user's held-out items among the first k",
    "ndcg": "the same, discounted by place",
    "hr": "share of users with a held-out item among the first k",
    "mrr": "1 over the place of the first held-out item, 0 beyond k",
    "map": "mean precision at the places of held-out items",
    "coverage": "share of the catalogue in somebody's list",
    "novelty": "mean self-information of the listed items, bits",
    "popularity": "share of places that go to the 20% most popular items",
}
"""Ranking metric, without its "@k", in words."""


def clean(text: str) -> str:
    """The text without control characters, lone surrogates and bidirectional overrides; lines are kept."""
    return UNSHOWN.sub("\ufffd", SPACES.sub(" ", text.replace("\r\n", "\n")))


def short(text: str, limit: int) -> str:
    """A cleaned text on one line, cut to `limit` characters."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "\u2026"


OTHERS = {
    "perplexity": "how many words of a book are in even use",
    "words in use": "words of a book that some user or item has",
    "NLL": "negative log-likelihood of the reference, nats per token",
    "gain: item": "nats per token lost with another pair's item",
    "gain: user": "nats per token lost with another pair's user",
    "gain: both": "nats per token lost with another pair's both",
    "precision": "share of the text's claims that evidence of the item or the user supports",
    "precision_item": "the same by evidence of the item alone",
    "precision_user": "the same by evidence of the user alone",
    "recall": "share of the reference's claims that the text supports",
    "claims": "claims in a text",
    "median_rank": "rank of a pair's own text: less is better",
    "mrr": "mean of 1 over the rank",
    "hit@10": "share ranked in the first ten",
    "difference": "the first run minus the second, with its paired bootstrap 95% interval",
    "effect": "Cohen's d: the mean difference in units of its own deviation over pairs",
    "p": "two-sided, by paired permutation",
    "Holm p": "p corrected for all comparisons in this table",
    "pairs": "pairs that were measured; a control has a text of its own for so many, the others get the constant",
    "shared": "pairs, or users, that both have",
    "users": "users that were measured",
    "texts": "held-out texts that are ranked, or training texts of each user of a group",
}
"""Column -> its meaning, of those that are no text or ranking metric."""
GREY = {"claims", "pairs", "shared", "users", "texts", "NLL"}
"""Of these columns more is not better."""


def is_neutral(metric: str) -> bool:
    """Whether more of it is not better, whatever its "@k"."""
    return metric in GREY or metric.partition("@")[0] in NEUTRAL


def columns(names: Iterable[str]) -> list[TableColumn]:
    """Columns with what they mean; nothing for a metric that nobody described."""
    return [TableColumn(name, hint(name), is_neutral(name)) for name in names]


def hint(name: str) -> str:
    """What a metric means and by whose convention; "" for one that nobody described."""
    known = METRICS.get(name)
    if known:
        return f"{known.meaning} ({known.source})"
    return OTHERS.get(name) or RANKING.get(name.partition("@")[0], "")


def digits(values: Iterable[float]) -> int:
    """Decimals that suit all of a column's values."""
    most = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 1 if most >= 10 else 2 if most >= 1 else 3 if most >= 0.05 else 4


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """A value with a true minus; `NOTHING` for none."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{value:{'+' if sign else ''},.{decimals}f}".replace("-", "\u2212")


def interval(ends: Sequence[float] | None, decimals: int) -> str:
    """Both ends in brackets; "" for none."""
    return "" if ends is None else f"[{number(ends[0], decimals)}, {number(ends[1], decimals)}]"


def with_interval(value: float, ends: Sequence[float] | None, sign: bool = False) -> str:
    """A value in running text."""
    decimals = digits([value, *(ends or ())])
    return f"{number(value, decimals, sign)} {interval(ends, decimals)}".rstrip()


def percent(share: float) -> str:
    """A share in running text."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def probability(p: float) -> str:
    """A p, never 0."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def joined(words: Sequence[str]) -> str:
    """As in "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def metric_list(metrics: Sequence[str], of: Sequence[str]) -> str:
    """Some of these metrics, the short way: "all 13 metrics", "all but similarity"."""
    left = [metric for metric in of if metric not in metrics]
    if len(metrics) > 2 and not left:
        return f"all {len(of)} metrics"
    if len(metrics) > 4 and len(left) <= 2:
        return f"{len(metrics)} of {len(of)} metrics, all but {joined(left)}"
    return joined(metrics)


def counted(n: int, noun: str) -> str:
    """As in "1 pair", "1,200 pairs"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Key -> its values; both in the order in which they came."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
