"""Intervals and paired tests, from values per pair or per user.

Shapes: n pairs (or users), m columns, b resamples of one block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_DRAWS = 1 << 20
"""Drawn indices held at once (8 bytes each): bounds the memory of a bootstrap at some 20 MiB."""


class Interval(NamedTuple):
    """A value and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def flatten(intervals: Mapping[str, Interval]) -> dict[str, object]:
    """`{name: value, ..., "intervals": {name: [low, high]}}`, the form of every table of a report."""
    ends = {name: [low, high] for name, (_, low, high) in intervals.items()}
    return {**{name: interval.mean for name, interval in intervals.items()}, "intervals": ends}


def bootstrap_interval(values: NDArray[np.floating], seed: int = 0, n: int = 2000) -> Interval:
    """Mean of `values` [n] with its percentile bootstrap 95% interval. Cost: `n` draws per value."""
    return bootstrap(np.asarray(values)[:, None], lambda sums: sums / len(values), seed, n)[0]


def bootstrap_means(values: Mapping[str, Floats], seed: int = 0, n: int = 2000) -> dict[str, Interval]:
    """`bootstrap_interval` of several columns over the same rows, from one set of draws."""
    columns = np.stack(list(values.values()), axis=1)
    intervals = bootstrap(columns, lambda sums: sums / len(columns), seed, n)
    return dict(zip(values, intervals, strict=True))


def bootstrap(
    rows_nm: Floats, statistic: Callable[[Floats], Floats], seed: int = 0, n: int = 2000
) -> list[Interval]:
    """Percentile bootstrap of any statistic of column sums: means, ratios of sums, corpus BLEU.

    `statistic` maps sums [..., m] to values [..., k]. One seed draws the same row numbers for equally many rows.
    """
    rows_nm = _matrix(rows_nm)
    point_k = statistic(rows_nm.sum(axis=0))
    sums = []
    for draws_bn in resamples(len(rows_nm), seed, n):
        # How often each row was drawn: sums over draws become one matrix product.
        flat = draws_bn + np.arange(len(draws_bn))[:, None] * len(rows_nm)
        times_bn = np.bincount(flat.ravel(), minlength=flat.size).reshape(flat.shape)
        sums.append(times_bn.astype(np.float64) @ rows_nm)
    low_k, high_k = np.quantile(statistic(np.concatenate(sums)), [0.025, 0.975], axis=0)
    return [Interval(float(p), float(a), float(b)) for p, a, b in zip(point_k, low_k, high_k, strict=True)]


def bootstrap_median(values: NDArray[np.floating], seed: int = 0, n: int = 2000) -> Interval:
    """Median of `values` [n] with its percentile bootstrap 95% interval."""
    column = _matrix(np.asarray(values)[:, None])[:, 0]
    medians = [np.median(column[draws_bn], axis=1) for draws_bn in resamples(len(column), seed, n)]
    low, high = np.quantile(np.concatenate(medians), [0.025, 0.975])
    return Interval(float(np.median(column)), float(low), float(high))


def permute(
    a_nm: Floats, b_nm: Floats, statistic: Callable[[Floats], Floats], seed: int = 0, n: int = 10_000
) -> Floats:
    """[k] two-sided p of the differences of any statistic of column sums, under random swaps of a pair's whole rows.

    `statistic` maps sums [..., m] to values [..., k]. The observed assignment counts as one of the permutations, so p
    is never 0 (Phipson and Smyth 2010). Cost: n x m sums per permutation.
    """
    a_nm, b_nm = _matrix(a_nm), _matrix(b_nm)
    sums_a, sums_b = a_nm.sum(axis=0), b_nm.sum(axis=0)
    observed_k = statistic(sums_a) - statistic(sums_b)
    # A swap of equals must count as equally extreme, whatever the order of its float additions.
    sizes_k = np.abs(statistic(np.abs(a_nm).sum(axis=0))) + np.abs(statistic(np.abs(b_nm).sum(axis=0)))
    threshold_k = np.abs(observed_k) - 1e-12 * sizes_k
    extreme_k = np.zeros(observed_k.shape, dtype=np.int64)
    generator = np.random.default_rng(seed)
    for block in _blocks(len(a_nm), n):
        signs_bn = generator.integers(0, 2, size=(block, len(a_nm)), dtype=np.int8) * 2 - 1
        swapped_bm = signs_bn @ (a_nm - b_nm)
        ours, theirs = (sums_a + sums_b + swapped_bm) / 2, (sums_a + sums_b - swapped_bm) / 2
        extreme_k += (np.abs(statistic(ours) - statistic(theirs)) >= threshold_k).sum(axis=0)
    return np.asarray((extreme_k + 1) / (n + 1))


def holm(p: Sequence[float] | Floats) -> Floats:
    """Corrected p [m] of one family: 5% is the chance of any false one among those up to 0.05 (Holm 1979).

    In ascending order p[j] becomes the largest of (m - i) p[i], i = 0..j, at most 1, whatever the tests' dependence.
    """
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    steps = np.maximum.accumulate(np.arange(len(raw), 0, -1) * raw[order])
    return np.asarray(np.minimum(steps, 1.0)[np.argsort(order)])


def effect_size(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Cohen's d_z of paired values [n]: mean of `a - b` over its standard deviation; 0.2 is small, 0.8 large.

    How steady a difference is; unlike p it doesn't grow with n. 0 where all pairs are equal; infinite where all differ
    by the same amount. A ValueError with fewer than two pairs, or not as many on either side.
    """
    if a.shape != b.shape or len(a) < 2:
        raise ValueError(f"an effect size needs two pairs or more: {a.shape} and {b.shape} are given")
    difference_n = np.asarray(a, dtype=np.float64) - b
    mean, deviation = float(difference_n.mean()), float(difference_n.std(ddof=1))
    noise = 1e-12 * float(np.abs(a).max() + np.abs(b).max())  # of subtracting equal floats
    if deviation > noise:
        return mean / deviation
    return float(np.copysign(np.inf, mean)) if abs(mean) > noise else 0.0


def resamples(rows: int, seed: int, n: int) -> Iterator[Ints]:
    """`n` bootstrap samples of row numbers, in blocks [b, rows]; a function of its arguments only."""
    generator = np.random.default_rng(seed)
    for block in _blocks(rows, n):
        yield generator.integers(0, rows, size=(block, rows))


def _blocks(rows: int, n: int) -> list[int]:
    size = max(1, BLOCK_DRAWS // rows)
    return [min(size, n - start) for start in range(0, n, size)]


def _matrix(rows_nm: NDArray[np.floating]) -> Floats:
    if not len(rows_nm):
        raise ValueError("no values: an interval needs at least one")
    if not np.isfinite(rows_nm).all():
        raise ValueError("values are not finite: a metric produced NaN or infinity")
    return rows_nm.astype(np.float64)
