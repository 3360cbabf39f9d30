"""Word splitting against nltk's own tokenizer."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.evaluate.overlap import split_words, words
from forwhy.text.statements import sentences

tokenizer = pytest.importorskip("nltk.tokenize.destructive").NLTKWordTokenizer()

TRICKY = [
    "they can't, won't and shouldn't; it's ann's (and the dogs') place.",
    'she said "great food!" and left... twice -- or 3,000 times',
    "u.s. prices: $3.88 & up, 50% off #1 @home *wow* <b>[x]{y}",
    "gonna wanna gotta lemme gimme cannot more'n d'ye 'tis 'twas don't you'll we've",
    "«oui» “quoted” ‘single’ „low‟ rock 'n' roll – dash — em",
    'ends in quotes." ',
    "a.b.c. x.y",
    "``tex'' quotes",
    "😀 emoji ünïcode",
]


@pytest.mark.parametrize("text", TRICKY)
def test_equal_to_nltk(text: str) -> None:
    assert split_words(text) == tokenizer.tokenize(text)


PARTS = [
    "can",
    "not",
    "gonna",
    "'s",
    "n't",
    "'",
    '"',
    "``",
    "''",
    ".",
    "...",
    ",",
    ":",
    "3",
    "a",
    " ",
    "  ",
    "(",
    "]",
]


CONTRACTED = [
    "cannot",
    "d'ye",
    "gimme",
    "gonna",
    "gotta",
    "lemme",
    "more'n",
    "wanna",
    "'tis",
    "'twas",
    "a",
    "-",
    " ",
    "'",
]


@given(st.lists(st.sampled_from(CONTRACTED)).map("".join))
def test_equal_to_nltk_on_contractions(text: str) -> None:
    assert split_words(text) == tokenizer.tokenize(text)


@given(
    st.lists(
        st.sampled_from([*PARTS, *"—»«“”‘’„!?*;@#$%&)[{}<>`é\n", "--", "wan", "na", "'t", "is", "'ll"])
    ).map("".join)
)
def test_equal_to_nltk_on_any_mixture(text: str) -> None:
    assert split_words(text) == tokenizer.tokenize(text)


def test_sentences_end_at_marks_but_not_after_abbreviations() -> None:
    text = 'dr. smith likes tea. "really?" yes! e.g. green (or black.) j. doe agrees. ok'
    assert sentences(text) == [
        "dr. smith likes tea.",
        '"really?"',
        "yes!",
        "e.g. green (or black.)",
        "j. doe agrees.",
        "ok",
    ]


def test_lower_case_and_final_periods_of_every_sentence() -> None:
    assert words("Good Food. COSY place.") == ("good", "food", ".", "cosy", "place", ".")
    assert words("") == words(" \n ") == ()


@pytest.mark.parametrize(
    "text", ["." * 100_000, "a. " * 33_000, ".)" * 50_000, "' " * 50_000, '"' * 100_000, " " * 100_000]
)
def test_hostile_text_takes_linear_time(text: str) -> None:
    start = time.perf_counter()
    words(text)
    assert time.perf_counter() - start < 2
