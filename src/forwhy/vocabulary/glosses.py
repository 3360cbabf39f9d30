"""What a word means: phrases that its owners share, the single words most particular to it, its neighbours.

Legend: K codes, P phrases, V text width, M codeword width.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.vocabulary.phrases import PhraseBook, unit
from forwhy.vocabulary.vocabulary import token_name

__all__ = ["describe_words"]

Floats = NDArray[np.float32]
_GLOSS, _KEYWORDS, _NEAREST, _CANDIDATES = 5, 8, 3, 40
_STOP = frozenset(
    """
    a an and any are as at be been but by can could do does each either even every few for from had has have
    having how if in into is it its just like likely likes lot lots made make makes making many may might
    more most much nor not of on one only or other others our out over own per place places really she so
    some such than that the their them then there these they this those through to too under up use used
    user users very was way well were what when where which while who whose why will with within without
    would you your he her his him appreciate appreciates enjoy enjoys enjoyed prefer prefers preference
    preferences value values seek seeks seeking offer offers offering business businesses customer customers
    individual individuals people those along especially interested looking love loves variety various range
    item items
    """.split()  # noqa: SIM905 - a paragraph reads better than a list
)


def describe_words(
    codebooks: Mapping[str, Floats],
    codes: Mapping[str, NDArray[np.integer]],
    slots: Mapping[str, Sequence[str]],
    heads: Mapping[str, Floats],
    book: PhraseBook,
) -> pl.DataFrame:
    """The table `Vocabulary.words`. O(K·P·V) time, one [K, P] block of memory per book."""
    rarity = _rarity(book.phrases)
    frames = []
    for name, words_KM in codebooks.items():
        side = name.split("_")[0]
        columns = [slot for slot, of in enumerate(slots[side]) if of == name]
        own = np.asarray(codes[side])[:, columns]
        near = _nearest(words_KM)
        glosses, keywords = _glosses(words_KM, own, book, side, heads.get(name), rarity)
        frames.append(
            pl.DataFrame(
                {
                    "token": [token_name(name, code) for code in range(len(words_KM))],
                    "book": name,
                    "code": np.arange(len(words_KM)),
                    "usage": np.bincount(own.ravel(), minlength=len(words_KM)),
                    "gloss": pl.Series(glosses, dtype=pl.List(pl.String)),
                    "keywords": pl.Series(keywords, dtype=pl.List(pl.String)),
                    "nearest": [[token_name(name, code) for code in row] for row in near],
                }
            )
        )
    return pl.concat(frames)


def _nearest(words_KM: Floats) -> NDArray[np.int64]:
    """[K, 3] codes at the highest cosine."""
    cosines = unit(words_KM) @ unit(words_KM).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1)[:, : min(_NEAREST, len(words_KM) - 1)]


def _glosses(
    words_KM: Floats,
    own_NS: NDArray[np.integer],
    book: PhraseBook,
    side: str,
    head: Floats | None,
    rarity: Mapping[str, float],
) -> tuple[list[list[str]], list[list[str]]]:
    """Phrases and single words per code; owners' phrases first, any phrase where no owner has one."""
    if not book.phrases:
        empty: list[list[str]] = [[] for _ in words_KM]
        return empty, empty
    owned = _owned(own_NS, book, side)
    text_KV = unit(words_KM if head is None else words_KM @ head.T)
    centred = book.vectors - book.vectors.mean(0)
    closeness_KP = text_KV @ unit(centred).T if text_KV.shape[1] == centred.shape[1] else None
    glosses, keywords = [], []
    for code in range(len(words_KM)):
        scores = _scores(owned.get(code), None if closeness_KP is None else closeness_KP[code], book, centred)
        best = sorted(scores, key=lambda phrase: (-scores[phrase], phrase))[:_CANDIDATES]
        glosses.append([book.phrases[phrase] for phrase in best[:_GLOSS]])
        keywords.append(_keywords({book.phrases[phrase]: scores[phrase] for phrase in best}, rarity))
    return glosses, keywords


def _owned(own_NS: NDArray[np.integer], book: PhraseBook, side: str) -> dict[int, Counter[int]]:
    """Code -> how many of its owners have each phrase."""
    owned: dict[int, Counter[int]] = defaultdict(Counter)
    rows = book.rows[side]
    for entity in np.flatnonzero(rows[:, 0] >= 0):
        phrases = rows[entity][rows[entity] >= 0].tolist()
        for code in set(own_NS[entity].tolist()):
            owned[code].update(phrases)
    return owned


def _scores(
    counts: Counter[int] | None, closeness_P: Floats | None, book: PhraseBook, centred: Floats
) -> dict[int, float]:
    """Phrase -> how telling it is: near the word in text, near the owners' mean, and shared by several owners."""
    if not counts:
        if closeness_P is None:
            return {}
        top = np.argsort(-closeness_P)[:_CANDIDATES]
        return {int(phrase): float(closeness_P[phrase]) for phrase in top if closeness_P[phrase] > 0}
    phrases = np.fromiter(counts, np.int64, len(counts))
    shared = np.log1p(np.fromiter(counts.values(), np.float64, len(counts)))
    middle = (centred[phrases] * shared[:, None]).sum(0, keepdims=True)
    near = (unit(centred[phrases]) @ unit(middle).T).ravel()
    if closeness_P is not None:
        near = 0.3 * near + closeness_P[phrases]
    scores = np.maximum(near, 1e-3) * (1 + 0.3 * shared)
    return dict(zip(phrases.tolist(), scores.tolist(), strict=True))


def _keywords(weighted: Mapping[str, float], rarity: Mapping[str, float]) -> list[str]:
    """Words by the weight of the phrases they stand in (squared, so that near ones count) times their rarity."""
    scores: dict[str, float] = defaultdict(float)
    for phrase, weight in weighted.items():
        for word in set(_split(phrase)):
            scores[word] += weight**2 * rarity[word]
    return sorted(scores, key=lambda word: (-scores[word], word))[:_KEYWORDS]


def _rarity(phrases: Sequence[str]) -> dict[str, float]:
    """Word -> log of phrases per phrase with it."""
    counts = Counter(word for phrase in phrases for word in set(_split(phrase)))
    return {word: float(np.log(1 + len(phrases) / count)) for word, count in counts.items()}


def _split(phrase: str) -> list[str]:
    return [word for word in re.findall(r"[^\W\d_]{3,}", phrase.lower()) if word not in _STOP]
