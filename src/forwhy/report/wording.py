"""How numbers, names and strangers' texts are put on the page."""

import math
import re
from collections.abc import Iterable, Sequence

from forwhy.evaluate.registry import METRICS

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


def hint(metric: str) -> str:
    """What a metric means and by whose convention; "" for one that nobody described."""
    known = METRICS.get(metric)
    if known:
        return f"{known.meaning} ({known.source})"
    return RANKING.get(metric.partition("@")[0], "")


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
