"""Writes a resolved recipe as TOML (the standard library only reads it)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel


def dump_model(model: BaseModel, comment: str = "") -> str:
    """A model as TOML that reads back to an equal one; `None` is left out, as TOML has no null."""
    lines = [f"# {line}" for line in comment.splitlines()]
    return "\n".join([*lines, *_table(model.model_dump(mode="json"), ())]) + "\n"


def _table(values: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    """The lines of one table: its plain values first, then its sub-tables with their headers."""
    plain = {
        key: value for key, value in values.items() if value is not None and not isinstance(value, Mapping)
    }
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = (*path, _key(key))
            lines += ["", f"[{'.'.join(inner)}]", *_table(value, inner)]
    return lines


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _text(key)


def _value(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(inner) for inner in value)}]"
    if isinstance(value, Mapping):
        inner = (f"{_key(str(key))} = {_value(entry)}" for key, entry in value.items() if entry is not None)
        return f"{{ {', '.join(inner)} }}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _text(text: str) -> str:
    """A basic string; JSON's escapes are TOML's, but for DEL, which TOML forbids unescaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
