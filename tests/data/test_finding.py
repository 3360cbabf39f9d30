"""Copied texts are found, unrelated ones are not; the share equals a comparison of every pair."""

from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.data.finding import HOLDERS, nearest, plain_words, word_lists

LONG = (
    "The user would enjoy this small bakery because it bakes sourdough at night, sells it warm before seven, and "
    "keeps two tables by the window for those who read the paper with a slice of rye."
)
OTHER = (
    "A film about a lighthouse keeper, slow and nearly without words, whose last half hour turns into a chase over "
    "ice that nobody who saw the quiet opening could have expected."
)
SENTENCES = st.lists(st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join), min_size=1, max_size=8)


def shares(texts: list[str], sources: list[str], run: int = 8) -> dict[int, float]:
    found = nearest(pl.Series(texts, dtype=pl.String), pl.Series(sources, dtype=pl.String), run)
    return dict(zip(found["row"].to_list(), found["share"].to_list(), strict=True))


def runs(text: str, run: int) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + run]) for at in range(len(words) - run + 1)}


@given(SENTENCES, SENTENCES, st.integers(1, 4))
def test_equals_a_comparison_of_every_pair(texts: list[str], sources: list[str], run: int) -> None:
    expected = {}
    for row, text in enumerate(texts):
        mine = runs(text, run)
        best = (
            max((len(mine & runs(source, run)) / len(mine) for source in sources), default=0) if mine else 0
        )
        if best:
            expected[row] = best
    assert shares(texts, sources, run) == pytest.approx(expected)


@given(SENTENCES, st.randoms())
def test_order_of_sources_does_not_matter(sources: list[str], random: Random) -> None:
    shuffled = sources.copy()
    random.shuffle(shuffled)
    assert shares(["a b c d a b", "d d a"], sources, 2) == shares(["a b c d a b", "d d a"], shuffled, 2)


def test_a_copy_is_whole_whatever_its_case_and_marks() -> None:
    assert shares([LONG], [OTHER, LONG.upper().replace(",", " -- ")]) == {0: 1.0}


def test_a_part_of_a_longer_text_is_whole() -> None:
    assert shares([LONG], [f"{OTHER} {LONG} {OTHER}"]) == {0: 1.0}


def test_one_changed_word_breaks_at_most_eight_runs() -> None:
    changed = LONG.replace("sourdough", "baguettes")
    words = len(LONG.split())
    assert shares([changed], [LONG])[0] == pytest.approx(1 - 8 / (words - 7))


def test_unrelated_texts_share_nothing() -> None:
    assert shares([LONG], [OTHER]) == {}


def test_words_are_not_joined_across_texts() -> None:
    halves = LONG.split()
    cut = len(halves) // 2
    assert shares([LONG], [" ".join(halves[:cut]), " ".join(halves[cut:])])[0] < 0.6


def test_a_text_copied_more_often_than_is_looked_at_is_still_whole() -> None:
    stock = "The user would enjoy this small bakery because it is far away from everything."
    assert shares([LONG], [stock] * 3 * HOLDERS + [LONG] * 3 * HOLDERS)[0] > 0.7


def test_empty_short_and_wordless_texts_are_absent() -> None:
    assert shares(["", "word", "🙂🙂", "one two three four five six seven"], ["", "word", "🙂🙂", LONG]) == {}
    assert shares([], [LONG]) == shares([LONG], []) == {}


def test_ten_thousand_words() -> None:
    text = " ".join(f"w{number}" for number in range(10_000))
    assert shares([text], [text + " end", LONG]) == {0: 1.0}


def test_scripts_without_spaces_have_words() -> None:
    assert word_lists(pl.Series(["東京 tower_1 ไทย", "naïve don't"])).to_list() == [
        ["東", "京", "tower_1", "ไ", "ท", "ย"],
        ["naïve", "don", "t"],
    ]


def test_runs_match_only_between_equal_keys() -> None:
    texts, sources = pl.Series([LONG, LONG]), pl.Series([LONG])
    found = nearest(texts, sources, about=(pl.Series(["1", "2"]), pl.Series(["2"])))
    assert found.rows() == [(1, 0, 1.0)]


def test_plain_words_ignore_case_marks_and_spaces() -> None:
    assert plain_words(pl.Series(["  A (red)\tHAT! ", "🙂"])).to_list() == ["a red hat", ""]
