"""Phrases of users and items: encoded once, where entity tables start, and what a learnt word means.

Legend: N entities, P distinct phrases, L phrases per entity, S slots, A micro slots, G graph coordinates per slot,
T text coordinates per slot, D = G + T, V encoder width, K codes, M codeword width.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.stats import rankdata

from forwhy.columns import SIDES, Side
from forwhy.data.intents import GENERIC, LONGEST_PHRASE, telling_words
from forwhy.graph.bipartite import Bipartite, spectral_embeddings
from forwhy.text.encoder import TextEncoder, unit
from forwhy.vocabulary.clusters import Codes
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.vocabulary import Books, SideCodes, by_book, token_name

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Slots = dict[Side, Floats]
Phrases = Mapping[int, Sequence[str]]
"""Internal number -> phrases."""
Told = list[tuple[list[str], list[str]]]
"""By code: phrases and single words that say what it means."""


@dataclass(frozen=True)
class PhraseBook:
    """Every phrase once, and who has which."""

    phrases: tuple[str, ...]
    vectors: Floats
    """[P, V] of unit norm."""
    rows: Mapping[Side, Ints]
    """side -> [N, L] phrase numbers, most important first, -1 after the last."""

    def known(self, side: Side) -> Flags:
        """[N] whether an entity has any phrase."""
        return self.rows[side][:, 0] >= 0


def read_phrases(
    phrases: Mapping[str, Phrases], counts: Mapping[Side, int], encoder: TextEncoder, limit: int
) -> PhraseBook:
    """Encode the distinct phrases of both sides; an entity keeps its first `limit` distinct ones."""
    numbers: dict[str, int] = {}
    rows: dict[Side, Ints] = {}
    for side, count in counts.items():
        table = np.full((count, limit), -1, np.int64)
        for entity, listed in phrases.get(side, {}).items():
            kept = list(dict.fromkeys(phrase.strip() for phrase in listed if phrase.strip()))[:limit]
            table[entity, : len(kept)] = [numbers.setdefault(phrase, len(numbers)) for phrase in kept]
        rows[side] = table
    distinct = tuple(numbers)
    return PhraseBook(distinct, encoder.encode(distinct), rows)


# --- Where entity tables start: spectral graph coordinates beside text coordinates, one block per slot.


def spectral_start(
    graph: Bipartite, book: PhraseBook, config: TokenizerConfig
) -> tuple[Slots, Floats | None]:
    """Where entity tables start. Time of one truncated SVD plus O(N·S·T).

    Returns:
        side -> [N, S, D], at a mean graph norm of 1 per slot; and [V, T], how text coordinates map back into the
        encoder's space, None where slots carry no text.
    """
    blocks = _graph_slots(graph, config)
    told = config.text_dims and config.text_weight and not config.text_first
    if not told or len(book.phrases) <= config.micro_slots:
        return blocks, None
    basis, coordinates, aspects = _text_space(book, config.text_dims, config.micro_slots, config.seed)
    own = {side: _text_slots(book, side, coordinates, aspects, config.macro) for side in SIDES}
    if not config.micro:
        own = {side: slots[:, :1] for side, slots in own.items()}
    text = {side: config.text_weight * slots for side, slots in guessed(own, graph).items()}
    return {side: np.concatenate([blocks[side], text[side]], axis=2) for side in SIDES}, basis


def _text_space(book: PhraseBook, dims: int, aspects: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Principal components [V, T], phrases in them [P, T], aspects [A, T] (spherical k-means: food, place, …)."""
    rng = np.random.default_rng(seed)
    sample = book.vectors[rng.permutation(len(book.vectors))[:8192]]
    mean = sample.mean(0)
    basis = np.linalg.svd(sample - mean, full_matrices=False)[2][:dims].T
    points = unit((sample - mean) @ basis)
    centres = points[rng.permutation(len(points))[:aspects]].astype(np.float64)
    for _ in range(20):
        members = (points @ centres.T).argmax(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, members, points)
        centres = np.where(np.abs(sums).sum(1, keepdims=True) > 0, unit(sums), centres)
    return basis, unit((book.vectors - mean) @ basis), unit(centres)


def _text_slots(book: PhraseBook, side: Side, points_PT: Floats, aspects_AT: Floats, macro: bool) -> Floats:
    """[N, S, T] unit text coordinates of every slot; zeros for entities without phrases.

    A micro slot holds the phrase that is assigned to its aspect, the macro slot and those without one the mean of all.
    """
    rows = book.rows[side]
    slots = np.zeros((len(rows), int(macro) + len(aspects_AT), aspects_AT.shape[1]), np.float32)
    for entity in np.flatnonzero(book.known(side)):
        own = points_PT[rows[entity][rows[entity] >= 0]]
        slots[entity] = own.mean(0)
        picked, aspects = linear_sum_assignment(own @ aspects_AT.T, maximize=True)
        slots[entity, int(macro) + aspects] = own[picked]
    return unit(slots)


def _graph_slots(graph: Bipartite, config: TokenizerConfig) -> Slots:
    """Spectral coordinates, turned at random so that every slot holds an equal share of the spectrum."""
    slots = config.slots - config.text_first
    width = slots * config.slot_dim
    pair = spectral_embeddings(graph, width, config.seed)
    drawn = np.random.default_rng(config.seed).standard_normal((width, width))
    turn = np.linalg.qr(drawn)[0].astype(np.float32)
    found: Slots = {}
    for side, vectors in zip(SIDES, pair, strict=True):
        padded = np.pad(vectors, ((0, 0), (0, width - vectors.shape[1])))
        blocks = (padded @ turn).reshape(len(vectors), slots, config.slot_dim)
        found[side] = blocks / max(float(np.sqrt((blocks**2).sum(2).mean())), 1e-9)
    return found


def guessed(own: Mapping[Side, Floats], graph: Bipartite) -> Slots:
    """Side -> [N, S, T]: who has zeros takes the mean text of their neighbours, and of their neighbours' neighbours.

    Means are centred first, so that a guess says how the neighbourhood differs from everybody. Guesses have norm 0.7.
    """
    known = {side: (np.abs(slots).sum((1, 2)) > 0)[:, None, None] for side, slots in own.items()}
    to_users, to_items = graph.to_users, graph.to_items
    from_items, from_users = _average(to_users, own["item"]), _average(to_items, own["user"])
    guesses: Slots = {"user": from_items + _average(to_users, from_users)}
    guesses["item"] = from_users + _average(to_items, from_items)
    centred = {side: 0.7 * unit(guess - guess.mean(0)) for side, guess in guesses.items()}
    return {side: np.where(known[side], own[side], centred[side]).astype(np.float32) for side in SIDES}


def _average(matrix: object, slots: Floats) -> Floats:
    """The slots of neighbours, weighted by a sparse matrix; [rows of the matrix, S, T]."""
    flat = matrix @ slots.reshape(len(slots), -1)  # type: ignore[operator]
    return np.asarray(flat, np.float32).reshape(-1, *slots.shape[1:])


# --- What a word means: phrases that its owners share, the single words most particular to it, its neighbours.


_GLOSS, _KEYWORDS, _NEAREST, _CANDIDATES = 5, 8, 3, 40
_MEASURED = 20_000
"""Entities among whom the fit of glosses is measured, at most."""
_ALIKE = 0.85
"""Cosine from which on two phrases say the same."""
_KNOWN = 3
"""Phrases that must hold a capitalised word, or items that a phrase is said of, before it is more than a name."""
_OF_A_PLACE = re.compile(r"(?:an|ese|ish|ern|ic)s?$")
"""Ends of words that are written large and are nobody's name: Italian, Chinese, Spanish, Southern, Nordic."""
_CLAUSE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|been|being|be|gets?|must|can|will|should|would|could|may|might|makes?|caters?"
    r"|they|he|she|it|its|his|her|i|my|we|our|you|your|their|this|those|these|if|all)\b",
    re.IGNORECASE,
)
"""A phrase with such a word tells a story or says it of somebody; one that names a thing can stand in any sentence."""


def describe_words(codebooks: Books, codes: SideCodes, heads: Books, book: PhraseBook) -> pl.DataFrame:
    """The table `Vocabulary.words`. O(K·P·V) time, one [K, P] block of memory per book."""
    counts = Counter(word for phrase in book.phrases for word in _telling(phrase))
    rarity = {word: float(np.log(1 + len(book.phrases) / count)) for word, count in counts.items()}
    owned = book.rows["item"]
    spread_P = np.bincount(owned[owned >= 0], minlength=len(book.phrases))
    frames, fit_P = [], _fit_to_read(book.phrases, spread_P)
    for name, own_NS in by_book(codes, codebooks).items():
        words_KM, side = codebooks[name], cast("Side", name.split("_")[0])
        cosines = unit(words_KM) @ unit(words_KM).T
        np.fill_diagonal(cosines, -np.inf)
        near = np.argsort(-cosines, axis=1)[:, : min(_NEAREST, len(words_KM) - 1)]
        text_KV = unit(words_KM @ heads[name].T if name in heads else words_KM)
        glossed = partial(_glosses, text_KV, own_NS, side=side, rarity=rarity, fit_P=fit_P)
        told = glossed(book)
        columns = {
            "token": [token_name(name, code) for code in range(len(words_KM))],
            "book": name,
            "code": np.arange(len(words_KM)),
            "usage": np.bincount(own_NS.ravel(), minlength=len(words_KM)),
            "gloss": pl.Series([glosses for glosses, _ in told], dtype=pl.List(pl.String)),
            "keywords": pl.Series([keywords for _, keywords in told], dtype=pl.List(pl.String)),
            "fit": pl.Series(_fits(glossed, own_NS, book, side), dtype=pl.Float64),
            "nearest": [[token_name(name, code) for code in row] for row in near],
        }
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def _fit_to_read(phrases: Sequence[str], spread_P: Ints) -> Flags:
    """[P] which phrases can be read aloud: not too long, telling something, without a name of one person or thing.

    A word is a name if it is written large inside phrases more often than small, and then stands in few phrases or
    beside another name; or if it has an 's and is never written small. What is said of several items (`spread_P`) names
    none of them, as a category in title case or German nouns. All are fit where none is.
    """
    found = (re.findall(r"[^\W\d_]+(?:['’]s\b)?", phrase) for phrase in phrases)
    split = [[re.sub(r"['’]s$", "", word) for word in words] for words in found]
    large = Counter(word.lower() for words in split for word in words[1:] if word[0].isupper())
    small = Counter(word for words in split for word in words if word.islower())
    held = Counter(word for words in split for word in {word.lower() for word in words})

    def name(word: str) -> bool:
        often = large[word.lower()] > small[word.lower()]
        return word.istitle() and often and not _OF_A_PLACE.search(word)

    def fit(phrase: str, words: list[str], shared: np.bool_) -> bool:
        names = list(map(name, words))
        rare = any(named and held[word.lower()] < _KNOWN for named, word in zip(names, words, strict=True))
        couple = any(one and other for one, other in pairwise(names))
        owner = any(not small[word.lower()] for word in re.findall(r"\b([A-Z]\w+)['’]s\b", phrase))
        short = len(phrase.split()) <= LONGEST_PHRASE
        names_a_thing = telling_words(phrase) and not _CLAUSE.search(phrase)
        return bool(short and names_a_thing and (shared or not (rare or couple or owner)))

    fit_P = np.array([*map(fit, phrases, split, spread_P >= _KNOWN)], bool)
    return fit_P if fit_P.any() else ~fit_P


def _glosses(
    text_KV: Floats, own_NS: Codes, book: PhraseBook, side: Side, rarity: Mapping[str, float], fit_P: Flags
) -> Told:
    """Phrases and single words per code; owners' phrases first, any phrase where no owner has one."""
    if not book.phrases:
        return [([], []) for _ in text_KV]
    owned: dict[int, Counter[int]] = defaultdict(Counter)  # code -> how many of its owners have each phrase
    owners: Counter[int] = Counter()
    rows = book.rows[side]
    share_P = np.bincount(rows[rows >= 0], minlength=len(book.phrases)) / max(int(book.known(side).sum()), 1)
    for entity in np.flatnonzero(book.known(side)):
        phrases = rows[entity][rows[entity] >= 0]
        for code in set(own_NS[entity].tolist()):
            owned[code].update(phrases[fit_P[phrases]].tolist())
            owners[code] += 1
    centred = book.vectors - book.vectors.mean(0)
    told = []
    for code, closeness_P in enumerate(text_KV @ unit(centred).T):
        scores = _scores(owned[code], owners[code] * share_P, np.where(fit_P, closeness_P, 0), centred)
        best = sorted(scores, key=lambda phrase: (-scores[phrase], phrase))[:_CANDIDATES]
        keywords = _keywords({book.phrases[phrase]: scores[phrase] for phrase in best}, rarity)
        told.append(([book.phrases[phrase] for phrase in _different(best, book.vectors)], keywords))
    return told


def _fits(
    glossed: Callable[[PhraseBook], Told], own_NS: Codes, book: PhraseBook, side: Side
) -> list[float | None]:
    """How well each gloss fits those who did not help to make it: a gloss is made from every second entity's phrases.

    The chance that the phrases of an owner among the others are nearer to it than those of one who lacks the word, .5
    where it says nothing (area under the curve); None below three such owners or others.
    """
    known = np.flatnonzero(book.known(side))
    asked = np.isin(np.arange(len(own_NS)), known[::2])
    half = replace(book, rows={**book.rows, side: np.where(asked[:, None], book.rows[side], -1)})
    glosses = [gloss for gloss, _ in glossed(half)]
    number, rest = {phrase: at for at, phrase in enumerate(book.phrases)}, known[1::2][:_MEASURED]
    said_BL = book.rows[side][rest]
    row, column = np.nonzero(said_BL >= 0)
    ones = np.ones(len(row), np.float32)
    said_BP = csr_array((ones, (row, said_BL[row, column])), (len(rest), len(number)))
    vectors_BV = unit(said_BP @ book.vectors)
    found: list[float | None] = []
    for code, gloss in enumerate(glosses):
        has_B = (own_NS[rest] == code).any(1)
        owners, others = int(has_B.sum()), int((~has_B).sum())
        if not gloss or min(owners, others) < _KNOWN:
            found.append(None)
            continue
        near_B = vectors_BV @ book.vectors[[number[phrase] for phrase in gloss]].mean(0)
        above = rankdata(near_B)[has_B].sum() - owners * (owners + 1) / 2
        found.append(float(above / (owners * others)))
    return found


def _different(best: Sequence[int], vectors_PV: Floats) -> list[int]:
    """The first phrases of which no two say the same."""
    chosen: list[int] = []
    for phrase in best:
        if len(chosen) < _GLOSS and (vectors_PV[chosen] @ vectors_PV[phrase] < _ALIKE).all():
            chosen.append(phrase)
    return chosen


def _scores(
    counts: Counter[int], expected_P: NDArray[np.float64], closeness_P: Floats, centred_PV: Floats
) -> dict[int, float]:
    """Phrase -> how telling it is: near the word, near its owners' mean, had by more of them than `expected_P`."""
    if not counts:  # no owner has any phrase
        top = np.argsort(-closeness_P)[:_CANDIDATES]
        return {int(phrase): float(closeness_P[phrase]) for phrase in top if closeness_P[phrase] > 0}
    phrases = np.fromiter(counts, np.int64, len(counts))
    had = np.fromiter(counts.values(), np.float64, len(counts))
    shared = np.log1p(np.maximum(had - expected_P[phrases], 0.1 * had))
    middle = (centred_PV[phrases] * shared[:, None]).sum(0, keepdims=True)
    near = (unit(centred_PV[phrases]) @ unit(middle).T).ravel()
    scores = np.maximum(0.3 * near + closeness_P[phrases], 1e-3) * (1 + 0.3 * shared)
    return dict(zip(phrases.tolist(), scores.tolist(), strict=True))


def _keywords(weighted: Mapping[str, float], rarity: Mapping[str, float]) -> list[str]:
    """Words by the weight of the phrases they stand in (squared, so that near ones count) times their rarity."""
    scores: dict[str, float] = defaultdict(float)
    for phrase, weight in weighted.items():
        for word in _telling(phrase):
            scores[word] += weight**2 * rarity[word]
    return sorted(scores, key=lambda word: (-scores[word], word))[:_KEYWORDS]


def _telling(phrase: str) -> set[str]:
    """The words of a phrase that a word of the vocabulary may be known by."""
    return telling_words(phrase) - GENERIC
