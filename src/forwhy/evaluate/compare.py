"""Any two runs on the same pairs: which differences are more than chance, and which may be shown in bold.

Shapes: n common pairs (or users), m columns of a run, k metrics.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.evaluate.overlap import Ints
from forwhy.evaluate.significance import Floats, Interval, bootstrap, effect_size, holm, permute
from forwhy.evaluate.text import OF_COUNTS, both_count, uncounted

Key = str | int | tuple[str | int, ...]

LEVEL = 0.05
"""Chance of any false difference in a table."""


@dataclass(frozen=True)
class Scored:
    """One run's values, by pair or by user.

    Of a `RankingResult` its users and `per_user`; of `TextScores` the pairs' (user, item), its `per_pair`
    and `counts`.
    """

    name: str
    keys: Sequence[Key]
    """[n] what a value belongs to, each once: (user, item), or a user; ids of one kind."""
    per_pair: Mapping[str, Floats]
    """metric -> [n], compared by its mean over keys."""
    counts: Mapping[str, Ints] = field(default_factory=dict)
    """[n, c] each, as in `TextScores`: with them BLEU is that of the corpus, not a mean over sentences."""

    def __post_init__(self) -> None:
        """Refuse keys that repeat (UserError) and values that are not of these keys (ValueError)."""
        seen: set[Key] = set()
        for key in self.keys:
            if key in seen:
                raise UserError(f"run {self.name!r}: {key!r} occurs twice; keep one row of each")
            seen.add(key)
        columns: dict[str, NDArray[Any]] = {**self.per_pair, **self.counts}
        for metric, values in columns.items():
            if len(values) != len(self.keys) or not np.isfinite(values).all():
                raise ValueError(
                    f"run {self.name!r}, {metric}: {len(self.keys)} finite values are needed, one for each key"
                )

    def metrics(self) -> list[str]:
        """Names of all metrics."""
        counted = [metric for metric in OF_COUNTS if self.counted(metric)]
        return [*counted, *(metric for metric in self.per_pair if metric not in counted)]

    def counted(self, metric: str) -> bool:
        """Whether the metric is one of the whole set, from counts."""
        return metric in OF_COUNTS and OF_COUNTS[metric][0] in self.counts

    def rows(self) -> dict[Key, int]:
        """Key -> its row."""
        return {key: row for row, key in enumerate(self.keys)}

    def take(self, rows: Sequence[int]) -> "Scored":
        """The same run on some of its rows, in this order."""
        return replace(
            self,
            keys=[self.keys[row] for row in rows],
            per_pair={metric: values[rows] for metric, values in self.per_pair.items()},
            counts={kind: counts[rows] for kind, counts in self.counts.items()},
        )


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs on their common pairs."""

    a: str
    b: str
    metric: str
    difference: Interval
    """`a` minus `b`, with the paired bootstrap 95% interval."""
    effect: float
    """Cohen's d_z; of a corpus metric, over the pairs' jackknife pseudo-values."""
    p: float
    """Two-sided, by paired permutation."""
    p_holm: float
    """`p` corrected for all comparisons made together."""
    pairs: int
    left_out: tuple[int, int]
    """Rows of `a` and of `b` that the other run doesn't have."""

    def document(self) -> dict[str, object]:
        """As plain JSON values; an infinite effect is null."""
        return {
            "a": self.a, "b": self.b, "metric": self.metric, "difference": self.difference.mean,
            "interval": [self.difference.low, self.difference.high],
            "effect": self.effect if np.isfinite(self.effect) else None,
            "p": self.p, "p_holm": self.p_holm, "pairs": self.pairs, "left_out": list(self.left_out),
        }  # fmt: skip


def compare(
    runs: Sequence[Scored], metrics: Sequence[str] | None = None, seed: int = 0, n: int = 10_000
) -> list[Comparison]:
    """Every two runs, by each metric that both have, corrected for all of these comparisons together.

    Two runs are compared on the keys they share; by a metric that leaves pairs out (`PARTIAL`), on those that
    count for both, and not at all where there are none. `metrics` names those that will be shown: the fewer,
    the more can survive; one that two runs don't both have is passed over. A BLEU name is shared only by two
    runs with counts, or two without. `n` permutations, and more where the family is so large that n could
    not reach significance.
    Cost: `n` + 2,000 sums over the common pairs for every two runs, whatever the number of metrics.

    Raises:
        UserError: fewer than two runs, one name for two of them, fewer than two common keys, or no metric shared.
    """
    names = [run.name for run in runs]
    if len(runs) < 2 or len(set(names)) < len(names):
        raise UserError(
            f"cannot compare {', '.join(names) or 'nothing'}: give two runs or more, each its own name"
        )
    shared = {(a.name, b.name): _shared(a, b, metrics) for a, b in combinations(runs, 2)}
    family = sum(len(found) for found in shared.values())
    # The least p is 1 / (n + 1): multiplied by the family it must still be well below the level.
    draws = max(n, round(2 * family / LEVEL))
    found = [
        comparison
        for a, b in combinations(runs, 2)
        for comparison in _compare_two(a, b, shared[a.name, b.name], seed, draws)
    ]
    return corrected(found)


def corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """The same comparisons with `p_holm` for all of these together, however many calls they come from."""
    return [replace(one, p_holm=float(p)) for one, p in zip(found, holm([it.p for it in found]), strict=True)]


def bold_cells(
    comparisons: Iterable[Comparison], neutral: Collection[str], lower: Collection[str] = ()
) -> set[tuple[str, str]]:
    """(run, metric) of the cells that may be bold: the run beats every other one after correction.

    No metric in `neutral` is bold, and those in `lower` are better when smaller; names without their "@k".
    A metric compared between some of the runs only can be won among these.
    """
    won: dict[tuple[str, str], int] = {}
    others: dict[tuple[str, str], int] = {}
    for one in comparisons:
        base = one.metric.partition("@")[0]
        better = -one.difference.mean if base in lower else one.difference.mean
        for run, gain in ((one.a, better), (one.b, -better)):
            cell = run, one.metric
            others[cell] = others.get(cell, 0) + 1
            won[cell] = won.get(cell, 0) + (base not in neutral and gain > 0 and one.p_holm <= LEVEL)
    return {cell for cell, wins in won.items() if wins == others[cell]}


def _shared(a: Scored, b: Scored, metrics: Sequence[str] | None) -> list[str]:
    both = set(a.metrics()) & set(b.metrics())
    both = {metric for metric in both if a.counted(metric) == b.counted(metric)}
    found = [metric for metric in a.metrics() if metric in both and (metrics is None or metric in metrics)]
    if not found:
        asked = "" if metrics is None else f" of {', '.join(metrics)}"
        raise UserError(
            f"runs {a.name!r} and {b.name!r} share no metric{asked}; score both with the same ones"
        )
    return found


def _compare_two(a: Scored, b: Scored, metrics: Sequence[str], seed: int, n: int) -> list[Comparison]:
    ours, theirs = _aligned(a, b)
    empty = uncounted(ours.counts)
    metrics = [metric for metric in metrics if metric not in empty]
    pairs = len(ours.keys)
    left_out = len(a.keys) - pairs, len(b.keys) - pairs
    corpus = [metric for metric in metrics if a.counted(metric)]
    means = metrics[len(corpus) :]
    kinds = list(dict.fromkeys(OF_COUNTS[metric][0] for metric in corpus))
    ends = np.cumsum([ours.counts[kind].shape[1] for kind in kinds], dtype=np.int64)
    statistic = partial(_of_sums, corpus, kinds, ends)
    rows_a, rows_b = _rows(ours, kinds, means), _rows(theirs, kinds, means)
    width = rows_a.shape[1]

    def difference(sums: Floats) -> Floats:
        return statistic(sums[..., :width]) - statistic(sums[..., width:])

    intervals = bootstrap(np.concatenate([rows_a, rows_b], axis=1), difference, seed)
    _, p = permute(rows_a, rows_b, statistic, seed, n)
    effects = [effect_size(_per_key(ours, metric), _per_key(theirs, metric)) for metric in metrics]
    return [
        Comparison(a.name, b.name, metric, interval, effect, float(raw), float(raw), pairs, left_out)
        for metric, interval, effect, raw in zip(metrics, intervals, effects, p, strict=True)
    ]


def _aligned(a: Scored, b: Scored) -> tuple[Scored, Scored]:
    """Both on their common keys, sorted: the order in which rows came changes no draw.

    In counts of `PARTIAL` a key counts on both sides or on neither.
    """
    rows_a, rows_b = a.rows(), b.rows()
    common = sorted(rows_a.keys() & rows_b.keys())
    if len(common) < 2:
        raise UserError(
            f"runs {a.name!r} and {b.name!r} have {len(common)} of {len(a.keys)} and {len(b.keys)} pairs in common; "
            "give runs that were evaluated on the same pairs, with the same ids"
        )
    ours, theirs = a.take([rows_a[key] for key in common]), b.take([rows_b[key] for key in common])
    ours_counts, theirs_counts = both_count(ours.counts, theirs.counts)
    return replace(ours, counts=ours_counts), replace(theirs, counts=theirs_counts)


def _rows(run: Scored, kinds: Sequence[str], means: Sequence[str]) -> Floats:
    """[n, m] counts of these kinds | values | 1: column sums hold all metrics."""
    parts = [*(run.counts[kind] for kind in kinds), *(run.per_pair[metric] for metric in means)]
    return np.column_stack([*parts, np.ones(len(run.keys))])


def _of_sums(corpus: Sequence[str], kinds: Sequence[str], ends: Ints, sums: Floats) -> Floats:
    """[..., k] metrics of sums [..., m] of `_rows`; `ends`: where the columns of each kind end."""
    *parts, rest = np.split(sums, ends, axis=-1)
    of_kind = dict(zip(kinds, parts, strict=True))
    values = [OF_COUNTS[metric][1](of_kind[OF_COUNTS[metric][0]])[..., None] for metric in corpus]
    return np.concatenate([*values, rest[..., :-1] / rest[..., -1:]], axis=-1)


def _per_key(run: Scored, metric: str) -> Floats:
    """[n] what each key adds to the mean; to a corpus metric: the jackknife's pseudo-values (Tukey 1958)."""
    if not run.counted(metric):
        return run.per_pair[metric]
    kind, of_sums = OF_COUNTS[metric]
    counts, n = run.counts[kind], len(run.keys)
    sums = counts.sum(axis=0)
    return np.asarray(n * of_sums(sums) - (n - 1) * of_sums(sums - counts))
