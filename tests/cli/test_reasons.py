"""Claims beside what supports them, for a reader."""

from __future__ import annotations

from typing import Any

import pytest

from forwhy.cli.reasons import claim_lines, item_lines

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
