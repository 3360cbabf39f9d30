"""A reply as a checked value: JSON broken in form is mended, anything else is asked again, nothing guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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
_LITERALS = {"True": "true", "False": "false", "None": "null"}


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
        return _validated(_mended(text), model), True
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


def _mended(text: str) -> str:
    """The one object or list in a text, as sound JSON."""
    if len(text) > LARGEST_REPAIR:
        raise Malformed(f"{_NOT_JSON}, and far too long")
    if text.lstrip().startswith("<think>"):
        text = text.partition("</think>")[2]
    opening = _BRACKET.search(text)
    if opening is None:
        raise Malformed("there is no JSON value in it")
    if opening[0] in ("}", "]"):
        raise Malformed(_OUTSIDE)
    sound, rest = _respelled(text, opening.start())
    try:
        value, end = json.JSONDecoder(strict=False, object_pairs_hook=_object).raw_decode(sound)
        mended = json.dumps(value)
    except (ValueError, RecursionError) as error:
        cut = getattr(error, "pos", 0) >= len(sound)
        raise Malformed("its JSON is not closed" if cut else _NOT_JSON) from None
    if _BRACKET.search(sound + rest, end):
        raise Malformed(_OUTSIDE)
    return mended


def _respelled(text: str, place: int) -> tuple[str, str]:
    """A text from `place` with its leaves and commas as JSON has them, up to a quote that does not end; the rest."""
    parts, gap = [""], ""
    while token := _TOKEN.match(text, place):
        place = token.end()
        if not (token["leaf"] or token["bracket"]):
            gap = token[0]
            continue
        between = "".join(gap.split())
        if parts[-1][-1:] not in ("", "{", "["):  # a value ends here
            if token[0] in ("}", "]"):
                between = "" if between == "," else between
            elif gap:
                between = between or ","
        parts.append(between + (_leaf(token[0]) if token["leaf"] else token[0]))
        gap = ""
    return "".join(parts), text[place:]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Malformed(_NOT_JSON)
    return found


def _leaf(token: str) -> str:
    """A text, a number or a word as JSON spells it."""
    if token.startswith("'"):
        inner = token[1:-1].replace("\\'", "'")
        return '"' + re.sub(r'(\\.)|"', lambda found: found[1] or '\\"', inner, flags=re.DOTALL) + '"'
    return _LITERALS.get(token, token)
