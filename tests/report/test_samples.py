"""Cutting and marking lose nothing of a text, and say what is left out."""

from hypothesis import given
from hypothesis import strategies as st

from forwhy.report.samples import FOLD, VIEW, passage
from forwhy.report.writing import clean

TEXTS = st.text(max_size=2000) | st.text("ab ,.", max_size=2000)


@given(TEXTS, st.lists(st.text("ab ,.", max_size=6), max_size=5))
def test_view_and_fold_are_the_text(text: str, claims: list[str]) -> None:
    cut, unplaced = passage(text, claims)
    whole = "".join(piece for piece, _ in [*cut.view, *cut.fold])
    assert whole == clean(text).strip()
    assert cut.left_out == 0
    assert set(unplaced) <= set(claims)
    marked = "".join(piece if yes else "\0" for piece, yes in [*cut.view, *cut.fold])
    words = " ".join(marked.lower().split())
    assert all(" ".join(claim.lower().split()) in words for claim in set(claims) - set(unplaced))


@given(st.text(min_size=1, max_size=50))
def test_what_is_left_out_is_counted(text: str) -> None:
    long = text * (FOLD // len(text) + 2)
    cut, _ = passage(long)
    shown = sum(len(piece) for piece, _ in [*cut.view, *cut.fold])
    assert shown + cut.left_out == len(clean(long).strip())
    assert shown <= FOLD


def test_a_claim_is_marked_whatever_its_spaces_and_case() -> None:
    cut, unplaced = passage("The Friendly\n  staff, and cake.", ["friendly staff", "a view"])
    assert cut.view == [("The ", False), ("Friendly\n  staff", True), (", and cake.", False)]
    assert unplaced == ["a view"]


def test_claims_that_overlap_are_one_mark() -> None:
    cut, _ = passage("good warm tea", ["good warm", "warm tea", "tea"])
    assert cut.view == [("good warm tea", True)]


def test_a_view_ends_at_a_space_and_not_within_a_claim() -> None:
    text = " ".join(f"word{number}" for number in range(200))
    cut, _ = passage(text)
    assert sum(len(piece) for piece, _ in cut.view) <= VIEW
    assert cut.fold[0][0].startswith(" word")
    claim = text[VIEW - 20 : VIEW + 20].partition(" ")[2].rpartition(" ")[0]
    cut, unplaced = passage(text, [claim])
    assert unplaced == []
    assert cut.fold[0] == (claim, True)
