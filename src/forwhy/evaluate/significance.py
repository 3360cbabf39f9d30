"""Intervals and paired tests, from values per pair or per user.

Shapes: n pairs (or users), m columns, b resamples of one block.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BLOCK_DRAWS = 1 << 20
"""Drawn indices held at once (8 bytes each): bounds the memory of a bootstrap at some 20 MiB."""


class Interval(NamedTuple):
    """A value and the ends of its 95% interval."""

    mean: float
    low: float
    high: float

    def document(self) -> dict[str, float]:
        """As plain JSON values."""
        return self._asdict()


def flatten(intervals: Mapping[str, Interval]) -> dict[str, object]:
    """`{name: value, ..., "intervals": {name: [low, high]}}`, the form of every table of a report."""
    values: dict[str, object] = {name: interval.mean for name, interval in intervals.items()}
    values["intervals"] = {name: [interval.low, interval.high] for name, interval in intervals.items()}
    return values


def bootstrap_interval(values: NDArray[np.floating], seed: int = 0, n: int = 2000) -> Interval:
    """Mean of `values` [n] with its percentile bootstrap 95% interval. Cost: `n` draws per value."""
    column = _matrix(np.asarray(values)[:, None])
    return bootstrap(column, lambda sums: sums / len(column), seed, n)[0]


def bootstrap_means(values: Mapping[str, Floats], seed: int = 0, n: int = 2000) -> dict[str, Interval]:
    """`bootstrap_interval` of several columns over the same rows, from one set of draws."""
    columns = _matrix(np.stack(list(values.values()), axis=1))
    intervals = bootstrap(columns, lambda sums: sums / len(columns), seed, n)
    return dict(zip(values, intervals, strict=True))


def bootstrap(
    rows_nm: Floats, statistic: Callable[[Floats], Floats], seed: int = 0, n: int = 2000
) -> list[Interval]:
    """Percentile bootstrap of any statistic of column sums: means, ratios of sums, corpus BLEU.

    `statistic` maps sums [..., m] to values [..., k] and is applied to all resamples at once.
    The same seed draws the same rows, so statistics of equally many rows are paired.
    """
    rows_nm = _matrix(rows_nm)
    point_k = statistic(rows_nm.sum(axis=0))
    sums = [_counts(draws_bn) @ rows_nm for draws_bn in resamples(len(rows_nm), seed, n)]
    low_k, high_k = np.quantile(statistic(np.concatenate(sums)), [0.025, 0.975], axis=0)
    return [Interval(float(p), float(a), float(b)) for p, a, b in zip(point_k, low_k, high_k, strict=True)]


def bootstrap_median(values: NDArray[np.floating], seed: int = 0, n: int = 2000) -> Interval:
    """Median of `values` [n] with its percentile bootstrap 95% interval."""
    column = _matrix(np.asarray(values)[:, None])[:, 0]
    medians = [np.median(column[draws_bn], axis=1) for draws_bn in resamples(len(column), seed, n)]
    low, high = np.quantile(np.concatenate(medians), [0.025, 0.975])
    return Interval(float(np.median(column)), float(low), float(high))


def paired_permutation(
    a: NDArray[np.floating], b: NDArray[np.floating], seed: int = 0, n: int = 10_000
) -> tuple[float, float]:
    """Mean of `a - b` over pairs, and the two-sided p of it under random swaps within pairs.

    The observed assignment counts as one of the permutations, so p is never 0 (Phipson and Smyth 2010).
    """
    if a.shape != b.shape:
        raise ValueError(f"paired values differ in shape: {a.shape} and {b.shape}")
    difference_n = _matrix(np.asarray(a - b)[:, None])[:, 0]
    observed = abs(difference_n.sum())
    # A swap of equals must count as equally extreme, whatever the order of its float additions.
    threshold = observed - 1e-12 * np.abs(difference_n).sum()
    extreme = sum(int((np.abs(sums) >= threshold).sum()) for sums in _swapped(difference_n, seed, n))
    return float(difference_n.mean()), (extreme + 1) / (n + 1)


def resamples(rows: int, seed: int, n: int) -> Iterator[NDArray[np.int64]]:
    """`n` bootstrap samples of row numbers, in blocks [b, rows]; a function of its arguments only."""
    generator = np.random.default_rng(seed)
    for block in _blocks(rows, n):
        yield generator.integers(0, rows, size=(block, rows))


def _blocks(rows: int, n: int) -> list[int]:
    size = max(1, BLOCK_DRAWS // rows)
    return [min(size, n - start) for start in range(0, n, size)]


def _swapped(difference_n: Floats, seed: int, n: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    for block in _blocks(len(difference_n), n):
        signs = generator.integers(0, 2, size=(block, len(difference_n)), dtype=np.int8) * 2 - 1
        yield signs @ difference_n


def _counts(draws_bn: NDArray[np.int64]) -> Floats:
    """How often each row was drawn: sums over draws become one matrix product."""
    block, rows = draws_bn.shape
    flat = draws_bn + np.arange(block)[:, None] * rows
    return np.bincount(flat.ravel(), minlength=block * rows).reshape(block, rows).astype(np.float64)


def _matrix(rows_nm: NDArray[np.floating]) -> Floats:
    if not len(rows_nm):
        raise ValueError("no values: an interval needs at least one")
    if not np.isfinite(rows_nm).all():
        raise ValueError("values are not finite: a metric produced NaN or infinity")
    return rows_nm.astype(np.float64)
