"""Specificity: does a text say what only its own pair's reference says, once the item's name is taken out of both?

A text that copies the name is told from others by that alone, so the name goes first; then the own reference is looked
for among others: its rank by the cosine of vectors, and the tf-idf cosine with it, which no encoder can bend.

Shapes: n rows, D dimensions of the text vectors.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from math import log

import numpy as np

from forwhy.data.dataset import Dataset, Pairs
from forwhy.evaluate.significance import Ints
from forwhy.evaluate.text import Encoder, TextScores

AMONG = 100
"""References that the own one is ranked among, itself included."""
RARE, USUAL = 0.001, 0.1
"""A word of a title names the item if it is in at most this share of training texts about items that are called
otherwise; from the second share on it is a word such as "the"."""
FEWEST, LONGEST = 20, 300
"""Training texts that a share is at least taken of (of a handful every word is usual); read characters of a title."""
ROUNDING = 1e-6
"""Cosines of equal texts differ by less."""

WORD = re.compile(r"\w+(?:['’]\w+)*")
PART = re.compile(r"[:;,()\[\]{}/|]|\s[-–—]\s")
ARTICLES = frozenset({"a", "an", "the"})
BETWEEN = r"(?:\W+(?:and\W+)?)"
Words = tuple[str, ...]


def name_words(text: str) -> list[str]:
    """Lower-cased words of a text; "Drago's" is one."""
    return [word.replace("’", "'") for word in WORD.findall(text.lower())]


class Names:
    """What items are called, so that it can be taken out of a text.

    Taken out are, whatever their case and possessive: the title; its parts ("Livery" of "Livery - Indianapolis"); how
    a part begins ("Milk & Honey" of "Milk & Honey Tapas"); and single words that training texts about other items
    (`told`) hardly have ("Drago's" of "Drago's Seafood Restaurant", where "seafood" stays). Cost: linear in words.
    """

    def __init__(self, titles: Sequence[str], told: Pairs) -> None:
        self._titles, self._texts = titles, max(FEWEST, len(told))
        self._found: Counter[str] = Counter()
        for item, text in zip(told.items.tolist(), told.texts, strict=True):
            self._found.update(set(name_words(text)).difference(name_words(titles[item])))
        self._pattern = cache(self._compiled)

    def without(self, text: str, item: int) -> str:
        """The text without the name of this item (internal number)."""
        pattern = self._pattern(item)
        return text if pattern is None else " ".join(pattern.sub(" ", text).split())

    def _compiled(self, item: int) -> re.Pattern[str] | None:
        runs = set(self._runs(self._titles[item][:LONGEST]))
        if not runs:
            return None
        # The longest first: of "Drago" and "Drago's" the whole is taken.
        ordered = sorted(runs, key=lambda run: (len(run), len("".join(run)), run), reverse=True)
        escaped = ([re.escape(word).replace("'", "['’]?") for word in run] for run in ordered)
        one_of = "|".join(map(BETWEEN.join, escaped))
        return re.compile(rf"(?<!\w)(?:{one_of})(?:['’]s?)?(?!\w)", re.IGNORECASE)

    def _runs(self, title: str) -> Iterator[Words]:
        whole, *parts = (_bare(name_words(part)) for part in (title, *PART.split(title)))
        yield from [whole] * bool(whole)
        for part in parts:
            for end in range(2, len(part) + 1):
                if sum(self._share(word) < USUAL for word in part[:end]) > 1:
                    yield part[:end]
        forms = {form for word in whole for form in (word, word.removesuffix("'s"))}
        yield from ((form,) for form in forms if len(form) > 1 and self._share(form) <= RARE)

    def _share(self, word: str) -> float:
        return self._found[word] / self._texts


def _bare(words: Sequence[str]) -> Words:
    """Words of a name without "and", which may stand as "&", and without a first article."""
    kept = [word for word in words if word != "and"]
    return tuple(kept[1:] if len(kept) > 1 and kept[0] in ARTICLES else kept)


class TfIdf:
    """Words of texts weighed by how few texts have them: times in the text x ln((1 + n) / (1 + texts with it)).

    scikit-learn's smooth idf without its "+ 1": a word of every text weighs nothing. Cost: linear in words.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = len(texts)
        self._with = Counter(word for text in texts for word in set(name_words(text)))

    def weight(self, word: str) -> float:
        """Idf of a word."""
        return log((1 + self._texts) / (1 + self._with[word]))

    def vector(self, text: str) -> dict[str, float]:
        """Word -> weight, of norm 1; empty where nothing weighs."""
        weighed = {word: times * self.weight(word) for word, times in Counter(name_words(text)).items()}
        norm = sum(it * it for it in weighed.values()) ** 0.5
        return {word: it / norm for word, it in weighed.items()} if norm else {}

    def cosine(self, one: str, other: str) -> float:
        """Of two texts; 0 for one of which nothing weighs."""
        left, right = self.vector(one), self.vector(other)
        return sum(weight * right.get(word, 0.0) for word, weight in left.items())


class Specificity:
    """A `text.Measure` of the rows of one method: `own_mrr` and `own_hit@10` (with an encoder), `own_tfidf`.

    A pair's own reference is ranked among 99 others, drawn from the test pairs of the data set by seed, user and item,
    so whichever method is measured the same. Equal texts stand once; ties count against us; rows that are no held-out
    pair do not count.
    """

    signature = (
        f"own reference among {AMONG} of the test pairs, names taken out; idf of training explanations"
    )

    def __init__(
        self, dataset: Dataset, users: Ints, items: Ints, encoder: Encoder | None = None, seed: int = 0
    ) -> None:
        """Of n rows in internal numbers, -1 where a row is no pair of the data set."""
        told, test = dataset.pairs("train"), dataset.pairs("test")
        self._names = Names(dataset.titles(), told)
        self._rows = list(zip(users.tolist(), items.tolist(), strict=True))
        self._encoder, self._seed = encoder, seed
        self._pool = list(dict.fromkeys(map(self._names.without, test.texts, test.items.tolist())))
        self._among = min(AMONG, len(self._pool))
        self._tfidf = TfIdf(told.texts or test.texts)

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> TextScores:
        """Of `predictions[k]` as the text of row k. Cost: `AMONG` vectors compared for each, and new texts encoded."""
        known = [row for row, (user, _) in enumerate(self._rows) if user >= 0]
        if not known:
            return TextScores({})
        ours, right = (
            [self._names.without(texts[row], self._rows[row][1]) for row in known]
            for texts in (predictions, references)
        )
        found = {"own_tfidf": np.array([*map(self._tfidf.cosine, ours, right)])}
        of_all = {}
        if self._encoder is not None and len(self._pool) > 1:
            rank_k = self._ranks(self._encoder, known, ours, right)
            found = {"own_mrr": 1 / rank_k, "own_hit@10": (rank_k <= 10).astype(np.float64), **found}
            of_all["own_among"] = float(self._among)
        counts = {name: np.zeros((len(self._rows), 2)) for name in found}
        for name, values in found.items():  # value | 1, or 0 | 0 for a row that does not count
            counts[name][known] = np.column_stack([values, np.ones(len(known))])
        return TextScores({}, counts, of_all)

    def _ranks(
        self, encoder: Encoder, known: Sequence[int], ours: Sequence[str], right: Sequence[str]
    ) -> Ints:
        """[k] rank from 1 of the own reference of each known row."""
        place = {text: position for position, text in enumerate(self._pool)}
        pool_pD, ours_kD, right_kD = map(encoder.encode, (self._pool, ours, right))
        ranks = []
        for row, our_D, right_D, text in zip(known, ours_kD, right_kD, right, strict=True):
            drawn = np.random.default_rng([self._seed, *self._rows[row]]).permutation(len(self._pool))
            others = drawn[drawn != place.get(text, -1)][: self._among - 1]
            ranks.append(1 + int((pool_pD[others] @ our_D >= our_D @ right_D - ROUNDING).sum()))
        return np.array(ranks)
