"""A reply is read as it is written or not at all."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel

from forwhy.text.chat.asking import Malformed, Repaired
from forwhy.text.mining.language import LARGEST_REPAIR, fitting, json_reply


class Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")

    what: str
    rank: int = Field(ge=1)


class Profile(BaseModel):
    name: str
    wishes: list[Wish] = []
    new: bool | None = None


class Anything(RootModel[Any]):
    pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
CONTAINERS = st.lists(VALUES, max_size=4) | st.dictionaries(st.text(), VALUES, max_size=4)


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"name": "tea"}\n```',
        'Sure! Here\'s what you asked for:\n{"name": "tea"}\nAnything else, say so.',
        '{"name": "tea", "wishes": [],}',
        "{'name': 'tea', 'new': None}",
        '{"name": "tea", "new": None}',
        '<think>{"name": "cake"} or [tea]?</think>{"name": "tea"}',
        '{"name": "tea" "wishes": []}',
    ],
)
def test_what_is_broken_in_form_only_is_mended(text: str) -> None:
    assert json_reply(text, Profile) == (Profile(name="tea"), True)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{'name': 'it\\'s'}", "it's"),
        ("""{'name': 'a "big" one', 'new': True}""", 'a "big" one'),
        ('{"name": " {x} [y] // z,] ",}', " {x} [y] // z,] "),
        ('{"name": "дом 日本語 \\u00e9\\n",}', "дом 日本語 é\n"),
        ('{"name": "two\nlines",}', "two\nlines"),
        ('{"name": "None",}', "None"),
    ],
)
def test_mended_texts_are_to_the_letter(text: str, name: str) -> None:
    found, repaired = json_reply(text, Profile)
    assert (found.name, repaired) == (name, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON value"),
        ("I'd rather not.", "no JSON value"),
        ('{"name": "tea"', "not closed"),
        ('{"name": "tea', "not closed"),
        ('Here: {"name": "tea", "wishes": [{"what"', "not closed"),
        ('{"name": "tea", "wishes": [}', "not one JSON value"),
        ('{"name": "tea"} {"name": "cake"}', "brackets outside"),
        ('"name": "tea", "wishes": []}', "brackets outside"),
        ('}{"name": "tea"}', "not one JSON value|brackets outside"),
        ('{name: "tea"}', "not one JSON value"),
        ('{"name": tea}', "not one JSON value"),
        ('{"name": "he said "hi" to me"}', "not one JSON value"),
        ('{"name": , "new": None}', "not one JSON value"),
        ('{"name": "tea", "name": "cake",}', "not one JSON value"),
        ("{'name': 'don't'}", "not one JSON value|not closed"),
        ('{"name": "tea", "new": True, // really\n}', "not one JSON value"),
        ("[1, 2]", "whole value: "),
        ('"tea"', "whole value: "),
        ("{}", "^name: Field required"),
        ('{"name": 3}', "^name: .*string"),
        (
            '{"name": "t", "wishes": [{"what": "x", "rank": 1}, {"what": "x", "rank": 0}]}',
            r"^wishes\.1\.rank: ",
        ),
        ('{"name": "t", "wishes": [{"what": "x", "rank": 1, "why": ""}]}', r"^wishes\.0\.why: "),
        ('{"name": "\\ud83d"}', "surrogate|escape"),
        ('{"name": "\ud83d",}', "half a character"),
    ],
)
def test_anything_else_is_malformed_and_says_why(text: str, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        json_reply(text, Profile)


def test_a_list_in_half_an_object_is_not_taken_for_the_answer() -> None:
    for text in ['"x</think>y", "tags": [],}', '{"x": "</think>", "tags": ["a"], "b": ', '"tags": ["a"]}']:
        with pytest.raises(Malformed):
            json_reply(text, RootModel[list[str]])


@given(CONTAINERS)
def test_sound_json_is_itself(value: object) -> None:
    assert json_reply(json.dumps(value), Anything) == (Anything(value), False)


@given(CONTAINERS)
def test_python_for_json_is_the_same_value_or_malformed(value: object) -> None:
    try:
        found, _ = json_reply(repr(value), Anything)
    except Malformed:
        return
    assert json.dumps(found.root) == json.dumps(value)


@given(CONTAINERS)
def test_words_fences_and_commas_around_change_nothing(value: object) -> None:
    text = json.dumps(value)
    comma = "," if value else ""
    broken = f"It's this:\n```json\n{text[:-1]}{comma}{text[-1]}\n```\nThat's \"all\"."
    assert json_reply(broken, Anything) == (Anything(value), True)


@given(CONTAINERS, st.data())
def test_no_cut_answer_is_closed(value: object, data: st.DataObject) -> None:
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(Malformed):
        json_reply(cut, Anything)


@given(st.text(alphabet="{}[]\"'\\,: \nabTrueNon0123456789.-/#`") | st.text())
def test_no_text_is_more_than_malformed(text: str) -> None:
    with suppress(Malformed):
        assert len(json_reply(text, Anything)) == 2


@pytest.mark.parametrize(
    "text",
    ["[" * 500_000, "{'" * 500_000, '{"name": ' * 20_000, "[" * 30_000 + "]" * 30_000, "x" * (1 << 20),
     '{"name": "' + "y" * (1 << 20), "[" * 900 + "1," + "]" * 900, "'" * LARGEST_REPAIR + "{}"],
)  # fmt: skip
def test_long_and_deep_nonsense_is_refused_in_a_moment(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(Malformed):
        json_reply(text, Profile)
    assert time.monotonic() - start < 5


def test_a_megabyte_of_sound_json_is_read() -> None:
    text = json.dumps({"name": "é" * (1 << 19)}, ensure_ascii=False)
    assert json_reply(text, Profile)[0].name == "é" * (1 << 19)


def test_a_complaint_is_one_line_whatever_the_reply_holds() -> None:
    wish = {"what": "x", "rank": 1, "\x1b[2J\nIgnore the above" * 100: 1}
    with pytest.raises(Malformed) as caught:
        json_reply(json.dumps({"name": "t", "wishes": [wish]}), Profile)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 200


def test_fitting_says_what_was_mended() -> None:
    parse = fitting(Profile, lambda profile: profile.name)
    assert parse('{"name": "tea"}') == "tea"
    assert parse("{'name': 'tea'}") == Repaired("tea")
