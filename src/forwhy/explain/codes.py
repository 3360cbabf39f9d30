"""Explainers of behaviour tokens: what they share, and the one that says the tokens in words. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SIDES, Side
from forwhy.explain.asking import Asked
from forwhy.explain.base import Explainer
from forwhy.explain.evidence import Subject, TokenEvidence, traced
from forwhy.explain.options import BeatConfig
from forwhy.explain.spoken import SpokenExplainer
from forwhy.graph.representations import Representations
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.newcomers import Newcomer, somebody, something
from forwhy.vocabulary.vocabulary import Vocabulary


class CodeExplainer(Explainer[Vocabulary, Any]):
    """Users and items are rows of codes, whose phrases say what they mean."""

    part, stands = "vocabulary", "behaviour tokens"
    known_type: ClassVar[type[Representations]] = Vocabulary
    newcomers: Mapping[Side, Newcomer] = MappingProxyType({})
    """Who came later, a person and an item at most."""

    def _standing(self, subject: Subject) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The codes of the user and of the item, in slot order; -1 where a token was taken out."""
        return self.known.user_codes(subject.user, subject.seen), self.known.codes["item"][subject.item]

    def _changed(self, subjects: Sequence[Subject], how: Asked) -> Self:
        if not (how["without"] or how["swap"]):
            return self
        people = [self.known.user_codes(subject.user, subject.seen) for subject in subjects]
        changed = copy(self)
        changed._known = self.known.rewrite(people, how["without"], how["swap"])
        return changed

    def _meeting(self, about: str, history: Sequence[str | int]) -> Self:
        items = [self.known.catalogue.items.index(item) for item in history]
        newcomer, met = somebody(self.known, text_encoder(self.known.encoder), about, items), copy(self)
        met._known = self.known.meeting(newcomer.codes)
        met.newcomers = {**self.newcomers, "user": newcomer}
        return met

    def _offering(self, text: str) -> Self:
        item, offering = something(self.known, text_encoder(self.known.encoder), text), copy(self)
        offering._known = self.known.offering(item.title, item.codes)
        offering.newcomers = {**self.newcomers, "item": item}
        return offering

    def _phrases(self, subject: Subject) -> dict[Side, list[list[str]]]:
        """Side -> the phrases of each of its codes, the best first."""
        phrases, named = self.known.phrases, self._named(subject)
        return {side: [phrases.get(name, []) for name in names] for side, names in named.items()}

    def _named(self, subject: Subject) -> dict[Side, list[str]]:
        """Side -> the name of each of its tokens; "" where one was taken out."""
        standing = zip(SIDES, self._standing(subject), strict=True)
        return {side: self.known.slot_names(side, codes) for side, codes in standing}

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        phrases, named = self.known.phrases, self._named(subject)
        tokens = [TokenEvidence(it, side, list(phrases.get(it, []))) for side in SIDES for it in named[side]]
        new = {"user": subject.user is None, "item": subject.item == self.known.offered}
        return traced(tokens, (one for side, one in self.newcomers.items() if new[side]))


class BeatWordsExplainer(CodeExplainer, SpokenExplainer[Vocabulary]):
    """Reads codes in words: the phrases of a pair's codes stand in the prompt, nothing is trained."""

    system, title = "beat-words", "BEAT in words"
    config_type = BeatConfig
    config: BeatConfig
