"""A vocabulary of whole words, and texts as their numbers and back. No torch."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Self

import polars as pl

from forwhy.errors import UserError

CONTROL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(CONTROL))
_WORD = re.compile(r"(?:\w\.){2,}|\w+(?:[-'’&/]\w+|[.,]\d+)*|\S")
_ENDS, _OPENING, _CLOSING = frozenset(".!?"), frozenset("([{$#£€“‘/"), frozenset(".!?,;:)]}%'’”…/")


class Words:
    """Words of training texts in small letters, the most frequent first, after the control words.

    Spelled as most often within a sentence, so that names keep their capitals.
    """

    def __init__(self, table: pl.DataFrame) -> None:
        """`table`: `word`, `spelled` and `count`, in the order of the numbers."""
        self.table = table
        self._spelled = [*CONTROL, *table["spelled"].to_list()]
        self._numbers = {word: number for number, word in enumerate(table["word"].to_list(), len(CONTROL))}

    @classmethod
    def of(cls, texts: Iterable[str], most: int, least: int) -> Self:
        """The `most` frequent words that occur `least` times or more; ties in the order of the letters.

        Raises:
            UserError: No word is that frequent.
        """
        counts, spelled = Counter[str](), defaultdict[str, Counter[str]](Counter)
        for text in texts:
            words = cut(text)
            counts.update(map(str.lower, words))
            for before, word in zip([".", *words], words, strict=False):
                if before not in _ENDS:  # where a capital says something
                    spelled[word.lower()][word] += 1
        ranked = sorted((word for word in counts if counts[word] >= least), key=lambda it: (-counts[it], it))
        if not any(map(str.isalnum, "".join(ranked))):
            raise UserError(
                f"no word occurs {least} times in the explanations to learn from, so there is nothing to say; lower "
                "explainer.least or bring more explanations"
            )
        rows = [
            (it, max(spelled[it], key=spelled[it].__getitem__, default=it), counts[it])
            for it in ranked[:most]
        ]
        schema = {"word": pl.String, "spelled": pl.String, "count": pl.Int64}
        return cls(pl.DataFrame(rows, schema=schema, orient="row"))

    def __len__(self) -> int:
        return len(self._spelled)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the words in their order."""
        return hashlib.sha256("\n".join(self._spelled).encode()).hexdigest()

    def numbers(self, text: str) -> list[int]:
        """The words of a text; one that is not here is `UNK`."""
        return [self._numbers.get(word.lower(), UNK) for word in cut(text)]

    def text(self, numbers: Iterable[int]) -> str:
        """Words as a text that reads like a sentence."""
        return joined([self._spelled[number] for number in numbers])


def cut(text: str) -> list[str]:
    """Words and signs of a text.

    >>> cut("It's a 4.5-star café (really), e.g. for R&B.")
    ["It's", 'a', '4.5-star', 'café', '(', 'really', ')', ',', 'e.g.', 'for', 'R&B', '.']
    """
    return _WORD.findall(text)


def joined(words: Sequence[str]) -> str:
    """Signs beside the words that they belong to, a capital where a sentence begins; more words never change it.

    >>> joined(["she", "says", '"', "well", ",", "go", ".", '"', "so", "go", "(", "e.g.", "now", ")", "!"])
    'She says "well, go." So go (e.g. now)!'
    """
    text, quoted, glued, ended = "", False, True, True
    for word in words:
        quote = word == '"'
        near = glued or word in _CLOSING or (quote and quoted)
        text += ("" if near else " ") + (word[:1].upper() + word[1:] if ended else word)
        ended = word in _ENDS or (ended and (quote or word in _CLOSING))
        glued = word in _OPENING or (quote and not quoted)
        quoted ^= quote
    return text
