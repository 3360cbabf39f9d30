"""A vocabulary of words against plain counting, and texts that read like sentences."""

from __future__ import annotations

from collections import Counter

import pytest

from forwhy.errors import UserError
from forwhy.explain.words import CONTROL, EOS, UNK, Words, cut, joined

TEXTS = [
    "The user would enjoy the cake, and the Thai soup.",
    "Cake for R&B fans (e.g. Thai cake)!",
    "It's a 4.5-star place; the soup isn't Thai.",
]


@pytest.mark.parametrize("least", [1, 2, 3])
@pytest.mark.parametrize("most", [2, 5, 100])
def test_it_is_the_most_frequent_words(most: int, least: int) -> None:
    counts = Counter(word.lower() for text in TEXTS for word in cut(text))
    wanted = sorted((it for it in counts if counts[it] >= least), key=lambda it: (-counts[it], it))[:most]
    words = Words.of(TEXTS, most, least)
    assert words.table["word"].to_list() == wanted
    assert words.table["count"].to_list() == [counts[it] for it in wanted]
    assert len(words) == len(wanted) + len(CONTROL)
    for text in TEXTS:
        expected = [
            len(CONTROL) + wanted.index(it) if it in wanted else UNK for it in map(str.lower, cut(text))
        ]
        assert words.numbers(text) == expected


def test_a_text_comes_back_as_it_was() -> None:
    words = Words.of(TEXTS, 100, 1)
    assert [words.text(words.numbers(text)) for text in TEXTS] == TEXTS
    assert words.text(words.numbers("thai cake. cake.")) == "Thai cake. Cake."


def test_control_words_cannot_be_written_in_a_text() -> None:
    words = Words.of([*TEXTS, "<eos> <bos> <pad>"], 100, 1)
    assert min(words.numbers("<eos> the cake <pad>")) >= UNK
    assert words.numbers("zebra") == [UNK]
    assert EOS not in words.numbers("<eos>")


def test_more_words_change_nothing_that_was_said() -> None:
    words = cut('He says "well, go." So (really!) e.g. "now" 5% off for the dogs\' owners… and/or "')
    for count in range(len(words)):
        assert joined(words[: count + 1]).startswith(joined(words[:count]))


@pytest.mark.parametrize("texts", [[], ["one two three"], ["", "  "], [". . .", ", , ."]])
def test_without_a_frequent_word_there_is_nothing_to_say(texts: list[str]) -> None:
    with pytest.raises(
        UserError, match=r"no word occurs 2 times .*; lower explainer\.least or bring more"
    ) as refused:
        Words.of(texts, 100, 2)
    assert "\n" not in str(refused.value)
