"""FMR, FCR and DIV: by hand, against the loop over pairs, and what is refused."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate.text import Features, div, score_texts

CATALOGUE = ["tea", "cake", "wi-fi", "staff"]


def test_by_hand() -> None:
    texts = ["Good tea, and wi-fi!", "the cakes", "cake and tea", "tea"]
    features = Features([["tea"], ["cake"], ["staff", "Cake"], []], CATALOGUE)
    found = score_texts(texts, ["x"] * 4, features=features)
    # Of three pairs with features the first and third name theirs; "cakes" is another word.
    assert found.corpus["fmr"] == pytest.approx(2 / 3)
    assert found.corpus["without_features"] == 1
    assert found.corpus["fcr"] == pytest.approx(3 / 4)
    # Of six pairs of texts, first-third, first-fourth and third-fourth share "tea".
    assert found.corpus["div"] == pytest.approx(3 / 6)
    interval = found.intervals()["fmr"]
    assert interval.mean == pytest.approx(2 / 3)
    assert 0 <= interval.low < interval.high <= 1


@given(st.lists(st.frozensets(st.integers(0, 5)), max_size=12))
def test_div_equals_the_loop_over_pairs(named: list[frozenset[int]]) -> None:
    shared = [len(a & b) for a, b in combinations(named, 2)]
    assert div(named) == pytest.approx(sum(shared) / len(shared) if shared else 0.0)


@given(st.lists(st.sets(st.sampled_from(CATALOGUE)), min_size=1, max_size=8))
def test_references_name_their_own_features(sets: list[set[str]]) -> None:
    texts = [" ".join(sorted(wanted)) for wanted in sets]
    found = score_texts(texts, texts, features=Features(sets, CATALOGUE)).corpus
    assert found["fmr"] == float(any(sets))
    assert found["fcr"] == len(set().union(*sets)) / len(CATALOGUE)


def test_without_features_they_are_not_measured() -> None:
    assert {"fmr", "fcr", "div"} & set(score_texts(["tea"], ["tea"]).corpus) == set()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (Features([["tea"]], CATALOGUE), "1 sets for 2 pairs"),
        (Features(["tea", "cake"], CATALOGUE), r"'tea': a set of words is needed; give \['tea'\]"),
        (Features([[], []], []), "catalogue is empty"),
        (Features([[], []], ["tea", "front desk"]), "'front desk' is 2 words"),
        (Features([["don't"], []], ["tea"]), "is 2 words"),
        (Features([[" "], []], ["tea"]), "is 0 words"),
    ],
)
def test_what_does_not_fit_is_refused(features: Features, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_texts(["a", "b"], ["a", "b"], features=features)
