"""Mining without a language model: key phrases and central sentences, cut out of the texts themselves.

A word weighs its rarity: log(1 + T / t) for t of the T texts that hold it. A phrase is up to three words between
marks and frequent words; among the phrases of an entity, taken as one class, it counts its number of mentions times the
weights of its words (class-based TF-IDF). Where the data is large enough to tell, a word counts only if the items that
it is said of are taken by the same people: deliveries, gifts and good wishes are said of anything. Deterministic.

Legend: T texts, W words of all texts, I items, D random directions.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, groupby

import numpy as np
import polars as pl

from forwhy.data.dataset import Dataset
from forwhy.data.finding import UNSPACED
from forwhy.data.intents import COMPLAINT, EXTRACTIVE, FUNCTION_WORDS, OPENINGS, telling_words
from forwhy.text.mining.mine import Outcomes, Values
from forwhy.text.mining.stage import (
    Entity,
    MiningConfig,
    MiningStage,
    count_words,
    first_words,
    is_sign,
    source_table,
)

TOKEN = rf"[{UNSPACED}]|[\w--[{UNSPACED}]]+(?:['’-][\w--[{UNSPACED}]]+)*|[^\w\s]"
"""A word, a sign of a script without spaces, or a mark."""
LONGEST, LONGEST_SIGNS = 3, 4
"""Words, or signs, of a phrase."""
FREQUENT = 0.2
"""Share of texts from which on a word says nothing, once there are `ENOUGH` texts."""
ENOUGH = 20
BLOCK = 50_000
"""Texts whose words are counted at once: bounds memory."""
SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
TELLING = 1.5
"""Standard deviations above chance by which the items of a word must be taken by the same people."""
WIDTH = 256
"""Random directions that stand for the people who took an item."""
NOTHING = "no phrase"
"""Why nothing was mined: the texts hold no word that says anything."""

Phrase = tuple[str, ...]
Weight = Callable[[str], float]


class ExtractiveMiner:
    """Cuts intents, profiles and explanations out of texts; asks nobody. O(W), counted once per stage."""

    model = EXTRACTIVE

    def find(self, stage: MiningStage) -> tuple[Outcomes, str, None]:
        """Phrases, a sentence made of them, or the review's most central sentences."""
        weight = _weights(stage.dataset, stage.config)
        return [_found(entity, weight, stage.config) or NOTHING for entity in stage.entities], "", None


def _found(entity: Entity, weight: Weight, config: MiningConfig) -> Values:
    if config.kind == "explanations":
        return _central(entity.reviews[0], weight, config.explanation_words)
    told = entity.reviews
    if not told:  # what others wrote, without the opening of an extractive profile
        beside = entity.items or entity.metadata
        told = tuple(text.partition(": ")[2] if text.startswith(OPENINGS) else text for text in beside)
    phrases = _phrases(told, weight, config.phrases)
    return phrases if config.kind == "intents" else _profile(entity, phrases, config.profile_words)


def _weights(dataset: Dataset, config: MiningConfig) -> Weight:
    """Rarity of a word among all texts of training; 0 for a mark, number, single letter, and what is everywhere."""
    told, described = dataset.training_texts(source_table(dataset)), filter(None, dataset.item_texts())
    texts = [text[: config.characters] for text in (*told.texts, *described)]
    items = pl.Series("item", [*told.items.tolist(), *[None] * (len(texts) - len(told))], dtype=pl.Int64)
    counts: Counter[str] = Counter()
    said: list[pl.DataFrame] = []
    for start in range(0, len(texts), BLOCK):
        words = _tokens(texts[start : start + BLOCK], lower=True).list.unique().alias("word")
        block = pl.DataFrame([items[start : start + BLOCK], words]).explode("word").drop_nulls("word")
        counts.update(dict(block["word"].value_counts(name="n").iter_rows()))
        said.append(block.drop_nulls().unique())
    telling = _telling(dataset, pl.concat(said).unique()) if said and config.kind != "explanations" else None

    @cache
    def weight(spelt: str) -> float:
        word = spelt.lower()
        if word in FUNCTION_WORDS or not any(letter.isalpha() for letter in word):
            return 0.0
        everywhere = len(texts) >= ENOUGH and counts[word] > FREQUENT * len(texts)
        letter = len(word) == 1 and not is_sign(word)
        if everywhere or letter or (telling is not None and word not in telling):
            return 0.0
        return math.log1p(max(len(texts), 1) / max(counts[word], 1))

    return weight


def _telling(dataset: Dataset, said: pl.DataFrame) -> set[str] | None:
    """Words whose items are taken by the same people more than chance allows; None where too few are found to judge.

    `said` has the distinct pairs `item`, `word`. An item is the sum of random directions of those who took it, at norm
    1 and without the mean of all. For n items of a word, the sum of all products of two of them is near 0 by chance,
    with a variance of 2·n·(n-1) times that of one product. O(pairs · D).
    """
    edges, rng = dataset.edges("train"), np.random.default_rng(0)
    vectors_ID = np.zeros((len(dataset.items), WIDTH))
    np.add.at(vectors_ID, edges[:, 1], rng.standard_normal((len(dataset.users), WIDTH))[edges[:, 0]])
    vectors_ID /= np.maximum(np.linalg.norm(vectors_ID, axis=1, keepdims=True), 1e-9)
    items = said["item"].to_numpy()
    names, rows = np.unique(said["word"].to_numpy(), return_inverse=True)
    vectors_ID -= vectors_ID[items].mean(0)
    sums_WD, counts_W = np.zeros((len(names), WIDTH)), np.bincount(rows)
    np.add.at(sums_WD, rows, vectors_ID[items])
    squares_W = np.bincount(rows, (vectors_ID[items] ** 2).sum(1))
    covariance = np.cov(vectors_ID[items].T)
    spread_W = np.sqrt(2 * counts_W * (counts_W - 1) * (covariance**2).sum())
    z_W = ((sums_WD**2).sum(1) - squares_W) / np.maximum(spread_W, 1e-9)
    found = set(names[(counts_W > 1) & (z_W > TELLING)].tolist())
    return found if len(found) >= ENOUGH else None


def _tokens(texts: Sequence[str], lower: bool = False) -> pl.Series:
    series = pl.Series("text", texts, dtype=pl.String)
    return (series.str.to_lowercase() if lower else series).str.extract_all(TOKEN)


def _phrases(texts: Sequence[str], weight: Weight, most: int) -> Values:
    """The heaviest phrases of some texts; no two of them share a word."""
    mentions: Counter[Phrase] = Counter()
    spelt: dict[Phrase, Phrase] = {}
    for tokens in _tokens(texts):
        for phrase in _candidates(tokens, weight):
            key = tuple(word.casefold() for word in phrase)
            mentions[key] += 1
            spelt.setdefault(key, phrase)
    scores = {key: count * sum(weight(word) for word in key) for key, count in mentions.items()}
    chosen: list[str] = []
    used: set[str] = set()
    for key in sorted(scores, key=lambda phrase: (-scores[phrase], phrase)):
        written = ("" if is_sign(key[0]) else " ").join(spelt[key])
        if used.isdisjoint(key) and telling_words(written) and not COMPLAINT.search(written):
            used.update(key)
            chosen.append(written)
        if len(chosen) == most:
            break
    return tuple(chosen)


def _candidates(tokens: Sequence[str], weight: Weight) -> Iterator[Phrase]:
    """Every run of up to `LONGEST` words of one kind of script that all weigh something; of signs, at least two."""
    for (weighs, signs), run in groupby(tokens, lambda token: (weight(token) > 0, is_sign(token))):
        words = tuple(run) if weighs else ()
        shortest, longest = (2, LONGEST_SIGNS) if signs else (1, LONGEST)
        for start in range(len(words)):
            for end in range(start + shortest, min(start + longest, len(words)) + 1):
                yield words[start:end]


def _profile(entity: Entity, phrases: Values, words: int) -> Values:
    """One plain sentence; says where the phrases are from."""
    if not phrases:
        return ()
    opening = OPENINGS[2 * (entity.side != "item") + (not entity.reviews)]
    shorter = (f"{opening}: {'; '.join(phrases[:count])}." for count in range(len(phrases), 0, -1))
    sentence = next((text for text in shorter if count_words(text) <= words), f"{opening}: {phrases[0]}.")
    return (first_words(sentence, words),)


def _central(text: str, weight: Weight, words: int) -> Values:
    """The sentence nearest (cosine) to all of them, and further ones while there is room, in the text's order.

    Complaints are left out: they are no reason.
    """
    sentences = [part.strip() for part in SENTENCE.split(text) if part.strip() and not COMPLAINT.search(part)]
    words_of = [Counter(tokens).items() for tokens in _tokens(sentences, lower=True)]
    vectors = [{word: n * weight(word) for word, n in counts if weight(word)} for counts in words_of]
    total: dict[str, float] = defaultdict(float)
    for word, weighed in chain.from_iterable(vector.items() for vector in vectors):
        total[word] += weighed
    order = sorted(range(len(vectors)), key=lambda row: (-_cosine(vectors[row], total), row))
    if not order or not vectors[order[0]]:
        return ()
    chosen, room = [order[0]], words - count_words(sentences[order[0]])
    for row in order[1:]:
        if vectors[row] and count_words(sentences[row]) <= room:
            chosen.append(row)
            room -= count_words(sentences[row])
    return (first_words(" ".join(sentences[row] for row in sorted(chosen)), words),)


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    dot = sum(weighed * other.get(word, 0.0) for word, weighed in one.items())
    norms = math.sqrt(sum(w * w for w in one.values()) * sum(w * w for w in other.values()))
    return dot / norms if norms else 0.0
