"""The word cap, enforced on the text at a sentence end, and the same text word by word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s|$)")


def finish(text: str, ended: bool, max_words: int) -> str:
    """White space collapsed; a text too long or cut off ends at its last sentence end within the cap.

    Where there is no sentence end the first `max_words` words are kept.
    """
    words = text.split()
    kept = " ".join(words[:max_words])
    if ended and len(words) <= max_words:
        return kept
    ends = [match.end() for match in _SENTENCE_END.finditer(kept)]
    return kept[: ends[-1]] if ends else kept


def pieces(texts: Iterable[tuple[str, bool]], max_words: int) -> Iterator[str]:
    """A growing text in pieces that are never taken back; joined they equal `finish` of the last one.

    Words of the first sentence come one by one; later sentences come whole, as the cap may still drop them.

    Args:
        texts: The text after each token, and whether it has ended (on the last one).
        max_words: The cap.
    """
    sent, text, ended = 0, "", False
    for text, ended in texts:  # noqa: B007 - the last one counts
        whole_words = text.rstrip() if text[-1:].isspace() else text.rpartition(" ")[0]
        safe = finish(whole_words, False, max_words)
        if len(safe) > sent:
            yield safe[sent:]
            sent = len(safe)
    rest = finish(text, ended, max_words)[sent:]
    if rest:
        yield rest
