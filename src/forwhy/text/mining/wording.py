"""Words of texts in any script: in those written without spaces each sign is one."""

import re

__all__ = ["count_words", "first_words", "is_sign"]

_SIGNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)
"""Thai, Lao, Burmese, Khmer, kana and Han."""
_WORD = re.compile(rf"[{_SIGNS}]|[^\s{_SIGNS}]+")
_SIGN = re.compile(rf"[{_SIGNS}]")


def is_sign(word: str) -> bool:
    """Whether a word is a sign of a script written without spaces."""
    return _SIGN.match(word) is not None


def count_words(text: str) -> int:
    """How many; marks count with the word they touch."""
    return sum(1 for _ in _WORD.finditer(text))


def first_words(text: str, count: int) -> str:
    """The text up to its `count`-th word, marks of that word included."""
    end = 0
    for number, word in enumerate(_WORD.finditer(text), 1):
        if number > count:
            return text[:end]
        end = word.end()
    return text
