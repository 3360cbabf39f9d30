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
_BRACKET = re.compile(r"[{}\[\]]")
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
        from_json(text.encode())
    except UnicodeEncodeError:
        raise Malformed("it holds half a character (a lone surrogate)") from None
    except ValueError:
        return _validated(json.dumps(_mended(text)), model), True
    return _validated(text, model), False


def fitting(model: type[M], then: Callable[[M], T]) -> Callable[[str], T | Repaired[T]]:
    """A `Inquiry.parse`: the reply as `model`, then what a caller makes of it (which may raise `Malformed`)."""

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
    """The one JSON value in a text; json-repair sees its brackets, commas and colons only."""
    try:
        from json_repair import loads
    except ModuleNotFoundError as error:
        raise UserError("json-repair is not installed; `pip install 'forwhy[chat]'` brings it") from error
    if len(text) > LARGEST_REPAIR:
        raise Malformed(f"{_NOT_JSON}, and far too long")
    shape, leaves = _only_value(_without_thoughts(text))
    try:
        numbered = loads(shape)
        if list(_leaves(numbered)) == [str(number) for number in range(len(leaves))]:
            return _filled(numbered, leaves)
    except (ValueError, RecursionError):
        pass
    raise Malformed(_NOT_JSON)


def _without_thoughts(text: str) -> str:
    return text.partition("</think>")[2] if text.lstrip().startswith("<think>") else text


def _only_value(text: str) -> tuple[str, list[Any]]:
    """The one object or list of a text: its shape, with numbers for leaves, and the leaves."""
    opening = _BRACKET.search(text)
    if opening is None:
        raise Malformed("there is no JSON value in it")
    end, shape, leaves = _closing(text, opening.start())
    if opening[0] in _CLOSES or _BRACKET.search(text, end):
        raise Malformed(f"{_NOT_JSON}: there are brackets outside of it")
    return shape, leaves


def _closing(text: str, place: int) -> tuple[int, str, list[Any]]:
    """Where the value that begins at `place` has ended, its shape, and its leaves."""
    shape: list[str] = []
    leaves: list[Any] = []
    open_brackets: list[str] = []
    while found := _TOKEN.match(text, place):
        place, bracket = found.end(), found[3]
        if bracket in _CLOSES:
            if not open_brackets or open_brackets.pop() != _CLOSES[bracket]:
                break
        elif bracket:
            open_brackets.append(bracket)
        is_leaf = not (bracket or found[5])
        shape.append(f'"{len(leaves)}"' if is_leaf else found[0])
        leaves += [_leaf(found[0])] if is_leaf else []
        if not open_brackets:
            return place, "".join(shape), leaves
    raise Malformed(_NOT_JSON if found else "its JSON is not closed")


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


def _filled(shape: Any, leaves: list[Any]) -> Any:  # noqa: ANN401 - JSON is any of these
    """The shape with its leaves in their places.

    Raises:
        ValueError: a name that is no text, or one twice.
    """
    if isinstance(shape, list):
        return [_filled(part, leaves) for part in shape]
    if not isinstance(shape, dict):
        return leaves[int(shape)]
    filled = {leaves[int(name)]: _filled(part, leaves) for name, part in shape.items()}
    if len(filled) < len(shape) or not all(isinstance(name, str) for name in filled):
        raise ValueError("not the names of an object")
    return filled
