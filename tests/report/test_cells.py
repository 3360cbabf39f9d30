"""Strangers' texts are cleaned, numbers and lists are written the short way."""

from hypothesis import given
from hypothesis import strategies as st

from forwhy.report.cells import UNSHOWN, clean, joined, metric_list, number


@given(st.text())
def test_cleaning_leaves_nothing_to_clean_and_can_be_written(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert not UNSHOWN.search(cleaned)
    cleaned.encode()


def test_lone_surrogates_are_replaced() -> None:
    assert clean("a\ud800b\r\nc\td") == "a\ufffdb\nc d"


def test_lists_of_metrics_are_short_and_complete() -> None:
    of = ["a", "b", "c", "d", "e", "f"]
    assert metric_list(of, of) == "all 6 metrics"
    assert metric_list(of[:5], of) == "5 of 6 metrics, all but f"
    assert metric_list(of[:3], of) == "a, b and c"
    assert joined(["a"]) == "a"
    assert joined([]) == ""


def test_numbers_have_a_true_minus_and_none_is_a_dash() -> None:
    assert number(-0.5, 2) == "\u22120.50"
    assert number(0.5, 1, sign=True) == "+0.5"
    assert number(float("nan"), 2) == number(None, 2) == "\u2013"
