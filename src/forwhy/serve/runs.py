"""A finished run as it is served: who asks, what is listed, what carried it, and the run changed on disk.

A run stays as it was loaded until another one lies in its folder; then that is loaded beside it and takes its place.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from forwhy.data.histories import Catalogue
from forwhy.errors import UserError
from forwhy.explain.asking import Explains
from forwhy.explain.plain import PlainExplainer
from forwhy.opened import OpenRun
from forwhy.recipe import RunFolder
from forwhy.recommend.base import PopularityRecommender, Recommender
from forwhy.recommend.rules import Rules
from forwhy.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)

Source = Literal["behaviour", "history", "text", "popular"]
"""By what a list was made: what training knows of somebody, what they took, what they say, or what most people take."""


@dataclass(frozen=True)
class Asking:
    """Who asks, as a run can know them."""

    source: Source
    user: str | int | None = None
    """A user of the training data."""
    history: Sequence[str] = ()
    """Items of the catalogue that somebody else took, oldest first."""
    about: str | None = None
    seen: Sequence[str] = ()
    """Items taken since training, which no list holds."""

    def who(self) -> dict[str, Any]:
        """As an explainer is asked."""
        if self.user is not None:
            return {"user": self.user}
        return {"history": list(self.history), **({} if self.about is None else {"about": self.about})}


class Loaded:
    """A run in memory. Nothing in it changes, so that any thread may read it."""

    def __init__(self, folder: Path, name: str) -> None:
        """Reads what lists items; what says why is read when first asked."""
        self.name, self.opened = name, OpenRun(RunFolder.open(folder))
        self.identity, self._state = identity(folder), self.opened.folder.state()
        self._loading = {"plain": threading.Lock(), "trained": threading.Lock()}
        self.recommender: Recommender = self.opened.recommender
        self.offered: dict[str, str] = {}
        """Items that nobody took in training -> their text, title first."""

    @property
    def catalogue(self) -> Catalogue:
        """Whom and what it knows."""
        return self.recommender.catalogue

    @property
    def words(self) -> Vocabulary:
        """Its vocabulary; UserError where the run's system has none."""
        words = getattr(self.recommender, "behaviour", None)
        if not isinstance(words, Vocabulary):
            raise UserError(f"run {self.name}: its system has no words; ask a run of because or beat")
        return words

    @cached_property
    def has_words(self) -> bool:
        """Whether it has a vocabulary."""
        return isinstance(getattr(self.recommender, "behaviour", None), Vocabulary)

    @cached_property
    def explains(self) -> bool:
        """Whether a model says why; else sentences of what was counted and read."""
        return self.opened.folder.recipe.explains(self.opened.folder)

    @cached_property
    def popular(self) -> PopularityRecommender:
        """What most people take."""
        return PopularityRecommender(self.opened.recommender.catalogue)

    @cached_property
    def _popular_reasons(self) -> Explains:
        return PlainExplainer(self.popular, self.opened.folder.dataset())

    def offering(self, items: Mapping[str, str]) -> Loaded:
        """This run with these items too, by their texts; those that it cannot read are left out.

        Cost: one text encoded and the item words copied for each that is not offered yet.
        """
        kept = self.offered if self.offered.items() <= items.items() else {}
        found = copy(self)
        found.recommender, found.offered = self.recommender if kept else self.opened.recommender, dict(kept)
        for item, text in items.items():
            if item in kept or found.catalogue.items.find(item) >= 0:
                continue
            try:
                found.recommender = found.recommender.offering(text, item)[0]
                found.offered[item] = text
            except UserError as error:
                log.warning("run %s: item %r is not listed: %s", self.name, item, error)
        return found

    def asking(
        self, user: str | None, history: Sequence[str] | None, about: str | None, live: Sequence[str]
    ) -> Asking:
        """Who that is; `live`: what the user took since training.

        Unknown items of a live history are left out; of a history that was given they are a UserError.
        """
        if about is not None or history is not None:
            for item in history or ():
                self.catalogue.items.index(item)
            source: Source = "text" if about is not None else "history" if history else "popular"
            return Asking(source, None, list(history or ()), about)
        known = [item for item in live if self.catalogue.items.find(item) >= 0]
        if user is not None and self.trained(user):
            return Asking("behaviour", user, seen=known)
        taken = [item for item in known if item not in self.offered] or known
        warm = bool(taken) and self.recommender.capabilities.warm
        return Asking("history" if warm else "popular", None, taken, seen=known)

    def trained(self, user: str) -> bool:
        """Whether training knows this user by anything."""
        number = self.catalogue.users.find(user)
        return number >= 0 and bool(self.recommender._has_history()[number])

    def _asked(self, asking: Asking) -> Recommender:
        if asking.source == "popular":
            return self.popular
        if asking.about is None:
            return self.recommender
        newcomer = self.recommender.newcomer_of(asking.about, list(asking.history))
        return self.recommender.meeting(newcomer)

    def listed(
        self,
        asking: Asking,
        k: int,
        rules: Mapping[str, Any],
        unavailable: Iterable[str] = (),
        without: Sequence[str] = (),
        swap: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """`tokens` of the person, and `items`, best first, each with what carried its score.

        UserError for an unknown item in a rule, no item left, or a word that the person lacks.
        """
        asked = self._asked(asking)
        items = asked.catalogue.items
        hidden = [one for one in {*unavailable, *asking.seen} if items.find(one) >= 0]
        asked = asked.under(Rules.of(items, **rules))
        if hidden:
            asked = asked.under(Rules.of(items, exclude=hidden))
        who: dict[str, Any] = {"history": asking.history} if asking.user is None else {"users": asking.user}
        history = list(asking.history) if asking.user is None else None
        if asking.source == "popular":
            table = asked.recommend(history=list(asking.history), k=k)
        else:
            asked = asked.changed(**who, without=without, swap=swap)
            table = asked.recommend(**who, k=k)
        rows = table.to_dicts()
        for row in rows:
            del row["user_id"]
            row["title"] = row.get("title") or ""
            row["source"] = asking.source
            because = asked.because(asking.user, row["item_id"], history=history)
            parts = {part: [vars(one) for one in getattr(because, part)] for part in ("shares", "items")}
            row["because"] = {**vars(because), **parts}
        return {"tokens": self.tokens(asked, asking), "items": rows}

    def tokens(self, asked: Recommender, asking: Asking) -> list[dict[str, Any]]:
        """The person's words, each with its gloss and, of somebody new, from whom it came."""
        words = getattr(asked, "behaviour", None)
        if not isinstance(words, Vocabulary) or asking.source == "popular":
            return []
        taken = [self.catalogue.items.index(item) for item in asking.history]
        number = None if asking.user is None else self.catalogue.users.index(asking.user)
        names = words.names_of("user", words.user_codes(number, taken))
        newcomer = asked.newcomer
        origins = {} if newcomer is None else dict(zip(newcomer.tokens, newcomer.origins, strict=True))
        told = [(name, [asdict(one) for one in origins.get(name, ())]) for name in names]
        return [{"token": name, "gloss": words.phrases[name], "origins": ones} for name, ones in told]

    def person(self, asking: Asking) -> list[dict[str, Any]]:
        """The words of somebody; none where they are unknown or the run has no words."""
        return self.tokens(self._asked(asking), asking)

    def warm(self) -> None:
        """Loads what says why, plain sentences, then the model; UserError where another run lies there by now."""
        self._load("plain")
        self._load("trained")

    def _load(self, part: str) -> Explains:
        """A part of the run, read once; whoever needs it meanwhile waits."""
        with self._loading[part]:
            if part not in self.opened.__dict__ and identity(self.opened.folder.path) != self.identity:
                raise UserError(f"run {self.name}: another one took its place; ask again")
            found: Explains = getattr(self.opened, part)
            return found

    def writes(self, asking: Asking, item: str | None) -> Explains | None:
        """The model that says why this item; None where none does, or knows nothing of it."""
        if asking.source == "popular" or not self.explains:
            return None
        model = self._load("trained")
        return model if item is None or model.knows(item) else None

    def plain(self, asking: Asking) -> Explains:
        """Sentences of what was counted and read."""
        return self._popular_reasons if asking.source == "popular" else self._load("plain")

    def item_asked(self, item: str | None, item_text: str | None) -> dict[str, Any]:
        """An item as an explainer is asked about it; one that came later is known by its text."""
        if item is not None and item in self.offered:
            return {"item_text": self.offered[item]}
        return {"item": item} if item_text is None else {"item_text": item_text}

    def takers(self, number: int) -> int:
        """How many took an item in training."""
        counts = self.popular.counts
        return int(counts[number]) if number < len(counts) else 0

    def similar(self, item: str, k: int) -> list[dict[str, Any]]:
        """The items most like this one by their words, and the words they share."""
        words, ids = self.words, self.catalogue.items
        number = ids.index(item)
        vectors_IW = words.item_vectors(range(len(ids)))
        unit_IW = vectors_IW / np.maximum(np.linalg.norm(vectors_IW, axis=1, keepdims=True), 1e-12)
        likeness_I = unit_IW @ unit_IW[number]
        likeness_I[number] = -np.inf
        own = words.token_names("item", number)
        return [
            {
                "item_id": ids.values[other],
                "title": self.catalogue.titles[other],
                "likeness": float(likeness_I[other]),
                "shared": [name for name in words.token_names("item", other) if name in own],
            }
            for other in np.argsort(-likeness_I, kind="stable")[:k].tolist()
            if other != number
        ]

    def document(self) -> dict[str, Any]:
        """What it is, for a reader."""
        recipe, state = self.opened.folder.recipe, self._state
        return {
            "name": self.name,
            "system": recipe.system,
            "users": len(self.catalogue.users),
            "items": len(self.catalogue.items),
            "words": self.has_words,
            "explains": self.explains,
            "trained": max((stage["finished"] for stage in state.values()), default=None),
            "identity": self.identity,
        }


class ServedRun:
    """A run by its folder: always the newest that could be loaded."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.current = Loaded(folder, name)
        self.failed = ""
        """Why the newest could not be loaded; "" where it was."""
        self._items: Mapping[str, str] = {}
        self._looking = threading.Lock()

    def look(self, items: Mapping[str, str]) -> None:
        """Takes the run as it lies on disk, with items that came later; what fails to load is not taken."""
        with self._looking:
            try:
                found = self.current
                if identity(self.folder) != found.identity:
                    found = Loaded(self.folder, self.name)
                    found.warm()
                    log.info("run %s: another one lies there and is served now", self.name)
                self.failed = ""
            except (UserError, OSError) as error:
                if not self.failed:
                    log.warning("run %s: kept as it was: %s", self.name, error)
                self.failed = str(error)
                return
            if items != self._items or found is not self.current:
                self._items, self.current = dict(items), found.offering(items)


def identity(folder: Path) -> str:
    """What a run is made of, in 16 letters; UserError where it is gone."""
    digest, again = hashlib.sha256(), f"make the run again with `forwhy run RECIPE --out {folder}`"
    for name in ("recipe.toml", "state.json"):
        try:
            digest.update((folder / name).read_bytes())
        except OSError:
            raise UserError(f"{folder}: {name} is gone; {again}") from None
    return digest.hexdigest()[:16]


def answer_key(run: Loaded, asking: Asking, question: Mapping[str, Any]) -> str:
    """Under what an answer is kept: the run, whose words, and what is asked."""
    who = replace(asking, seen=())
    whole = json.dumps([run.identity, asdict(who), question], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()
