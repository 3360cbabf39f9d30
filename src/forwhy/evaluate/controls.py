"""Controls, what a number must beat: a constant sentence, a method's own outputs dealt to other pairs, known texts.

BLEU-1 hardly sees personalisation, so no table of texts is shown without them.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.evaluate.overlap import Splitter, words
from forwhy.evaluate.reading import IDS, Outputs, feature_words
from forwhy.evaluate.significance import Floats, Ints
from forwhy.evaluate.specificity import Specificity
from forwhy.evaluate.text import Encoder, Features, Measure, TextScores, score_texts
from forwhy.ridge import ridge

Texts = list[str | None]
Score = Callable[[Sequence[str], Sequence[str]], Floats]
"""Candidates [c], references [r] -> [c]: value of each candidate as the one answer to all references."""

CANDIDATES, REFERENCES, LOOKUP_PAIRS = 256, 2000, 5000


@dataclass(frozen=True)
class Control:
    """A control's scores on the method's pairs, its answer to each, and the `sentence` where that is one constant.

    `fallbacks`: pairs for which it had no text and gave the constant; None where that cannot happen.
    """

    scores: TextScores
    texts: Sequence[str]
    sentence: str | None = None
    fallbacks: int | None = None


@dataclass(frozen=True)
class TextTable:
    """A method's text metrics beside its controls, on the same pairs."""

    method: TextScores
    controls: dict[str, Control]
    """As `registry.CONTROLS` says: `constant` and (with an encoder) `constant_similar`, or `constant_halves` without
    training texts; `dealt`; and `others`."""


def text_table(
    predictions: Sequence[str],
    references: Sequence[str],
    train_texts: Sequence[str],
    encoder: Encoder | None = None,
    seed: int = 0,
    features: Features | None = None,
    measures: Sequence[Measure] = (),
    others: Mapping[str, Sequence[str | None]] | None = None,
) -> TextTable:
    """Score predictions and all their controls. Cost: `score_texts` for each; a text is split and encoded once.

    Constants are picked on `train_texts`. `others`: further controls, each with one text per pair or None, for which
    the constant is taken; a ValueError where there is none.
    """
    memory = None if encoder is None else RememberingEncoder(encoder)
    splitter = Splitter()

    def score(texts: Sequence[str]) -> TextScores:
        return score_texts(texts, references, memory, features, splitter, measures)

    method = score(predictions)  # first: a measure's budget must not end before it
    sentences = {"constant": best_constant(train_texts, seed=seed)} if train_texts else {}
    if train_texts and memory is not None:
        alike = partial(similarity_score, memory)
        sentences["constant_similar"] = best_constant(train_texts, score=alike, seed=seed)
    answers = {name: [sentence] * len(references) for name, sentence in sentences.items()}
    if not answers:
        answers["constant_halves"] = crossed_constants(references, seed)
    answers["dealt"] = [predictions[row] for row in deal(len(predictions), seed)]
    fallbacks = {name: list(given).count(None) for name, given in (others or {}).items()}
    for name, given in (others or {}).items():
        if fallbacks[name] and not sentences:
            raise ValueError(f"control {name}: a pair has no text, and there is no constant to stand for it")
        answers[name] = [sentences["constant"] if text is None else text for text in given]
    told = {name: (texts, sentences.get(name), fallbacks.get(name)) for name, texts in answers.items()}
    return TextTable(method, {name: Control(score(it[0]), *it) for name, it in told.items()})


def best_constant(train_texts: Sequence[str], score: Score | None = None, seed: int = 0) -> str:
    """The training sentence that scores best as the one answer to all of them; a UserError without any.

    At most `CANDIDATES` are tried on at most `REFERENCES`, both drawn; `score` is corpus BLEU-1 by default.
    """
    texts = list(dict.fromkeys(text for text in train_texts if text.strip()))
    if not texts:
        raise UserError("no constant control: the training split has no explanations; give it some texts")
    drawn: list[str] = [texts[row] for row in np.random.default_rng(seed).permutation(len(texts))]
    tried, judges = drawn[:CANDIDATES], drawn[::-1][:REFERENCES]
    return tried[int(np.argmax((score or bleu1_score)(tried, judges)))]


def crossed_constants(references: Sequence[str], seed: int = 0) -> list[str]:
    """A constant for each of two random halves of the pairs (two or more), picked on the other half's references."""
    if len(references) < 2:
        raise UserError(f"{len(references)} pair cannot be halved for a constant; evaluate at least two")
    order = np.random.default_rng(seed).permutation(len(references))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    texts = np.empty(len(references), dtype=object)
    for half, other in (halves, halves[::-1]):
        texts[half] = best_constant([references[row] for row in other], seed=seed)
    found: list[str] = texts.tolist()
    return found


def bleu1_score(candidates: Sequence[str], references: Sequence[str]) -> Floats:
    """Corpus BLEU-1 of each candidate against all references: `score_texts` in one matrix per candidate."""
    right, bags = ([Counter(words(text)) for text in side] for side in (references, candidates))
    column = {word: position for position, word in enumerate(dict.fromkeys(chain(*bags)))}
    counts_wr = np.zeros((len(column), len(right)), dtype=np.int32)
    for number, bag in enumerate(right):
        for word in bag.keys() & column.keys():
            counts_wr[column[word], number] = bag[word]
    reference_words = sum(bag.total() for bag in right)

    def value(bag: Counter[str]) -> float:
        if not bag:
            return 0.0
        own = counts_wr[[column[word] for word in bag]]
        matches = int(np.minimum(own, np.array([*bag.values()])[:, None]).sum())
        length = bag.total() * len(right)
        return float(matches / length * np.exp(min(0.0, 1 - reference_words / length)))

    return np.array([value(bag) for bag in bags])


def similarity_score(encoder: Encoder, candidates: Sequence[str], references: Sequence[str]) -> Floats:
    """Mean cosine of each candidate to all references."""
    mean_d = encoder.encode(references).astype(np.float64).mean(axis=0)
    return np.asarray(encoder.encode(candidates) @ mean_d)


def deal(n: int, seed: int, labels: Ints | None = None) -> Ints:
    """A random permutation [n] that leaves no row in place.

    With `labels` [n], such as the pairs' users, row k gets a row of another label. Where one label holds more than
    half of the rows, as few as possible keep theirs. A UserError with fewer than two pairs.
    """
    if n < 2:
        raise UserError(f"{n} pair cannot be dealt to other pairs; evaluate at least two")
    generator = np.random.default_rng(seed)
    labels = np.arange(n) if labels is None else np.unique(labels, return_inverse=True)[1]
    shuffled = generator.permutation(n)
    groups = generator.permutation(int(labels.max()) + 1)[labels[shuffled]]
    order = shuffled[np.argsort(groups, kind="stable")]
    # Rows of a label stand together: a shift by the largest group carries every row out of its own.
    dealt = np.empty(n, dtype=np.int64)
    dealt[order] = np.roll(order, -max(1, min(int(np.bincount(groups).max()), n - 1)))
    return dealt


class RememberingEncoder:
    """An encoder that encodes each distinct text once and keeps its vector."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, dim], as the wrapped encoder gives them."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._encoder.encode(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])


# --- Controls that know the pair: the text of a neighbour, which nobody had to write, and the item's profile.
#
# Only training explanations of pairs that are held out nowhere are read.
# Shapes: n pairs in internal numbers, -1 where a row is no pair of the data set.


def known_table(
    outputs: Outputs,
    dataset: Dataset | None,
    encoder: Encoder | None,
    seed: int,
    features: Features | None = None,
    measures: Sequence[Measure] = (),
) -> TextTable:
    """Score matched outputs beside every control that the data set allows."""
    training: Sequence[str] = ()
    others = None
    memory = None if encoder is None else RememberingEncoder(encoder)
    if dataset is not None:
        training = dataset.pairs("train").texts
        users, items = outputs.frame.select("user", "item").fill_null(-1).to_numpy().T
        measures = [Specificity(dataset, users, items, memory, seed), *measures]
        others = known_controls(dataset, users, items, memory, seed) if training else None
        features = features or told_features(outputs, dataset)
    texts = outputs.predictions, outputs.references
    return text_table(*texts, training, memory, seed, features, measures, others)


def told_features(outputs: Outputs, dataset: Dataset) -> Features | None:
    """What the data set says that each matched text should name; None where it says nothing."""
    told = dataset.table("explanations")
    if "features" not in told.columns:
        return None
    words = [*map(feature_words, told["features"])]
    ids = zip(*(map(str, told[name]) for name in IDS), strict=True)
    of_pairs, catalogue = dict(zip(ids, words, strict=True)), {word for row in words for word in row}
    return Features([of_pairs.get(pair, []) for pair in outputs.pairs], catalogue) if catalogue else None


def known_controls(
    dataset: Dataset, users: Ints, items: Ints, encoder: Encoder | None = None, seed: int = 0
) -> dict[str, Texts]:
    """`nearest_item`, `nearest_user`, `profile` and, with an encoder, `lookup`; None where a pair has no such text."""
    return {
        "nearest_item": nearest_texts(dataset, users, items),
        "nearest_user": nearest_texts(dataset, users, items, by_user=True),
        "profile": profile_texts(dataset, items),
        **({} if encoder is None else {"lookup": lookup_texts(dataset, items, encoder, seed)}),
    }


def nearest_texts(dataset: Dataset, users: Ints, items: Ints, by_user: bool = False) -> Texts:
    """The training explanation of each pair's item by the user who is most like the pair's; None without any.

    Likeness is the cosine of two users' sets of training items (leak-free graph); the smallest id wins among equals.
    `by_user`: the explanation by the pair's user of the item most like the pair's. Cost: the interactions once.
    """
    edges, train = dataset.edges("train"), dataset.pairs("train")
    train = train.select(np.flatnonzero(~dataset.is_heldout(train.users, train.items)))
    told: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for user, item, text in zip(train.users.tolist(), train.items.tolist(), train.texts, strict=True):
        of, teller = (user, item) if by_user else (item, user)
        told[of][teller] = text
    if by_user:
        users, items, edges = items, users, edges[:, ::-1]
    compared = [*{teller for tellers in told.values() for teller in tellers}, *users.tolist()]
    taken: defaultdict[int, set[int]] = defaultdict(set)
    for owner, one in edges[np.isin(edges[:, 0], compared)].tolist():
        taken[owner].add(one)

    def likeness(one: int, other: int) -> float:
        own, theirs = taken[one], taken[other]
        return len(own & theirs) / math.sqrt(max(1, len(own) * len(theirs)))

    found: Texts = []
    for of, who in zip(items.tolist(), users.tolist(), strict=True):
        tellers = sorted(teller for teller in told[of] if teller != who)
        found.append(told[of][max(tellers, key=partial(likeness, who))] if tellers else None)
    return found


def profile_texts(dataset: Dataset, items: Ints) -> Texts:
    """The profile of each pair's item, or its title, categories and description; None where nothing is known."""
    # A profile may have been written from held-out text: that makes the control stronger, not weaker.
    known = dict(enumerate(dataset.item_texts())) | {it: p for it, p in dataset.profiles("item").items() if p}
    return [known.get(item, "").strip() or None for item in items.tolist()]


# --- A control that learns, without a language model: from an item's title straight to a training explanation.


def lookup_texts(dataset: Dataset, items: Ints, encoder: Encoder, seed: int = 0) -> Texts:
    """The training explanation nearest to what a ridge map expects of each pair's item; None of an unknown item.

    The map goes from the vector of an item's title (without one, of its description, categories or profile) to the
    vector of its explanation, and is fitted on at most `LOOKUP_PAIRS` training pairs. Cost: their vectors.
    """
    profiles = dataset.profiles("item")
    known = zip(dataset.titles(), dataset.item_texts(), strict=True)
    said = [title or text or profiles.get(item, "") for item, (title, text) in enumerate(known)]
    told = dataset.pairs("train")
    unsaid = np.array([not said[item].strip() for item in told.items.tolist()], dtype=bool)
    usable = np.flatnonzero(~unsaid & ~dataset.is_heldout(told.users, told.items))
    told = told.select(np.random.default_rng(seed).permutation(usable)[:LOOKUP_PAIRS])
    asked = [row for row, item in enumerate(items.tolist()) if item >= 0 and said[item].strip()]
    found: Texts = [None] * len(items)
    if len(told) < 2 or not asked:
        return found
    titles_nD, told_nV = map(encoder.encode, ([said[item] for item in told.items.tolist()], told.texts))
    expected_aV = ridge(titles_nD, told_nV)(encoder.encode([said[items[row]] for row in asked]))
    for row, nearest in zip(asked, (expected_aV @ told_nV.T).argmax(axis=1).tolist(), strict=True):
        found[row] = told.texts[nearest]
    return found
