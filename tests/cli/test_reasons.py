"""Claims beside what supports them, for a reader."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from forwhy.cli.reasons import VOICES, because_lines, claim_lines, item_lines
from forwhy.systems.hybrid import Expert

TEXT = "You love fresh oysters and a long walk on the beach."
CLAIMS: list[dict[str, Any]] = [
    {"text": "fresh oysters", "evidence": ["i2", "u1"], "support": 0.9},
    {"text": "long walk on the beach", "evidence": [], "support": 0.1},
]
STATEMENTS = [
    {"id": "i2", "side": "item", "text": "raw oysters, half shell", "source": "review", "about": "bar"},
    {"id": "u1", "side": "user", "text": "oysters", "source": "phrase", "about": "ann"},
]


def test_a_claim_stands_beside_what_supports_it_best() -> None:
    assert claim_lines(TEXT, CLAIMS, {"statements": STATEMENTS}, 80) == [
        'fresh oysters           <- i2 "raw oysters, half shell" (review)',
        "long walk on the beach  <- unsupported",
    ]


@pytest.mark.parametrize("width", [30, 45, 60])
def test_lines_are_cut_to_the_width_and_still_say_where_it_was_said(width: int) -> None:
    long = [{**STATEMENTS[0], "text": "raw\x1b[2J oysters\n" * 9}]
    for text in ("fresh oysters", "very fresh oysters " * 9):
        claims = [{**CLAIMS[0], "text": text}, CLAIMS[1]]
        lines = claim_lines(TEXT, claims, {"statements": long}, width)
        assert all(len(line) <= width and line.isprintable() for line in lines)
        assert lines[0].endswith('…" (review)')


def test_sentences_that_are_their_own_claims_are_not_said_twice() -> None:
    plain = [{"text": "You took pot.", "evidence": ["i2"], "support": 1.0}]
    assert claim_lines("You took pot.", plain, {"statements": STATEMENTS}, 80) == []
    assert claim_lines("Fine.", [], {"statements": []}, 80) == []


def test_claims_stand_below_the_sentence_and_not_in_half_a_page() -> None:
    row = {"rank": 1, "title": "Bar", "item_id": "bar", "score": 1.0, "explanation": TEXT, "because": None}
    row |= {"tokens": [], "claims": CLAIMS, "evidence": {"statements": STATEMENTS}}
    lines = item_lines(row, 80)
    assert lines[1] == f"     {TEXT}"
    assert [line.split("  <- ")[1] for line in lines[2:]] == [
        'i2 "raw oysters, half shell" (review)',
        "unsupported",
    ]
    assert not any("<-" in line for line in item_lines(row, 56))


def test_a_long_title_goes_on_below_itself_and_its_id_stays_whole() -> None:
    row = {"rank": 12, "title": "Filament " * 12 + "\nRed", "item_id": "filament-1.75mm-red", "score": -3.5}
    lines = item_lines(row, 80)
    assert len(lines) == 2
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    assert lines[0].startswith(" 12. Filament")
    assert lines[1].startswith("     Filament")
    assert lines[1].endswith("Red (filament-1.75mm-red)  -3.500")


def because(*contributions: float) -> dict[str, Any]:
    score = sum(contributions)
    shares = [
        {"user": f"<u.{n}>", "item": f"<i.{n}>", "contribution": one, "share": one / score}
        for n, one in enumerate(contributions)
    ]
    return {"kind": "words", "score": score, "shares": shares, "items": []}


def test_shares_are_percents_while_they_are_part_of_the_score() -> None:
    assert because_lines(because(0.4, 0.3, 0.2, 0.1), [], 80) == [
        " 40%  <u.0> meets <i.0>",
        " 30%  <u.1> meets <i.1>",
        " 20%  <u.2> meets <i.2>",
    ]


def test_where_they_are_more_than_all_it_is_said_what_speaks_against_it() -> None:
    assert because_lines(because(0.7, 0.3, 0.2, -0.05, -0.15), [], 80) == [
        " 70%  <u.0> meets <i.0>",
        " 30%  <u.1> meets <i.1>",
        " 20%  <u.2> meets <i.2>",
        "-15%  <u.4> meets <i.4>  speaks against it",
    ]


@pytest.mark.parametrize("contributions", [(0.42, -0.4), (0.3, 0.3, 0.3, -0.3, -0.3)])
def test_a_score_near_zero_is_told_by_what_adds_to_it(contributions: tuple[float, ...]) -> None:
    first, *lines = because_lines(because(*contributions), [], 80)
    assert first == f"score {sum(contributions):.3f}, the sum of much for it and against it:"
    assert lines[0] == f"+{contributions[0]:.3f}  <u.0> meets <i.0>"
    assert lines[-1].startswith("-")
    assert lines[-1].endswith("speaks against it")
    assert not any("%" in line for line in lines)


def test_the_experts_of_a_hybrid_are_told_in_words() -> None:
    told = because(1.0) | {"experts": {"content-knn": 0.29, "sasrec": 0.61, "item-knn": 0.1, "llm-bs": 0.001}}
    said = "chosen 61% by the order of what was taken, 29% by what is said of things, 10% by what is taken together"
    for width in (40, 80):
        lines = because_lines(told, [], width)[1:]
        assert " ".join(lines) == said
        assert max(map(len, lines)) <= width
    assert set(VOICES) == set(get_args(Expert))


def test_words_that_meet_twice_are_one_line() -> None:
    twice = because(0.5, 0.5)
    twice["shares"][1] |= {"user": "<u.0>", "item": "<i.0>"}
    assert because_lines(twice, [], 80) == ["100%  <u.0> meets <i.0>"]
