"""Strangers' text inside a question: cut, on one line, and escaped, so that it can end no fence."""

import html
import re
from collections.abc import Iterable

__all__ = ["NONE", "clean", "escaped", "fenced"]

NONE = "(none)"
"""Stands where there is nothing to show."""

# Controls, bidirectional overrides and isolates (marks stay: they belong to Arabic and Hebrew), the invisible
# tag letters, and lone surrogates, which no server could read.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f\ud800-\udfff]"  # noqa: RUF001
)
_TOKEN = re.compile(r"\[(?=/?[A-Z_]{2,30}\])")
"""Control tokens in brackets, such as [INST]; the others start with <."""
_READ = 4
"""Characters looked at for each one kept: the rest may be spaces."""


def clean(text: str, characters: int) -> str:
    """One line of at most `characters`, without what cannot be seen; every script is kept."""
    line = " ".join(_HIDDEN.sub(" ", text[: _READ * characters]).split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


def fenced(tag: str, texts: Iterable[str]) -> str:
    """Each clean text between `<tag>` and `</tag>`, one per line; `NONE` when there is none."""
    return "\n".join(f"<{tag}>{escaped(text)}</{tag}>" for text in texts) or NONE


def escaped(text: str) -> str:
    """No tag and no bracketed control token can come out of it."""
    return _TOKEN.sub("&#91;", html.escape(text, quote=False))
