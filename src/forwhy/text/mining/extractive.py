"""Mining without a language model: key phrases and central sentences, cut out of the texts themselves.

A word weighs its rarity: log(1 + T / t) for t of the T texts that hold it. A phrase is up to three words between
marks and frequent words; among the phrases of an entity, taken as one class, it counts its number of mentions times the
weights of its words (class-based TF-IDF). Deterministic; needs no word lists, but leaves out the commonest English
function words where there are too few texts to find them by frequency.

Legend: T texts, W words of all texts.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from forwhy.columns import Side
from forwhy.data.audit.copies import UNSPACED
from forwhy.data.dataset import Dataset
from forwhy.text.mining.mine import Found, Stage, Values
from forwhy.text.mining.subjects import MiningConfig, Subject, count_words, first_words, is_sign, source_table

__all__ = ["ExtractiveMiner"]

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
FUNCTION_WORDS = frozenset(
    """
    a about above across after again against all along also although am among an and any are around as at be
    because been before behind being below beside between but by came can could did do does doing don't down
    during for from get go got had has have having he her here him his how however i i'm i've if in into is
    it it's its just like me more most my near no nor not of off on once only onto or other our out over own
    really she since so some such than that the their them then there these they this those though through
    to too toward towards under until up upon us very was we were what when where which while who why will
    with within without would you your
    """.split()  # noqa: SIM905 - a paragraph reads better than a list
)
OPENINGS = ("Reviews of it mention", "Its description mentions")
"""Of an item's profile."""
NOTHING = "no phrase"
"""Why nothing was mined: the texts hold no word that says anything."""

Phrase = tuple[str, ...]


class ExtractiveMiner:
    """Cuts intents, profiles and explanations out of texts; asks nobody. O(W), counted once per stage."""

    model = "extractive"

    def check(self, config: MiningConfig, side: Side) -> str:
        """No prompt, so no hash."""
        return ""

    def find(self, stage: Stage) -> Found:
        """Phrases, a sentence made of them, or the review's most central sentences."""
        config, weights = stage.config, _Weights.of(stage)
        if config.kind == "explanations":
            texts = [subject.texts[0] for subject in stage.subjects]
            return Found([_central(text, weights, config.explanation_words) or NOTHING for text in texts])
        told = [subject.texts or _described(subject) for subject in stage.subjects]
        phrases = [_phrases(texts, weights, config) for texts in told]
        if config.kind == "intents":
            return Found([found or NOTHING for found in phrases])
        pairs = zip(stage.subjects, phrases, strict=True)
        return Found([_profile(subject, found, config) or NOTHING for subject, found in pairs])


class _Weights(dict[str, float]):
    """Rarity of a word among the texts that training may read, worked out when first asked for.

    0 for a mark, a number, a single letter, and a word that is everywhere.
    """

    def __init__(self, counts: Mapping[str, int], texts: int) -> None:
        super().__init__()
        self._counts, self._texts = counts, texts

    @classmethod
    def of(cls, stage: Stage) -> "_Weights":
        """Counted in the texts of the whole data set, so that they do not depend on whom a stage is about."""
        texts = _corpus(stage.dataset, stage.config)
        counts: Counter[str] = Counter()
        for start in range(0, len(texts), BLOCK):
            words = _tokens(texts[start : start + BLOCK], lower=True).list.unique().explode()
            counts.update(dict(words.drop_nulls().value_counts(name="n").iter_rows()))
        return cls(counts, len(texts))

    def __missing__(self, word: str) -> float:
        self[word] = self._rarity(word.lower())
        return self[word]

    def _rarity(self, word: str) -> float:
        if word in FUNCTION_WORDS or not any(letter.isalpha() for letter in word):
            return 0.0
        count = self._counts.get(word, 0)
        everywhere = self._texts >= ENOUGH and count > FREQUENT * self._texts
        if everywhere or (len(word) == 1 and not is_sign(word)):
            return 0.0
        return math.log1p(max(self._texts, 1) / max(count, 1))


def _corpus(dataset: Dataset, config: MiningConfig) -> Sequence[str]:
    texts = dataset.training_texts(source_table(dataset)).texts
    return [text[: config.characters] for text in (*texts, *(text for text in dataset.item_texts() if text))]


def _tokens(texts: Sequence[str], lower: bool = False) -> pl.Series:
    series = pl.Series("text", texts, dtype=pl.String)
    return (series.str.to_lowercase() if lower else series).str.extract_all(TOKEN)


def _described(subject: Subject) -> tuple[str, ...]:
    """What others wrote, without the opening of an extractive profile."""
    told = subject.items or (subject.metadata,)
    return tuple(text.partition(": ")[2] if text.startswith(OPENINGS) else text for text in told if text)


def _phrases(texts: Sequence[str], weights: _Weights, config: MiningConfig) -> Values:
    """The heaviest phrases of some texts; no word stands in two of them."""
    mentions: Counter[Phrase] = Counter()
    spelt: dict[Phrase, Phrase] = {}
    for tokens in _tokens(texts):
        for phrase in _candidates(tokens, weights):
            key = tuple(word.casefold() for word in phrase)
            mentions[key] += 1
            spelt.setdefault(key, phrase)
    scores = {key: count * sum(weights[word] for word in key) for key, count in mentions.items()}
    chosen: list[str] = []
    used: set[str] = set()
    for key in sorted(scores, key=lambda phrase: (-scores[phrase], phrase)):
        if used.isdisjoint(key):
            used.update(key)
            chosen.append(_joined(spelt[key]))
        if len(chosen) == config.phrases:
            break
    return tuple(chosen)


def _candidates(tokens: Sequence[str], weights: _Weights) -> Iterator[Phrase]:
    """Every run of up to `LONGEST` words that all weigh something; of signs, at least two."""
    for run in _runs(tokens, weights):
        signs = is_sign(run[0])
        longest = LONGEST_SIGNS if signs else LONGEST
        for start in range(len(run)):
            for end in range(start + (2 if signs else 1), min(start + longest, len(run)) + 1):
                yield tuple(run[start:end])


def _runs(tokens: Sequence[str], weights: _Weights) -> Iterator[list[str]]:
    """Words in a row, of one kind of script."""
    run: list[str] = []
    for token in tokens:
        weighs = weights[token] > 0
        if run and (not weighs or is_sign(token) != is_sign(run[0])):
            yield run
            run = []
        if weighs:
            run.append(token)
    if run:
        yield run


def _joined(phrase: Phrase) -> str:
    return ("" if is_sign(phrase[0]) else " ").join(phrase)


def _profile(subject: Subject, phrases: Values, config: MiningConfig) -> Values:
    """One plain sentence; says where the phrases are from."""
    if not phrases:
        return ()
    if subject.side == "item":
        opening = OPENINGS[0] if subject.texts else OPENINGS[1]
    else:
        opening = "Writes about" if subject.texts else "Chose items described with"
    kept = list(phrases)
    while len(kept) > 1 and count_words(_sentence(opening, kept)) > config.profile_words:
        kept.pop()
    return (first_words(_sentence(opening, kept), config.profile_words),)


def _sentence(opening: str, phrases: Sequence[str]) -> str:
    return f"{opening}: {'; '.join(phrases)}."


def _central(text: str, weights: _Weights, words: int) -> Values:
    """The sentence nearest (cosine) to all of them, and further ones while there is room, in the text's order."""
    sentences = [part.strip() for part in SENTENCE.split(text) if part.strip()]
    vectors = [_vector(tokens, weights) for tokens in _tokens(sentences, lower=True)]
    total: dict[str, float] = defaultdict(float)
    for vector in vectors:
        for word, weight in vector.items():
            total[word] += weight
    order = sorted(range(len(vectors)), key=lambda row: (-_cosine(vectors[row], total), row))
    if not order or not vectors[order[0]]:
        return ()
    chosen, room = [order[0]], words - count_words(sentences[order[0]])
    for row in order[1:]:
        if vectors[row] and count_words(sentences[row]) <= room:
            chosen.append(row)
            room -= count_words(sentences[row])
    return (first_words(" ".join(sentences[row] for row in sorted(chosen)), words),)


def _vector(tokens: Sequence[str], weights: _Weights) -> dict[str, float]:
    weighed = {word: count * weights[word] for word, count in Counter(tokens).items()}
    return {word: weight for word, weight in weighed.items() if weight}


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    dot = sum(weight * other.get(word, 0.0) for word, weight in one.items())
    norms = math.sqrt(sum(w * w for w in one.values()) * sum(w * w for w in other.values()))
    return dot / norms if norms else 0.0
