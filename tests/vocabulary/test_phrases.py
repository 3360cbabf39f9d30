"""Glosses that can be read aloud."""

from __future__ import annotations

import numpy as np
import pytest

from forwhy.vocabulary.phrases import PhraseBook, describe_words

COMMON = ("smoky black tea", "Italian cooking from the South", "tales of the South", "visits to the South")


def glosses(*phrases: str, items: int = 0) -> list[str]:
    """Of the one word that all share; every phrase points elsewhere, unless it is a near copy (``~``).

    The first phrase is said of so many items.
    """
    said = tuple(phrase.removeprefix("~") for phrase in phrases)
    vectors = np.eye(len(said), dtype=np.float32)
    for row, phrase in enumerate(phrases):
        if phrase.startswith("~"):
            vectors[row] = 0.95 * vectors[row - 1] + np.sqrt(1 - 0.95**2) * vectors[row]
    rows = {"user": np.arange(len(said))[None], "item": np.array([[0]] * items + [[-1]])}
    book = PhraseBook(said, vectors, rows)
    words = np.ones((2, len(said)), np.float32)
    table = describe_words({"user_macro": words}, {"user": np.zeros((1, 1), np.int32)}, {}, book)
    return table["gloss"][0].to_list()


@pytest.mark.parametrize(
    "bad",
    [
        "Michael Keaton in a cape",
        "anything by Chaplin",
        "Smucker's",
        "Très bien",
        "true",
        "a very long phrase that nobody would want to hear read aloud",
    ],
)
def test_names_filler_and_long_phrases_are_no_glosses(bad: str) -> None:
    found = glosses(bad, *COMMON)
    assert bad not in found
    assert set(found) == set(COMMON)


def test_phrases_that_say_the_same_stand_once() -> None:
    found = glosses(*COMMON, "~Visits to the South")
    assert sorted(map(str.lower, found)) == sorted(map(str.lower, COMMON))


def test_where_nothing_is_fit_there_is_something_to_read() -> None:
    assert glosses("Smucker's") == ["Smucker's"]


@pytest.mark.parametrize("phrase", ["Saatgut & Blumenzwiebeln", "Töpfe und Kübel", "Garden Furniture"])
def test_what_is_said_of_several_items_is_no_name(phrase: str) -> None:
    assert phrase in glosses(phrase, *COMMON, items=3)
    assert "anything by Chaplin" not in glosses("anything by Chaplin", *COMMON, items=2)
