"""A reply as a checked value: JSON broken in form is mended, anything else is asked again, nothing guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from forwhy.errors import UserError
from forwhy.text.chat.asking import Malformed, Repaired

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

LARGEST_REPAIR = 1 << 16
"""Characters of the longest text that is mended; no answer that was asked for is longer."""
_NOT_JSON = "it is not one JSON value alone"
_TOKEN = re.compile(
    r"""("(?:[^"\\]|\\.)*")|('(?:[^'\\]|\\.)*')|([{}\[\]])|([^\s"'{}\[\],:]+)|([\s,:]+)""", re.DOTALL
)
_CLOSES = {"}": "{", "]": "["}
_LITERALS = {"True": True, "False": False, "None": None}


def json_reply(text: str, model: type[M]) -> tuple[M, bool]:
    """The value that a reply stands for, and whether its JSON had to be mended first.

    Mended are code fences and prose around one JSON value, a `<think>` block before it, trailing and missing
    commas, single quotes and Python's literals: what leaves every name, text, number and bracket as it stands
    in the reply, in that order. A value that is not closed is not closed here.

    Raises:
        Malformed: anything else; it names the first field that does not fit.
    """
    try:
        from_json(text)
    except ValueError:
        return _validated(json.dumps(_mended(text)), model), True
    return _validated(text, model), False


def fitting(model: type[M], then: Callable[[M], T]) -> Callable[[str], T | Repaired[T]]:
    """A `Task.parse`: the reply as `model`, then what a caller makes of it (which may raise `Malformed`)."""

    def parse(text: str) -> T | Repaired[T]:
        found, repaired = json_reply(text, model)
        value = then(found)
        return Repaired(value) if repaired else value

    return parse


def _validated(text: str, model: type[M]) -> M:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the whole value"
        said = "".join(letter if letter.isprintable() else " " for letter in f"{place[:100]}: {first['msg']}")
        raise Malformed(said[:200]) from None


def _mended(text: str) -> Any:  # noqa: ANN401 - JSON is any of these
    """The one JSON value in a text, by json-repair, where that changes no name, text, number or bracket."""
    try:
        from json_repair import loads
    except ModuleNotFoundError as error:
        raise UserError("json-repair is not installed; `pip install 'forwhy[chat]'` brings it") from error
    if len(text) > LARGEST_REPAIR:
        raise Malformed(f"{_NOT_JSON}, and far too long")
    value, leaves = _only_value(text.rpartition("</think>")[2])
    try:
        mended = loads(value, skip_json_loads=True)
        same = json.dumps(list(_leaves(mended))) == json.dumps(leaves)
    except (ValueError, RecursionError):
        same = False
    if not same:
        raise Malformed(_NOT_JSON)
    return mended


def _only_value(text: str) -> tuple[str, list[Any]]:
    """The one object or list of a text, from its bracket to the one that closes it, and the leaves in it."""
    found = []
    start = _opening(text, 0)
    while start is not None:
        end, leaves = _closing(text, start)
        found.append((text[start:end], leaves))
        start = _opening(text, end)
    if len(found) != 1:
        raise Malformed("there are several JSON values in it" if found else "there is no JSON value in it")
    return found[0]


def _opening(text: str, start: int) -> int | None:
    found = re.compile(r"[{\[]").search(text, start)
    return None if found is None else found.start()


def _closing(text: str, start: int) -> tuple[int, list[Any]]:
    """Where the value that begins at `start` has ended, and its leaves as they are written."""
    leaves: list[Any] = []
    open_brackets: list[str] = []
    place = start
    while found := _TOKEN.match(text, place):
        place = found.end()
        bracket = found[3]
        if bracket in _CLOSES:
            if open_brackets.pop() != _CLOSES[bracket]:
                break
        elif bracket:
            open_brackets.append(bracket)
        elif not found[5]:
            leaves.append(_leaf(found[0]))
        if not open_brackets:
            return place, leaves
    raise Malformed("its JSON is not closed" if place >= len(text) else _NOT_JSON)


def _leaf(token: str) -> Any:  # noqa: ANN401 - JSON is any of these
    if token in _LITERALS:
        return _LITERALS[token]
    if token.startswith("'"):
        inner = token[1:-1].replace("\\'", "'")
        token = '"' + re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', inner, flags=re.DOTALL) + '"'
    try:
        return json.loads(token, strict=False)
    except ValueError:
        raise Malformed(_NOT_JSON) from None


def _leaves(value: object) -> Iterator[object]:
    """Names, texts, numbers and literals in the order they are written in."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield name
            yield from _leaves(part)
    elif isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value
