"""What may be said of a pair, and which part of it supports each claim of a text. No torch.

Statements about the item and of the user are ranked by nearness to what is said of such pairs, never with those of the
pair's own text. A claim is supported by a statement that has all its words, or all its numbers and a cosine with it of
at least a threshold; one about the person only by a statement about that person.

Shapes: s statements, c claims, D width of the text encoder's vectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.explain.evidence import Claim, StatementEvidence, Subject
from forwhy.explain.options import MOST_SHOWN
from forwhy.ridge import LinearMap, ridge
from forwhy.text.encoder import TextEncoder, unit
from forwhy.text.statements import KnownStatements, Statement, claims, of_person
from forwhy.vocabulary.vocabulary import Vocabulary

Vectors = NDArray[np.float32]
_WORD = re.compile(r"[^\W\d_]+|\d+")
_NEARBY = 2
"""Items whose statements stand in for those of an item of which nothing is known."""
_ALIKE = 0.9
"""Of two statements whose cosine is above, one is told."""
_USER_WEIGHT = 0.5
"""What nearness to the user's statements weighs beside nearness to the item's."""
_LEAST = 50
"""Training pairs of a half, at least, from which it is learned what is said."""
_REMEMBERED = 100_000
"""Texts whose vectors are kept in memory."""
_DISLIKED = 0.6
"""Cosine from which on something is what a user dislikes."""
_ACCEPTED = 0.1
"""Claims, of those beside another pair's statements, that the threshold of support may accept."""
_THRESHOLDS = (0.5, 0.8)
"""Within these it is fitted: few texts tell little, and in a small world two pairs share true statements."""
_SUPPORTED_BY = 3
"""Statements that are named for a claim, at most."""


class PairKnowledge:
    """What is known of pairs in words: ranked for each, and matched with claims."""

    def __init__(
        self, statements: KnownStatements, known: Vocabulary, encoder: TextEncoder, threshold: float = 0.5
    ) -> None:
        """`threshold`: cosine from which on a statement supports a claim; see :meth:`calibrate`."""
        self.statements, self.known, self.encoder, self.threshold = statements, known, encoder, threshold
        self.expected: list[LinearMap] = []
        """From a pair to the vector of what is said of such pairs, in two halves; none before :meth:`learn`."""
        self._remembered: dict[str, Vectors] = {}

    def offering(self, known: Vocabulary, title: str, text: str) -> Self:
        """Also of what is known of an item more, the last one."""
        offering = copy(self)
        offering.known = known
        offering.statements = self.statements.told_of(len(known.catalogue.items) - 1, title, text)
        return offering

    @cached_property
    def _described_items(self) -> NDArray[np.int64]:
        """Items of which more than a title is known."""
        told = self.statements.table.filter(pl.col("side") == "item", pl.col("source") != "title")
        return told["entity"].unique().sort().to_numpy()

    def _near(self, item: int, among: NDArray[np.int64], count: int) -> list[int]:
        """Those of some other items that share most words with an item; earlier slots weigh more."""
        codes, others = self.known.codes["item"], among[among != item]
        shared = (codes[others] == codes[item]) @ (1.0 / np.arange(1, codes.shape[1] + 1))
        best = np.argsort(-shared, kind="stable")[:count]
        return [int(others[row]) for row in best if shared[row] > 0]

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        """[n, D] unit vectors; each text is encoded once while it is remembered."""
        if len(self._remembered) > _REMEMBERED:
            self._remembered.clear()
        missing = [text for text in dict.fromkeys(texts) if text not in self._remembered]
        if missing:  # the encoder looks into its cache on disk even for none
            self._remembered.update(zip(missing, self.encoder.encode(missing), strict=True))
        return np.array([self._remembered[text] for text in texts], np.float32).reshape(-1, self.encoder.dim)

    def _gathered(self, subject: Subject) -> dict[Side, list[tuple[Statement, int]]]:
        """Side -> statements with the item (or the user, of the user's own) that each was said of; unranked."""
        own = self.statements.of(subject.user, subject.item)
        about = [(statement, subject.item) for statement in own.item]
        if all(statement.source == "title" for statement, _ in about):
            for near in self._near(subject.item, self._described_items, _NEARBY):
                nearby = self.statements.of(subject.user, near).item
                about += [(one._replace(source="nearby"), near) for one in nearby if one.source != "title"]
        user = -1 if subject.user is None else subject.user
        return {"item": about, "user": [(one, user) for one in own.user if one.source != "title"]}

    def learn(self, subjects: Sequence[Subject]) -> None:
        """Learn from explained training pairs what is said of which pair; too few leave it at nearness.

        Items are dealt into two halves, and what is expected of one half is learned from the other: nothing that stands
        in a pair's prompt was chosen by its own text. Cost: two singular value decompositions of [pairs, 3 D].
        """
        self.remember(subjects)
        said = self._vectors([subject.text or "" for subject in subjects])
        rows, halves = self._features(subjects), np.array([subject.item % 2 for subject in subjects])
        if min(np.bincount(halves, minlength=2)) >= _LEAST:
            self.expected = [ridge(rows[halves != half], said[halves != half]) for half in (0, 1)]

    def _features(self, subjects: Sequence[Subject]) -> Vectors:
        """[n, 3 D] what is known of the items, their titles, and what is known of the users."""
        found = []
        for subject in subjects:
            told = ([one.text for one, _ in side] for side in self._gathered(subject).values())
            item_D, user_D = (self._vectors(texts).sum(0) for texts in told)
            title_D = self._vectors([subject.title])[0]
            found.append(np.concatenate([unit(item_D), unit(title_D), unit(user_D)]))
        return np.array(found, np.float32)

    def expects(self, subject: Subject) -> Vectors:
        """[D] unit vector of what may be said of a pair: as of such pairs, else the middle of what is known of it."""
        row_F = self._features([subject])[0]
        if self.expected:
            return unit(np.asarray(self.expected[subject.item % 2](row_F[None])[0], np.float32))
        item_D, _, user_D = row_F.reshape(3, -1)
        return unit(item_D + _USER_WEIGHT * user_D)

    def likeness(self, texts: Sequence[str], subject: Subject) -> Vectors:
        """[n] cosine of texts with what may be said of a pair."""
        return np.asarray(self._vectors(texts) @ self.expects(subject), np.float32)

    def of(self, subject: Subject) -> list[StatementEvidence]:
        """What may be said of a pair: its title, statements about the item, those of the user, and what they took."""
        expected_D, found = self.expects(subject), list[StatementEvidence]()
        for side, told in self._gathered(subject).items():
            texts = [statement.text for statement, _ in told]
            vectors = self._vectors(texts)
            nearness = vectors @ expected_D
            if side == "item":
                nearness = np.where(self.praises_dislike(texts, subject.user), -np.inf, nearness)
            best = _distinct(vectors, nearness, MOST_SHOWN[side])
            titles = [row for row, (one, _) in enumerate(told) if one.source == "title"]
            for row in dict.fromkeys([*titles, *best]):
                found.append(self._evidence(side, *told[row], float(nearness[row]), found))
        for item in self._taken_like(subject):
            title = self.known.catalogue.titles[item]
            found.append(self._evidence("user", Statement(title, "title"), item, 1.0, found))
        return found

    def _taken_like(self, subject: Subject) -> list[int]:
        """Items of the history with a title that share most words with the item, which is never one of them."""
        seen = list(dict.fromkeys(subject.seen)) or self.known.taken_by(subject.user)
        titles = self.known.catalogue.titles
        named = [item for item in seen if titles[item].strip() and item != subject.item]
        return self._near(subject.item, np.array(named, np.int64), MOST_SHOWN["taken"])

    def _evidence(
        self, side: Side, statement: Statement, of: int, nearness: float, before: Sequence[StatementEvidence]
    ) -> StatementEvidence:
        """A statement with the next number of its side."""
        name = f"{side[0]}{1 + sum(one.side == side for one in before)}"
        ids = self.known.catalogue.ids("item" if statement.source == "title" else side)
        owner = ids.values[of] if of >= 0 else ""
        return StatementEvidence(name, side, statement.text, statement.source, owner, nearness)

    def praises_dislike(self, said: Sequence[str], user: int | None) -> NDArray[np.bool_]:
        """[n] whether these statements or claims are about what a user dislikes."""
        dislikes = self.statements.dislikes("user", user)
        cosines = self._vectors(said) @ self._vectors(dislikes).T
        return np.asarray(cosines.max(1, initial=0.0) >= _DISLIKED)

    def caveat(self, subject: Subject) -> list[StatementEvidence]:
        """What the user dislikes and what others dislike in the item, where they are alike; else nothing.

        Only dislikes are compared: a cosine hardly tells praise of a thing from blame.
        """
        mine = self.statements.dislikes("user", subject.user)
        theirs = self.statements.dislikes("item", subject.item)
        if not (mine and theirs):
            return []
        cosines = self._vectors(mine) @ self._vectors(theirs).T
        row, column = np.unravel_index(int(cosines.argmax()), cosines.shape)
        nearness, ids = float(cosines[row, column]), self.known.catalogue
        user = "" if subject.user is None else ids.users.values[subject.user]
        own = StatementEvidence("u0", "user", mine[row], "dislike", user, nearness)
        other = replace(own, id="i0", side="item", text=theirs[column], about=ids.items.values[subject.item])
        return [own, other] if nearness >= _DISLIKED else []

    def remember(self, subjects: Iterable[Subject]) -> None:
        """Encode what is known of several pairs in one go."""
        told = chain.from_iterable(chain.from_iterable(self._gathered(one).values()) for one in subjects)
        self._vectors([statement.text for statement, _ in told])

    def _matched(self, text: str, known: Sequence[StatementEvidence]) -> tuple[list[str], Vectors]:
        """A text's claims, and [c, s] their cosines with statements; 1 where one has all words of a claim.

        0 where it lacks a number of the claim, or tells of the item and the claim of the person.
        """
        said = claims(text)
        cosines = self._vectors(said) @ self._vectors([one.text for one in known]).T
        told = [set(_WORD.findall(one.text.casefold())) for one in known]
        for claim, personal, row in zip(said, of_person(text, said), cosines, strict=True):
            words = set(_WORD.findall(claim.casefold()))
            numbers = {word for word in words if word.isdecimal()}
            row[[not there >= numbers for there in told]] = 0.0
            row[[there >= words for there in told]] = 1.0
            if personal:
                row[[one.side == "item" for one in known]] = 0.0
        return said, cosines

    def support(self, text: str, known: Sequence[StatementEvidence]) -> Vectors:
        """[c] the best cosine of each claim; 0 without statements."""
        return np.asarray(self._matched(text, known)[1].max(1, initial=0.0), np.float32)

    def checked(self, text: str, known: Sequence[StatementEvidence]) -> list[Claim]:
        """The claims of a text with the statements that support each."""
        found = []
        for claim, cosines in zip(*self._matched(text, known), strict=True):
            best = np.argsort(-cosines)[:_SUPPORTED_BY].tolist()
            names = [known[row].id for row in best if cosines[row] >= self.threshold]
            found.append(Claim(claim, names, float(cosines.max(initial=0.0))))
        return found

    def calibrate(self, subjects: Sequence[Subject]) -> None:
        """Fit the threshold: at most one in ten claims is supported by what is known of another pair.

        Nothing is asked of a text's own statements: what one person writes the others often do not mention.
        """
        known, half = [self.of(subject) for subject in subjects], len(subjects) // 2
        texts = [subject.text or "" for subject in subjects]
        others = [*known[half:], *known[:half]]  # far away: neighbours are often of one person
        by_others = np.concatenate([*map(self.support, texts, others), np.empty(0)])
        if half and len(by_others):
            self.threshold = float(np.clip(np.quantile(by_others, 1 - _ACCEPTED), *_THRESHOLDS))


def _distinct(vectors_sD: Vectors, nearness_s: Vectors, count: int) -> list[int]:
    """The nearest statements, without those that say nearly the same as a nearer one, or that are infinitely far."""
    kept: list[int] = []
    for row in np.argsort(-nearness_s, kind="stable").tolist():
        if nearness_s[row] == -np.inf:
            break
        if not kept or float((vectors_sD[kept] @ vectors_sD[row]).max()) < _ALIKE:
            kept.append(row)
        if len(kept) == count:
            break
    return kept
