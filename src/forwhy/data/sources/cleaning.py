"""Strangers' titles, descriptions and reviews as one line of plain text."""

import ast
import html
import re

__all__ = ["LONGEST_TEXT", "clean_text", "plain_text"]

LONGEST_TEXT = 20_000
"""Characters of a text that are kept: more than any encoder or prompt reads."""

HIDDEN = re.compile(r"<(script|style)\b[^>]{0,200}>.{0,20000}?</\1>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"</?[A-Za-z!][^<>]{0,500}>")


def clean_text(value: object) -> str:
    """One line of plain text from a title or description: no HTML, no list brackets, 20,000 characters."""
    if isinstance(value, list):
        value = " ".join(str(part) for part in value)
    return plain_text(_unlisted(str(value if value is not None else "")[: 2 * LONGEST_TEXT]))


def plain_text(text: str) -> str:
    """One line without HTML, 20,000 characters; halves of surrogate pairs, which are no text, become `?`."""
    text = text[: 2 * LONGEST_TEXT]
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    if "<" in text:
        text = TAG.sub(" ", HIDDEN.sub(" ", text))
    text = TAG.sub(" ", html.unescape(text)) if "&" in text else text
    return " ".join(text.split())[:LONGEST_TEXT]


def _unlisted(text: str) -> str:
    """The strings inside a Python list that was written as text."""
    stripped = text.strip()
    if not (stripped.startswith("[") and stripped.endswith("]")):
        return text
    try:
        parts = ast.literal_eval(stripped)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return " ".join(part for part in parts if isinstance(part, str)) if isinstance(parts, list) else text
