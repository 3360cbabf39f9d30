"""Strangers' text inside a question: cut, on one line, and escaped, so that it can end no fence."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from forwhy.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NONE = "(none)"
"""Stands where there is nothing to show."""

# Controls, bidirectional overrides and isolates (marks stay: they belong to Arabic and Hebrew), the invisible
# tag letters, and lone surrogates, which no server could read.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f\ud800-\udfff]"  # noqa: RUF001
)
# What can carry a hidden text between letters: signs without width that belong to no script, more than one of the
# others in a row, and selectors of another shape, but for one behind a sign or a letter that has several (❤️, 1️⃣).
_WIDTHLESS = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"
_UNSEEN = re.compile(
    f"[\u180e\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0100-\U000e01ef]|[{_WIDTHLESS}]{{2,}}"
    "|(?<![0-9#*\u00a1-\ufdff\ufe10-\U000dffff])[\ufe00-\ufe0f]"
)
_TOKEN = re.compile(r"\[(?=/?[a-z]{0,2}[A-Z_][A-Z0-9_]{1,30}\]|unused\d+\]|e~\[)|\](?=~!?[a-z]{1,8}[\[\]])")
"""Control tokens in brackets, such as [INST], [gMASK] and ]~b]; the others start with <."""
_READ = 4  # characters looked at for each one kept: the rest may be spaces


def clean(text: str, characters: int) -> str:
    """One line of at most `characters`, without what cannot be seen; every script is kept."""
    line = _HIDDEN.sub(" ", text[: _READ * characters])
    line = line if line.isascii() else _UNSEEN.sub("", line)
    line = " ".join(line.split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"


def fenced(tag: str, texts: Iterable[str]) -> str:
    """Each clean text between `<tag>` and `</tag>`, one per line; `NONE` when there is none."""
    return "\n".join(f"<{tag}>{escaped(text)}</{tag}>" for text in texts) or NONE


def escaped(text: str) -> str:
    """No tag and no bracketed control token can come out of it."""
    return _TOKEN.sub(lambda found: f"&#{ord(found[0])};", html.escape(text, quote=False))


# --- Strangers' text to plain token ids: no control token can come out of it. A title or a review may contain
# `<|im_end|>`, `<end_of_turn>` or a token name of ours. Names of special and added tokens are broken into ordinary
# pieces: the text stays what it was, the ids are those of its characters.

_CHARACTERS_PER_TOKEN = 16


class PlainText:
    """Tokenises text from data with one tokenizer; its control names become one pattern, built once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        named = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
        for number, token in tokenizer.added_tokens_decoder.items():
            if not _is_space(str(token)):
                named.setdefault(str(token), number)
        self._control_ids = frozenset(named.values())
        names = [name for name in named if len(name) > 1 and not _is_space(name)]
        alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        self._control = re.compile(alternatives) if names else None

    def ids(self, text: str, limit: int, lead: str = "") -> list[int]:
        """At most `limit` ids of `text`, after `lead`, with white space collapsed; never a control token's.

        Cost is bounded by `limit`: only the first 16 characters per wanted token are looked at.
        """
        most = limit * _CHARACTERS_PER_TOKEN
        return self.exact(lead + " ".join(text[: 4 * most].split())[:most])[:limit]

    def exact(self, text: str) -> list[int]:
        """All ids of `text` with its white space as it is; never a control token's."""
        ids: list[int] = []
        for piece in self._pieces(text):
            ids += self.tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        return [number for number in ids if number not in self._control_ids]

    def _pieces(self, text: str) -> list[str]:
        """The text, cut after the first character of every control token's name."""
        pieces, start = [], 0
        while self._control is not None and (found := self._control.search(text, start)):
            pieces.append(text[start : found.start() + 1])
            start = found.start() + 1
        return [piece for piece in [*pieces, text[start:]] if piece]


def _is_space(name: str) -> bool:
    """Whether a token is a run of white space: some tokenizers add those, and they are text."""
    return not name.replace("\u2581", " ").strip()


# --- A chat template, cut where texts stand: its own control tokens count, those written in a text never do.

DATE = "01 Jan 2025"
"""For templates that print one: equal questions stay equal prompts."""


def framed(
    tokenizer: PreTrainedTokenizerBase, turns: Sequence[tuple[str, str]], answer: bool = True
) -> list[str]:
    """The rendered chat template around texts, one in each turn: one piece more than turns.

    `turns`: the role of each, and our own words before its text; `answer`: whether an answer's header ends it. Refused:
    a template that takes no such turns, or does not hold each text once.
    """
    from jinja2 import TemplateError

    marks = [f"\u2063FORWHY{number}\u2063" for number in range(len(turns))]
    said = [{"role": role, "content": own + mark} for (role, own), mark in zip(turns, marks, strict=True)]
    try:
        how: dict[str, Any] = {"tokenize": False, "add_generation_prompt": answer, "date_string": DATE}
        rest = tokenizer.apply_chat_template(said, **how)
    except (TemplateError, ValueError) as error:
        wrong = f"its chat template does not take the turns {', '.join(role for role, _ in turns)} ({error})"
        raise UserError(f"model: {wrong}; take another model") from error
    pieces = []
    for mark in marks:
        before, found, rest = str(rest).partition(mark)
        if not found or mark in rest:
            raise UserError("model: its chat template drops the user's text; use a chat model's own template")
        pieces.append(before)
    return [*pieces, str(rest)]


def own_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of our own text: control tokens of the template count as such."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def answer_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """What ends an answer: the first control token behind it in the chat template, else the end of text."""
    behind: list[int] = []
    if tokenizer.chat_template:
        with suppress(UserError):
            last = framed(tokenizer, [("user", ""), ("assistant", "")], answer=False)[-1]
            behind = own_ids(tokenizer, last)
    special = set(tokenizer.all_special_ids)
    return next((number for number in behind if number in special), tokenizer.eos_token_id)
