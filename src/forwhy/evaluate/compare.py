"""Two runs on the pairs (or users) that both have: which differences are more than chance, and shown in bold."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from forwhy.errors import UserError
from forwhy.evaluate.significance import Floats, Interval, effect_size, holm, permute
from forwhy.evaluate.text import Counts, TextScores

Key = str | int | tuple[str | int, ...]

LEVEL = 0.05
"""Chance of any false difference in a table."""


@dataclass(frozen=True)
class Scored:
    """One run's values by pair (`per_pair` and `counts` of `TextScores`) or by user (`RankingResult.per_user`).

    `keys` [n]: the pair or user of each value, each once. With `counts` BLEU is that of the corpus, not a mean.
    """

    name: str
    keys: Sequence[Key]
    per_pair: Mapping[str, Floats]
    counts: Mapping[str, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse keys that repeat (UserError) and values that are not of these keys (ValueError)."""
        if len(self.rows) < len(self.keys):
            again = next(key for row, key in enumerate(self.keys) if self.rows[key] != row)
            raise UserError(f"run {self.name!r}: {again!r} occurs twice; keep one row of each")
        for metric, values in (*self.per_pair.items(), *self.counts.items()):
            if len(values) != len(self.keys) or not np.isfinite(values).all():
                needed = f"{len(self.keys)} finite values are needed, one for each key"
                raise ValueError(f"run {self.name!r}, {metric}: {needed}")

    @cached_property
    def rows(self) -> dict[Key, int]:
        """Key -> its row."""
        return {key: row for row, key in enumerate(self.keys)}

    @property
    def scores(self) -> TextScores:
        """The values without their keys."""
        return TextScores(self.per_pair, self.counts)


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs on their common pairs: `a` minus `b`, with the paired bootstrap 95% interval.

    `effect`: Cohen's d_z, of a corpus metric over the pairs' jackknife pseudo-values. `p`: two-sided, by paired
    permutation; `p_holm`: corrected for all comparisons made together. `left_out`: rows that the other run lacks.
    """

    a: str
    b: str
    metric: str
    difference: Interval
    effect: float
    p: float
    p_holm: float
    pairs: int
    left_out: tuple[int, int]

    def document(self) -> dict[str, object]:
        """As plain JSON values; an infinite effect is null."""
        mean, *ends = self.difference
        effect = self.effect if np.isfinite(self.effect) else None
        told = {"difference": mean, "interval": ends, "effect": effect, "left_out": list(self.left_out)}
        return {**vars(self), **told}


def compare(
    runs: Sequence[Scored], metrics: Sequence[str] | None = None, seed: int = 0, n: int = 10_000
) -> list[Comparison]:
    """Compare every two runs on the keys they share, and correct for all of these comparisons together.

    By a metric that leaves pairs out (`PARTIAL`), on the pairs that count for both, if there are any. A BLEU name is
    shared only by two runs with counts, or two without. `metrics`: those that will be shown; the fewer, the more can
    survive the correction. `n`: permutations; more are drawn where n could not reach significance.
    Cost: `n` + 2,000 sums over the common pairs for every two runs, whatever the number of metrics. A UserError for
    fewer than two runs, one name for two of them, fewer than two common keys, or no metric shared.
    """
    names = [run.name for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        given = ", ".join(names) or "nothing"
        raise UserError(f"cannot compare {given}: give two runs or more, each its own name")
    twos = [(a, b, _shared(a, b, metrics)) for a, b in combinations(runs, 2)]
    # The least p is 1 / (n + 1): multiplied by the family it must still be well below the level.
    draws = max(n, round(2 * sum(len(shared) for _, _, shared in twos) / LEVEL))
    return corrected([one for a, b, shared in twos for one in _compare_two(a, b, shared, seed, draws)])


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """Comparisons with `p_holm` corrected for all of them together, however many calls they come from."""
    ps = holm([one.p for one in found]).tolist()
    return [replace(one, p_holm=p) for one, p in zip(found, ps, strict=True)]


def bold_cells(comparisons: Iterable[Comparison], neutral: Collection[str]) -> set[tuple[str, str]]:
    """(run, metric) where the run beats all others, after correction; `neutral` metrics (no "@k") never."""
    beaten: dict[tuple[str, str], list[bool]] = {}
    for one in comparisons:
        counts = one.p_holm <= LEVEL and one.metric.partition("@")[0] not in neutral
        for run, gain in ((one.a, one.difference.mean), (one.b, -one.difference.mean)):
            beaten.setdefault((run, one.metric), []).append(counts and gain > 0)
    return {cell for cell, wins in beaten.items() if all(wins)}


def _shared(a: Scored, b: Scored, metrics: Sequence[str] | None) -> list[str]:
    ours, theirs = a.scores, b.scores
    both = {metric for metric in theirs.names() if ours.counted(metric) == theirs.counted(metric)}
    found = [metric for metric in ours.names() if metric in both and (metrics is None or metric in metrics)]
    if not found:
        asked = "" if metrics is None else f" of {', '.join(metrics)}"
        two = f"runs {a.name!r} and {b.name!r}"
        raise UserError(f"{two} share no metric{asked}; score both with the same ones")
    return found


def _compare_two(a: Scored, b: Scored, metrics: Sequence[str], seed: int, n: int) -> list[Comparison]:
    # Sorted: the order in which rows came changes no draw.
    common = sorted(a.rows.keys() & b.rows.keys())
    if len(common) < 2:
        have = f"have {len(common)} of {len(a.keys)} and {len(b.keys)} pairs in common"
        remedy = "give runs that were evaluated on the same pairs, with the same ids"
        raise UserError(f"runs {a.name!r} and {b.name!r} {have}; {remedy}")
    ours, theirs = (run.scores.take([run.rows[key] for key in common], metrics) for run in (a, b))
    ours, theirs = ours.counted_on_both(theirs)
    intervals = ours.margins(theirs, seed)
    found = permute(ours.rows(), theirs.rows(), ours.values, seed, n)
    p = dict(zip(ours.names(), found.tolist(), strict=True))
    pairs, left_out = len(common), (len(a.keys) - len(common), len(b.keys) - len(common))

    def of(metric: str) -> Comparison:
        effect = effect_size(ours.pseudo_values(metric), theirs.pseudo_values(metric))
        at = p[metric]
        return Comparison(a.name, b.name, metric, intervals[metric], effect, at, at, pairs, left_out)

    return [of(metric) for metric in metrics if metric in intervals]
