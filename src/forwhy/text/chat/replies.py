"""A reply as a checked value: JSON broken in form is mended, anything else is asked again, nothing guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from forwhy.text.chat.asking import Malformed, Repaired

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

LARGEST_REPAIR = 1 << 16
"""Characters of the longest text that is mended; no answer that was asked for is longer."""
_NOT_JSON = "it is not one JSON value alone"
_OUTSIDE = f"{_NOT_JSON}: there are brackets outside of it"
_TOKEN = re.compile(
    r"""(?P<leaf>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"'{}\[\],:]+)|(?P<bracket>[{}\[\]])|[\s,:]+""",
    re.DOTALL,
)
_BRACKET = re.compile(r"[{}\[\]]")
_CLOSING = {"{": "}", "[": "]"}
_TOUCHING = "nothing, not even a space"
_LITERALS = {"True": True, "False": False, "None": None}


def json_reply(text: str, model: type[M]) -> tuple[M, bool]:
    """The value in a reply, and whether its JSON had to be mended first.

    Mended are code fences and prose around one JSON value, a `<think>` block before it, trailing and missing
    commas, single quotes and Python's literals: what leaves every name, text, number and bracket as the reply
    has it, in that order. A value that is not closed is not closed here.

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
    """An `Inquiry.parse`: the reply as `model`, then what a caller makes of it (which may raise `Malformed`)."""

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
    """The one object or list in a text."""
    if len(text) > LARGEST_REPAIR:
        raise Malformed(f"{_NOT_JSON}, and far too long")
    if text.lstrip().startswith("<think>"):
        text = text.partition("</think>")[2]
    opening = _BRACKET.search(text)
    if opening is None:
        raise Malformed("there is no JSON value in it")
    try:
        value, end = _container(_tokens(text, opening.end()), opening[0])
    except RecursionError:
        raise Malformed(_NOT_JSON) from None
    if _BRACKET.search(text, end):
        raise Malformed(_OUTSIDE)
    return value


def _tokens(text: str, place: int) -> Iterator[re.Match[str]]:
    while found := _TOKEN.match(text, place):
        place = found.end()
        yield found


def _container(tokens: Iterator[re.Match[str]], bracket: str) -> tuple[Any, int]:
    """The object or list that a bracket opens, and where it ends. Its names and values are read one like the other."""
    if bracket not in _CLOSING:
        raise Malformed(_OUTSIDE)
    parts: list[Any] = []
    between = ""
    for token in tokens:
        named = bracket == "{" and len(parts) % 2 == 1
        allowed = {":"} if named else {"", ","} if parts else {""}
        if token["bracket"] == _CLOSING[bracket] and not named and between in {*allowed, _TOUCHING}:
            return _object(parts) if bracket == "{" else parts, token.end()
        if not (token["leaf"] or token["bracket"]):
            between = "".join(token[0].split())
            continue
        if between not in allowed:
            raise Malformed(_NOT_JSON)
        parts.append(_leaf(token[0]) if token["leaf"] else _container(tokens, token[0])[0])
        between = _TOUCHING
    raise Malformed("its JSON is not closed")


def _object(parts: list[Any]) -> dict[str, Any]:
    names = parts[::2]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise Malformed(_NOT_JSON)
    return dict(zip(names, parts[1::2], strict=True))


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
