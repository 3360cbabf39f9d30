"""What an explanation is checked against: known statements about its item, and by or about its user.

Only training text is read, and never that of the pair itself: training and held-out pairs are judged alike.
"""

from collections import defaultdict
from functools import cache
from itertools import chain, islice
from typing import Literal, NamedTuple

import numpy as np

from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.evaluate.claims import claims

Source = Literal["title", "item", "phrase", "explanation", "review"]

BACKGROUND = 2000
MOST_TEXTS = 50
"""Texts read for one user or item, explanations first: the more are read, the more claims match by chance."""


class Statement(NamedTuple):
    """Something known, and where it was said."""

    text: str
    source: Source
    """`item`: its categories or description; `phrase`: intents or profile; else a training text."""
    pair: tuple[int, int] | None = None
    """Internal user and item of the training text."""


class PairStatements(NamedTuple):
    """What is known of the two sides of a pair, each statement once."""

    item: list[Statement]
    user: list[Statement]

    def has(self, side: Literal["item", "user", "either"]) -> bool:
        """Whether more than an item's title is known of that side."""
        known = {"item": self.item, "user": self.user, "either": self.item + self.user}[side]
        return any(statement.source != "title" for statement in known)


class KnownStatements:
    """Statements by user and by item; training texts are cut into claims when first asked for."""

    def __init__(self, dataset: Dataset, phrases: IntentsConfig | None = None) -> None:
        """Read item texts, phrases, and the training texts of pairs that are held out nowhere. Cost: linear in texts.

        `phrases`: which intents or profiles may be read. By default no profiles, which may leak held-out text.
        """
        self._claims = cache(claims)
        self._facts: defaultdict[tuple[Side, int], list[Statement]] = defaultdict(list)
        self._texts: defaultdict[tuple[Side, int], list[Statement]] = defaultdict(list)
        config = (phrases or IntentsConfig()).model_copy(update={"training_explanations": False})
        for number, (title, text) in enumerate(zip(dataset.titles(), dataset.item_texts(), strict=True)):
            known = self._facts["item", number]
            known += [Statement(claim, "title") for claim in claims(title)]
            known += [Statement(claim, "item") for claim in claims(text[len(title) :])]
        for side in SIDES:
            for number, said in entity_phrases(dataset, side, config).items():
                self._facts[side, number] += [Statement(phrase, "phrase") for phrase in said]
        told = dataset.pairs("train")
        told = told.select(np.flatnonzero(~dataset.is_heldout(told.users, told.items)))
        read: tuple[tuple[Source, Pairs], ...] = (
            ("explanation", told),
            ("review", dataset.training_reviews()),
        )
        for source, pairs in read:
            for user, item, text in zip(pairs.users.tolist(), pairs.items.tolist(), pairs.texts, strict=True):
                statement = Statement(text, source, (user, item))
                self._texts["item", item].append(statement)
                self._texts["user", user].append(statement)

    def of(self, user: int, item: int) -> PairStatements:
        """What is known of a pair (internal numbers), without what was said about this very pair."""
        return PairStatements(self._side("item", item, (user, item)), self._side("user", user, (user, item)))

    def of_pairs(self, pairs: Pairs) -> list[PairStatements]:
        """What is known of each pair."""
        return [*map(self.of, pairs.users.tolist(), pairs.items.tolist())]

    def background(self, pairs: Pairs, size: int = BACKGROUND, seed: int = 0) -> list[str]:
        """At most `size` statements of random pairs, each as often as it is said. Pass training pairs."""
        order = np.random.default_rng(seed).permutation(len(pairs))
        drawn = map(self.of, pairs.users[order].tolist(), pairs.items[order].tolist())
        known = (statement.text for pair in drawn for side in pair for statement in side)
        return list(islice(known, size))

    def _side(self, side: Side, entity: int, pair: tuple[int, int]) -> list[Statement]:
        others = [text for text in self._texts[side, entity] if text.pair != pair][:MOST_TEXTS]
        said = (text._replace(text=claim) for text in others for claim in self._claims(text.text))
        found: dict[str, Statement] = {}
        for statement in chain(self._facts[side, entity], said):
            found.setdefault(statement.text.casefold(), statement)
        return list(found.values())
