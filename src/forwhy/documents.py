"""JSON and TOML from outside, bounded before they unfold, and the files that may be opened at all. No pydantic."""

import json
import math
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forwhy.errors import UserError

AGAIN = "copy it again"
UNFOLDED = 1 << 30
"""Bytes of memory that a document may take, by a bound that is known before it is read."""
LARGEST = 1 << 20
"""Bytes of a TOML file."""
DEEPEST = 50
"""Levels of lists and tables in a document that options or a model are read from."""
_ESCAPED = re.compile(rb"\\u[dD][89a-fA-F]")
HALF = re.compile("[\ud800-\udfff]")


class NotToml(UserError):
    """Text that is no TOML."""


def require_file(path: Path, may_be_empty: bool = False) -> None:
    """Refuse what is missing, no file, or empty; a pipe or a device is not opened, as that may never end."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a NUL
        raise UserError(
            f"{path}: cannot be read ({getattr(error, 'strerror', error)}); check the path"
        ) from error
    if stat.S_ISDIR(found.st_mode):
        raise UserError(f"{path}: is a folder, not a file; name the file")
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path}: is a pipe or a device, not a file; write what it gives into a file")
    if not found.st_size and not may_be_empty:
        raise UserError(f"{path}: empty file; copy it again or leave the option out")


def read_json(path: Path, remedy: str = AGAIN) -> Any:  # noqa: ANN401 - JSON is any of these
    """A whole JSON file; errors as `parse_json`, also of what is no file."""
    require_file(path)
    return parse_json(path.read_bytes(), path, remedy)


def parse_json(content: bytes, place: object, remedy: str = AGAIN) -> Any:  # noqa: ANN401 - JSON is any of these
    """JSON from outside.

    Raises:
        UserError: The place and the reason: it would unfold to more than `UNFOLDED`, is cut, no UTF-8, nested too
            deeply, or holds a number of more than 4,300 digits or half of a surrogate pair.
    """
    # Of CPython: a slot and a small object for each value, a table for each object, text of up to four bytes a letter.
    size = 4 * len(content) + 64 * (content.count(b",") + content.count(b"[")) + 240 * content.count(b"{")
    if size > UNFOLDED:
        raise UserError(
            f"{place}: takes up to {size >> 20:,} MiB when read, {UNFOLDED >> 20:,} at most; split it"
        )
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        where = f"row {error.lineno}, column {error.colno}"
        raise UserError(f"{place}: {where}: truncated or not JSON ({error.msg}); {remedy}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not JSON text in UTF-8 ({error.reason}); convert it") from error
    except RecursionError as error:
        raise UserError(f"{place}: not JSON that can be read: nested too deeply; {remedy}") from error
    except ValueError as error:
        raise UserError(f"{place}: a number of more than 4,300 digits; correct it") from error
    if _ESCAPED.search(content) and HALF.search(json.dumps(value, ensure_ascii=False)):
        raise UserError(f"{place}: half of a surrogate pair (\\ud800 to \\udfff), which is no text; {remedy}")
    return value


def read_lines(path: Path, remedy: str = AGAIN) -> list[dict[str, Any]]:
    """JSON lines, an object each; errors as `parse_json`, with the row."""
    require_file(path, may_be_empty=True)
    found = []
    for row, line in enumerate(path.read_bytes().splitlines(), start=1):
        value = parse_json(line, f"{path}: row {row}", remedy)
        if not isinstance(value, dict):
            raise UserError(f"{path}: row {row}: not a JSON object; {remedy}")
        found.append(value)
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """A whole TOML file; errors as `parse_toml`, also of what is no file or too large."""
    require_file(path, may_be_empty=True)
    if (size := path.stat().st_size) > LARGEST:
        raise UserError(f"{path}: {size:,} bytes, and TOML may have {LARGEST:,}; take out what is no option")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({error.reason}); convert it") from error
    return parse_toml(text, path)


def parse_toml(text: str, place: object) -> dict[str, Any]:
    """TOML from outside; a `NotToml` where it is none, another UserError where it is too deep or a number too long."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(f"{place}: not TOML: {error}; correct that place") from None
    except (RecursionError, ValueError) as error:
        wrong = "nested too deeply" if isinstance(error, RecursionError) else "a number of too many digits"
        raise UserError(f"{place}: {wrong}; correct it") from None
    refuse_deep(values, place)
    return values


def refuse_deep(value: object, place: object) -> None:
    """A UserError for lists and tables inside each other on more than `DEEPEST` levels."""
    level = [value]
    for _ in range(DEEPEST):
        inner = (it.values() if isinstance(it, dict) else it for it in level if isinstance(it, dict | list))
        level = [it for one in inner for it in one]
    if level:
        raise UserError(f"{place}: nested more than {DEEPEST} levels deep; correct it")


def plain_json(value: Any) -> Any:  # noqa: ANN401 - JSON is any of these
    """The value as it will come back from JSON: tuples and arrays are lists, keys text, non-finite numbers null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
