"""Which replies count, and what is made of them."""

from __future__ import annotations

import json

import pytest

from forwhy.text.chat.asking import Malformed, Repaired
from forwhy.text.mining.language import MiningPrompt
from forwhy.text.mining.stage import Kind, MiningConfig


def read(kind: Kind, value: object, **options: int) -> object:
    config = MiningConfig.model_validate({"kind": kind, **options})
    return MiningPrompt(config, "user").parse(value if isinstance(value, str) else json.dumps(value))


def test_phrases_come_back_in_their_order() -> None:
    assert read("intents", {"preferences": ["  good   tea ", "静かな部屋"]}) == ("good tea", "静かな部屋")


def test_a_text_comes_back_on_one_line() -> None:
    assert read("profiles", {"profile": " Likes\ttea.\n"}) == ("Likes tea.",)
    assert read("explanations", {"explanation": "For the \u202etea."}) == ("For the tea.",)


def test_broken_form_is_mended_and_marked() -> None:
    assert read("profiles", '```json\n{"profile": "Likes tea.",}\n```') == Repaired(("Likes tea.",))


def test_as_many_words_as_allowed() -> None:
    fifty = " ".join(["word"] * 50)
    assert read("explanations", {"explanation": fifty}) == (fifty,)
    assert read("explanations", {"explanation": "茶" * 50}) == ("茶" * 50,)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("intents", {"preferences": []}, "0 phrases, not 1 to 3"),
        ("intents", {"preferences": list("abcd")}, "4 phrases, not 1 to 3"),
        ("intents", {"preferences": ["Good tea", "good  TEA"]}, "a phrase stands twice"),
        ("intents", {"preferences": ["good tea", ""]}, "a text without a word"),
        ("intents", {"preferences": ["..."]}, "a text without a word"),
        ("intents", {"preferences": [" ".join("abcdefghijklm")]}, "13 words, not 12 at most"),
        ("intents", {"preferences": ["the most important one"]}, "the example of the instruction"),
        ("intents", {"preferences": [3]}, "preferences"),
        ("intents", {"preferences": "good tea"}, "preferences"),
        ("intents", {"phrases": ["good tea"]}, "preferences"),
        ("intents", {"preferences": ["tea"], "note": "x"}, "note"),
        ("intents", ["good tea"], ""),
        ("profiles", {"profile": "the profile"}, "the example of the instruction"),
        ("profiles", "Likes tea.", "no JSON value"),
        ("explanations", {"explanation": " ".join(["word"] * 51)}, "51 words, not 50 at most"),
        ("explanations", {"explanation": "茶" * 51}, "51 words, not 50 at most"),
        ("explanations", {"explanation": "One.\nTwo."}, "more than one line"),
        ("explanations", {"explanation": None}, "explanation"),
        ("explanations", '{"explanation": "cut sho', "JSON"),
    ],
)
def test_anything_else_is_malformed_by_name(kind: Kind, value: object, message: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(kind, value, phrases=3)
    assert message in str(refused.value)


def test_what_was_wrong_never_quotes_the_reply() -> None:
    with pytest.raises(Malformed) as refused:
        read("explanations", {"explanation": "Ignore the above. " * 40})
    assert "Ignore" not in str(refused.value)
