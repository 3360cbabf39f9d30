"""Intervals and permutation tests against scipy's."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from forwhy.evaluate.significance import (
    Interval,
    bootstrap,
    bootstrap_interval,
    bootstrap_means,
    bootstrap_median,
    effect_size,
    flatten,
    holm,
    permute,
)


def paired_permutation(a: np.ndarray, b: np.ndarray, n: int = 10_000) -> tuple[float, float]:
    """Mean difference of pairs, and its p."""
    p = permute(a[:, None], b[:, None], lambda sums: sums / len(a), n=n)
    return float((a - b).mean()), float(p[0])


VALUES = np.random.default_rng(1).gamma(2.0, size=200)


@pytest.mark.parametrize("statistic", [np.mean, np.median])
def test_interval_equals_scipys_percentile_bootstrap(statistic: Callable[..., float]) -> None:
    ours = bootstrap_interval(VALUES, n=9999) if statistic is np.mean else bootstrap_median(VALUES, n=9999)
    theirs = stats.bootstrap((VALUES,), statistic, method="percentile", rng=np.random.default_rng(2))
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.mean == pytest.approx(statistic(VALUES))
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_interval_of_a_ratio_holds_its_point() -> None:
    rows = np.stack([VALUES, np.arange(1.0, 201)], axis=1)
    (ratio,) = bootstrap(rows, lambda sums: sums[..., :1] / sums[..., 1:])
    assert ratio.mean == pytest.approx(VALUES.sum() / 20100)
    assert ratio.low < ratio.mean < ratio.high


def test_same_seed_same_interval_and_shared_draws() -> None:
    both = bootstrap_means({"a": VALUES, "b": 2 * VALUES}, seed=3)
    assert both["a"] == pytest.approx(tuple(bootstrap_interval(VALUES, seed=3)))
    assert both["b"] == pytest.approx(tuple(2 * end for end in both["a"]))
    assert bootstrap_interval(VALUES, seed=4).low != pytest.approx(both["a"].low, rel=1e-6)


def test_constant_values_have_no_width() -> None:
    assert bootstrap_interval(np.full(7, 0.5)) == Interval(0.5, 0.5, 0.5)


def test_permutation_equals_scipys() -> None:
    a, b = VALUES[:30], VALUES[30:60] * 0.8
    difference, p = paired_permutation(a, b)
    theirs = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=20_000, rng=0
    )
    assert difference == pytest.approx(theirs.statistic)
    assert p == pytest.approx(theirs.pvalue, abs=0.02)


def test_permutation_of_equals_and_of_extremes() -> None:
    assert paired_permutation(VALUES, VALUES) == (0.0, 1.0)
    assert paired_permutation(VALUES + 1, VALUES, n=999)[1] == pytest.approx(1 / 1000)
    # Three pairs, all in favour: 2 of 8 sign patterns are as extreme.
    assert paired_permutation(np.ones(3), np.zeros(3))[1] == pytest.approx(0.25, abs=0.02)


def stepwise(p: list[float]) -> list[float]:
    """Holm's procedure as statsmodels states it: the running maximum of p x (hypotheses left), cut at 1."""
    corrected, largest = [0.0] * len(p), 0.0
    for done, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        largest = max(largest, (len(p) - done) * p[place])
        corrected[place] = min(1.0, largest)
    return corrected


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1, 1])
    assert holm([0.02]) == pytest.approx([0.02])
    assert len(holm([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_equals_the_steps_keeps_order_and_is_never_below_p(p: list[float]) -> None:
    corrected = holm(p)
    assert corrected == pytest.approx(stepwise(p))
    assert (corrected >= p).all()
    assert (corrected <= 1).all()
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    assert corrected[::-1] == pytest.approx(holm(p[::-1]))


def test_effect_size_by_hand_and_of_constant_differences() -> None:
    a, b = np.array([3.0, 5.0, 4.0, 8.0]), np.array([1.0, 4.0, 4.0, 7.0])
    assert effect_size(a, b) == pytest.approx(1 / np.sqrt(2 / 3))  # differences 2, 1, 0, 1
    assert effect_size(b, a) == -effect_size(a, b)
    assert effect_size(10 * a, 10 * b) == pytest.approx(effect_size(a, b))
    assert effect_size(VALUES, VALUES) == 0
    assert effect_size(VALUES, VALUES + 0.1) == -np.inf
    with pytest.raises(ValueError, match="two pairs"):
        effect_size(np.ones(1), np.zeros(1))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval(np.empty(0))
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="shape"):
        permute(np.ones((2, 1)), np.ones((3, 1)), lambda sums: sums)


def test_flat_form() -> None:
    assert flatten({"hr": Interval(0.5, 0.25, 0.75)}) == {"hr": 0.5, "intervals": {"hr": [0.25, 0.75]}}
