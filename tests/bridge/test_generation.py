"""The word cap, and the same text word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.bridge.generation import finish, pieces, standing

LONG = 'The user likes tea. The cake is "fresh." And then it goes on and on without end'


def test_a_text_is_cut_at_its_last_sentence_end_within_the_cap() -> None:
    assert finish("  One  two.\nThree four. ", True, 4) == "One two. Three four."
    assert finish(LONG, True, 12) == 'The user likes tea. The cake is "fresh."'
    assert finish(LONG, True, 7) == "The user likes tea."
    assert finish(LONG, True, 3) == "The user likes"
    assert finish(LONG, False, 60) == 'The user likes tea. The cake is "fresh."'
    assert finish("It costs 3.50 euros. Or", False, 60) == "It costs 3.50 euros."
    assert finish("", True, 5) == ""


@given(st.text(alphabet="ab. !\n", max_size=60), st.integers(1, 8), st.integers(1, 5), st.booleans())
def test_pieces_are_never_taken_back(text: str, cap: int, step: int, ended: bool) -> None:
    grown = [(text[:end], False) for end in range(step, len(text), step)] + [(text, ended)]
    assert "".join(pieces(grown, cap)) == finish(text, ended, cap)


def test_the_first_sentence_comes_word_by_word() -> None:
    grown = [("The", False), ("The user", False), ("The user likes", False), ("The user likes tea.", True)]
    assert list(pieces(grown, 60)) == ["The", " user", " likes", " tea."]


@pytest.mark.parametrize("between", [" ", "\n", "\t", "\x1c"])
def test_what_stands_of_a_growing_text_is_never_taken_back(between: str) -> None:
    text, said = f"A quiet{between}terrace and{between}cake", ""
    for end in range(len(text) + 1):
        now = standing(text[:end], 60)
        assert now.startswith(said)
        said = now
    assert said == "A quiet terrace and"
