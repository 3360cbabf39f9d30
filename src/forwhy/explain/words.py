"""A vocabulary of whole words, texts as their numbers and back, and what a network makes of them. No torch at import.

Shapes: B pairs, T words of the longest text, P words that are shown, N targets, V words of the vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import polars as pl

from forwhy.columns import SIDES
from forwhy.errors import UserError
from forwhy.explain.options import WordedConfig
from forwhy.lazy import Network, torch

if TYPE_CHECKING:
    from torch import Tensor

ConfigT = TypeVar("ConfigT", bound=WordedConfig)

CONTROL = ("<pad>", "<bos>", "<eos>", "<unk>")
PAD, BOS, EOS, UNK = range(len(CONTROL))
STARS = 5
"""Ratings are brought to 1 to 5, whatever the scale of the data: the published data have stars."""
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


# --- pairs and their texts, as a network reads them


@dataclass(frozen=True)
class WordRow:
    """A pair as a network reads it."""

    user: int
    item: int
    """Rows of the tables of vectors."""
    target: tuple[int, ...] = ()
    """Words of its text and <eos>; a text that is cut has no <eos>, since it does not end there."""
    shown: tuple[int, ...] = ()
    """Words that are read before writing."""
    rating: float = float("nan")
    """From 1 to `STARS`, where it is known."""

    @property
    def length(self) -> int:
        """Words that are read or written."""
        return len(self.target) + len(self.shown)


@dataclass(frozen=True)
class WordBatch:
    """Rows as tensors."""

    user_B: Tensor
    item_B: Tensor
    target_BT: Tensor
    """Padded behind with `PAD`."""
    shown_BP: Tensor
    rating_B: Tensor
    """NaN where it is not known."""

    @classmethod
    def of(cls, rows: Sequence[WordRow], device: torch.device) -> WordBatch:
        """All rows together."""

        def padded(texts: Sequence[Sequence[int]]) -> Tensor:
            width = max(map(len, texts))
            ids = torch.tensor([[*text, *[PAD] * (width - len(text))] for text in texts])
            return ids.to(device, torch.long).view(len(texts), width)

        user_B, item_B = (torch.tensor([getattr(it, side) for it in rows], device=device) for side in SIDES)
        rating_B = torch.tensor([row.rating for row in rows], device=device)
        texts = padded([row.target for row in rows]), padded([row.shown for row in rows])
        return cls(user_B, item_B, *texts, rating_B)

    @property
    def target_N(self) -> Tensor:
        """The words to predict, text by text."""
        return self.target_BT[self.target_BT != PAD]


class WordNetwork(Network, Generic[ConfigT]):
    """Says how probable each word is after a pair and the words before it."""

    def __init__(self, users: int, items: int, words: int, rated: bool, config: ConfigT) -> None:
        """Rows of both tables, words of the vocabulary, and whether there are ratings to learn from."""
        super().__init__()
        self.config, self.rated = config, rated

    @abstractmethod
    def begin(self, batch: WordBatch) -> tuple[Tensor, ...]:
        """What is kept between words after reading the pairs; of each tensor the first axis is the pairs'."""

    @abstractmethod
    def step(self, word_B: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Logits [B, V] of the next word after this one, and what is kept then."""

    @abstractmethod
    def logits(self, batch: WordBatch) -> Tensor:
        """[N, V] for `batch.target_N`, each from the words before it."""

    def losses(self, batch: WordBatch) -> dict[str, Tensor]:
        """`loss` and parts worth logging; here the NLL of a word."""
        return {"loss": torch.nn.functional.cross_entropy(self.logits(batch), batch.target_N)}


def rating_error(rating_B: Tensor, batch: WordBatch) -> Tensor:
    """Mean squared error of the ratings that are known; 0 where none is."""
    known_B = batch.rating_B.isfinite()
    return ((rating_B - batch.rating_B)[known_B] ** 2).sum() / known_B.sum().clamp_min(1)
