"""`because`: a frozen model reads behaviour tokens and what is known in words, and what it says is tied to that.

Statements about the item and of the user stand in the prompt. The model learns to read the tokens from texts that say
who people are and what things are, then from explained pairs. A text's claims come back with what supports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from forwhy.artifact import Artifact, Content, whole_numbers
from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Draft
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig
from forwhy.data.texts import entity_texts
from forwhy.errors import UserError
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.claims import PairKnowledge
from forwhy.explain.evidence import Explanation, StatementEvidence, Subject
from forwhy.explain.options import BecauseConfig
from forwhy.explain.reading import ReadingTask
from forwhy.ridge import LinearMap
from forwhy.text.encoder import text_encoder
from forwhy.text.statements import KnownStatements, claims
from forwhy.vocabulary.vocabulary import Vocabulary

_LISTED: Mapping[str, str] = {"item": "\nKnown for:", "user": "\nUser likes:", "taken": "\nUser took:"}
_DESCRIBED: Mapping[Side, str] = {"user": "Describe this user.", "item": "Describe who would like this item."}
_STRANGERS, _CALIBRATED = 64, 150
"""Training pairs that texts are compared with, and those that the threshold of support is fitted on."""
_NAMED = 4
"""Statements in a sentence that is made of them, at most."""
_SHARP = 10.0
"""How sharply a margin ends, per nat."""


class BecauseExplainer(BeatExplainer):
    """Reads tokens and evidence; says nothing that it cannot point to, as far as `grounding` asks."""

    system, title = "because", "because"
    config_type = BecauseConfig
    config: BecauseConfig

    def __init__(
        self,
        config: BecauseConfig | None = None,
        intents: IntentsConfig | None = None,
        encoder: str = "minilm",
    ) -> None:
        """`intents`: which texts about people and things may be read; `encoder`: what compares statements."""
        super().__init__(config)
        self.intents, self.encoder = intents or IntentsConfig(), encoder
        self.strangers: list[tuple[int, int]] = []
        """Training pairs, as internal numbers, of which one stands for "another pair" when a text is judged."""
        self._knowledge: PairKnowledge | None = None
        self._others: dict[Row, Row] = {}
        """Training row -> its text in another pair's prompt, with its own title; none without `contrast`."""

    @property
    def knowledge(self) -> PairKnowledge:
        """What may be said of a pair."""
        return self._fitted(self._knowledge)

    def fit(self, dataset: Dataset, known: Vocabulary, folder: Path) -> Self:
        """As :meth:`SoftExplainer.fit`; then the threshold from which on a statement supports a claim."""
        super().fit(dataset, known, folder)
        self.knowledge.calibrate(self._scored(self._usable(dataset, "train", _CALIBRATED)))
        return self

    def _take_up(self, dataset: Dataset, known: Vocabulary) -> None:
        """Also the statements. People of training and test follow one policy: all have their profiles read, or none."""
        super()._take_up(dataset, known)
        people = self.intents
        if people.reads_shipped and not people.heldout_people:
            people = people.model_copy(update={"source": "auto", "shipped_profiles": False})
        statements = KnownStatements.read(dataset, self.intents, people)
        self._knowledge = PairKnowledge(statements, known, text_encoder(self.encoder))
        self._knowledge.learn(self._scored(self._usable(dataset, "train", 0)))
        pairs = self._usable(dataset, "train", _STRANGERS)
        self.strangers = list(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))

    def _task(self, dataset: Dataset) -> ReadingTask:
        """Texts that describe people and things, once, before the explained pairs."""
        task = super()._task(dataset)
        if self.config.contrast:
            pairs = self._usable(dataset, "train", self.config.train_pairs)
            self._others = dict(zip(task.train, self._rows(self._as_others(pairs)), strict=True))
        task.descriptions = self._descriptions(dataset)
        return task

    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """As of BEAT; with `contrast` also how much of the margin a text lacks before another pair's prompt."""
        others = [self._others[row] for row in rows if row in self._others]
        if len(others) < len(rows):  # without contrast there are none, and descriptions have none
            return super()._loss(rows)
        (own_B, tokens_B), (other_B, _) = self._sums(rows), self._sums(others)
        nll = own_B.sum() / tokens_B.sum()
        short_B = self.config.margin - (other_B - own_B) / tokens_B
        lack = softplus(_SHARP * short_B).mean() / _SHARP
        loss = nll + self.config.contrast * lack
        if self.config.sar.gamma:
            loss = loss + self.config.sar.gamma * self._aligned(rows)
        return {"loss": loss, "nll": nll.detach(), "lack": lack.detach()}

    def _sums(self, rows: list[Row]) -> tuple[Tensor, Tensor]:
        """[B] nats of each row's text, with gradients, and [B] its target tokens."""
        logits_NV, batch = self.reader.logits(rows)
        nll_N = cross_entropy(logits_NV, batch.target_N, reduction="none")
        tokens_B = nll_N.new_tensor([len(row.target) for row in rows])
        return nll_N.new_zeros(len(rows)).index_add(0, batch.row_N, nll_N), tokens_B

    def _descriptions(self, dataset: Dataset) -> list[Row]:
        """Who users are and what items are, as targets of their tokens, drawn by the seed."""
        rng = np.random.default_rng(self.config.seed)
        takers = self.known.seen[rng.permutation(len(self.known.seen))]
        partners = {"user": dict(takers.tolist()), "item": dict(takers[:, ::-1].tolist())}
        every: list[tuple[Side, int, str]] = []
        for side in SIDES:
            told = entity_texts(dataset, side, self.intents).items()
            every += [
                (side, entity, max(texts, key=len)) for entity, texts in told if entity in partners[side]
            ]
        drawn = [every[number] for number in rng.permutation(len(every))[: self.config.describe]]
        self.described = frozenset(entity for side, entity, _ in drawn if side == "user")
        if self.described and self.config.shown.user:  # what the people of the pairs like stands in prompts
            pairs = self._usable(dataset, "train", self.config.train_pairs)
            self.described |= frozenset(pairs.users.tolist())
        return [self._describing(side, entity, partners[side][entity], text) for side, entity, text in drawn]

    def _describing(self, side: Side, entity: int, partner: int, text: str | None = None) -> Row:
        """A user with one of their items, or an item with one of its users; one of the two is to be described."""
        user, item = (entity, partner) if side == "user" else (partner, entity)
        row = super()._row(Subject(user, item, "", text=text))
        return replace(row, shown=tuple(self.reader.prompt.labelled("\n", _DESCRIBED[side], 16)))

    def _rows(self, subjects: Iterable[Subject]) -> list[Row]:
        """What is known of all is encoded together first."""
        asked = list(subjects)
        self.knowledge.remember(asked)
        return [self._row(subject) for subject in asked]

    def _meeting(self, about: str, history: Sequence[str | int]) -> Self:
        """What the text says they like stands among the statements; dislikes are never praised."""
        met = super()._meeting(about, history)
        met._knowledge = copy(self.knowledge)
        met._knowledge.statements = self.knowledge.statements.meeting(about)
        return met

    def _offering(self, text: str) -> Self:
        """What the text says of the item stands among the statements."""
        offering = super()._offering(text)
        item = offering.newcomers["item"]
        offering._knowledge = self.knowledge.offering(offering.known, item.title, item.text)
        return offering

    def _row(self, subject: Subject, turn: int = 0) -> Row:
        """A pair as ids; with each turn another statement about the item stands first."""
        shown, ids = self.config.shown, list[int]()
        said = _said(self.knowledge.of(subject))
        for kind, label in _LISTED.items():
            listed = said[kind][: getattr(shown, kind)]
            first = turn % len(listed) if kind == "item" and listed else 0
            tokens = shown.tokens if kind == "item" else shown.tokens // 2
            ids += self.reader.prompt.labelled(label, "; ".join(listed[first:] + listed[:first]), tokens)
        row = super()._row(subject)
        return replace(row, shown=(*row.shown, *ids))

    # --- what is said, and what supports it

    def _write(self, subjects: Sequence[Subject]) -> list[str]:
        """The best candidate for each pair, held to its statements as far as `grounding` asks."""
        if self.config.grounding == "off":
            return super()._write(subjects)
        asked = [replace(subject, text=None) for subject in subjects]
        self.knowledge.remember([*asked, *(self._as_stranger(subject) for subject in asked if self._guided)])
        parts = self._candidates([self._draft(subject) for subject in asked])
        return self._best_of(subjects, parts)

    @property
    def _guided(self) -> bool:
        return self.config.candidates > 1 and self.config.guidance > 0

    def _best_of(self, subjects: Sequence[Subject], parts: Sequence[Sequence[str]]) -> list[str]:
        """The best of each one's candidates, with a caveat where there is one."""
        candidates = [[it for it in dict.fromkeys(texts) if any(map(str.isalnum, it))] for texts in parts]
        gains = self._gains(subjects, candidates)
        best = [self._best(*those) for those in zip(subjects, candidates, gains, strict=True)]
        caveats = map(_caveat, map(self.knowledge.caveat, subjects))
        return [text + caveat for text, caveat in zip(best, caveats, strict=True)]

    def _candidates(self, drafts: Sequence[Draft]) -> list[list[str]]:
        """The texts of each, written together."""
        parts = (
            [*chain.from_iterable(getattr(it, name) for it in drafts)]
            for name in ("rows", "others", "guidance")
        )
        rows, others, guidance = parts
        written = iter(self.reader.write(rows, self.config.generation, others, guidance))
        return [[*islice(written, len(draft.rows))] for draft in drafts]

    def _draft(self, subject: Subject) -> Draft:
        """Some texts for a pair, each led further away from what another pair would get."""
        if self.config.grounding == "off":
            return super()._draft(subject)
        asked, steps = replace(subject, text=None), self.config.candidates - 1
        turns = range(self.config.candidates)
        draft = Draft(self.reader, [self._row(asked, turn) for turn in turns])
        if self._guided:
            stranger = self._as_stranger(asked)
            draft.others = [self._row(stranger, turn) for turn in turns]
            draft.guidance = [self.config.guidance * turn / steps for turn in turns]
        return draft

    def _chosen(self, subject: Subject, texts: Sequence[str]) -> str:
        off = self.config.grounding == "off"
        return super()._chosen(subject, texts) if off else self._best_of([subject], [texts])[0]

    def _best(self, subject: Subject, texts: Sequence[str], gains: Sequence[float]) -> str:
        """The candidate that is supported best and nearest to its pair, held to the statements where asked for."""
        known, config = self.knowledge.of(subject), self.config
        liked = [not self.knowledge.praises_dislike(claims(text), subject.user).any() for text in texts]
        found = [self.knowledge.support(text, known) for text in texts]
        support = np.array([one.mean() if len(one) else 0.0 for one in found], np.float64)
        alike = self.knowledge.likeness(texts, subject).astype(np.float64)
        scores = np.where(liked, support + config.gain * np.array(gains) + config.likeness * alike, -np.inf)
        best = texts[int(scores.argmax())] if any(liked) else ""
        return best if best and config.grounding == "prefer" else self._held(best, known, subject)

    def _gains(self, subjects: Sequence[Subject], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """Nats per token by which each candidate is likelier for its pair than for another one with its title."""
        own: list[Subject] = []
        other: list[Subject] = []
        for subject, texts in zip(subjects, candidates, strict=True):
            for text in texts if self.config.gain and len(texts) > 1 else ():
                own.append(replace(subject, text=text))
                other.append(self._as_stranger(own[-1]))
        if not own:
            return [[0.0] * len(texts) for texts in candidates]
        (right, tokens), (wrong, _) = (self.reader.nll(self._rows(those)) for those in (own, other))
        gains = iter(((wrong - right) / np.maximum(tokens, 1)).tolist())
        return [[next(gains) if len(texts) > 1 else 0.0 for _ in texts] for texts in candidates]

    def _as_stranger(self, subject: Subject) -> Subject:
        """Another pair, always the same for an item, with the title and the text of this one."""
        others = [pair for pair in self.strangers if pair[1] != subject.item] or self.strangers
        user, item = others[subject.item % len(others)]
        return replace(subject, user=user, item=item, seen=())

    def _held(self, text: str, known: Sequence[StatementEvidence], subject: Subject) -> str:
        """A text as it is where its claims stand in statements word for word, else what those say; never empty."""
        checked, told = self.knowledge.checked(text, known), {one.id: one.text for one in known}
        found = [_worded(claim.text, told[claim.evidence[0]]) for claim in checked if claim.evidence]
        if checked and found == [claim.text for claim in checked]:
            return text
        catalogue, said = self.known.catalogue, _said(known)
        name = subject.title.strip() or f"item {catalogue.items.values[subject.item]}"
        if kept := list(dict.fromkeys(found))[:_NAMED] or said["item"][:2]:
            return f"You may like {name} for {_joined(kept)}."
        if said["taken"]:
            return f"You may like {name} as you took {_joined(said['taken'][:2])}."
        return f"People who chose what you chose also took {name}."

    def _explained(self, subject: Subject, text: str, worth: NDArray[np.float64] | None) -> Explanation:
        """Also the statements that are known of the pair, and what supports each claim."""
        told, known = super()._explained(subject, text, worth), self.knowledge.of(subject)
        caveat = self.knowledge.caveat(subject)
        checked = self.knowledge.checked(text.removesuffix(_caveat(caveat)), known)
        evidence = replace(told.evidence, statements=[*known, *caveat])
        return replace(told, evidence=evidence, claims=checked)

    def _streamed(self, subject: Subject) -> Iterator[str]:
        """Word by word where `grounding` is off; else whole, since it is chosen among candidates."""
        return super()._streamed(subject) if self.config.grounding == "off" else iter(self._write([subject]))

    def describe(self, users: Sequence[str | int]) -> list[str]:
        """As :meth:`Explainer.describe`; the prompt shows nothing but tokens."""
        if not self.described:
            raise UserError(
                "explainer: it read of nobody who they are, so it cannot say it; fit again with explainer.describe "
                "above 0 on data with texts about users"
            )
        catalogue = self.known.catalogue
        numbers = [catalogue.users.index(user) for user in users]
        taken = {number: self.known.taken_by(number) for number in numbers}
        if lone := [number for number in numbers if not taken[number]]:
            raise UserError(
                f"user {catalogue.users.values[lone[0]]!r}: no training interactions, so no {self.stands} to describe; "
                "ask about somebody who has taken something"
            )
        rows = [self._describing("user", number, taken[number][0]) for number in numbers]
        return self.reader.write(rows, self.config.generation)

    def content(self) -> Content:
        """Also the statements, the threshold of support, and with what encoder it was fitted."""
        whole, knowledge = super().content(), self.knowledge
        config = {**whole.config, "encoder": self.encoder, "threshold": knowledge.threshold}
        config["intents"] = self.intents.model_dump(mode="json")
        tensors = {**whole.tensors, "strangers": np.array(self.strangers, np.int64).reshape(-1, 2)}
        tensors["described"] = np.array(sorted(self.described), np.int64)
        for half, learned in enumerate(knowledge.expected):
            tensors |= {f"expected.{half}.{name}": part for name, part in learned._asdict().items()}
        tables = {**whole.tables, "statements": knowledge.statements.table}
        return replace(whole, config=config, tensors=tensors, tables=tables)

    def _reopen(self, stored: Artifact) -> None:
        self.intents = IntentsConfig.model_validate(stored.config["intents"])
        self.encoder = stored.config["encoder"]
        sizes = {side: len(self.known.catalogue.ids(side)) for side in SIDES}
        strangers = whole_numbers(stored.tensors["strangers"], (-1, 2), [*sizes.values()])
        self.strangers = [(int(user), int(item)) for user, item in strangers]
        self.described = frozenset(stored.tensors["described"].tolist())
        statements, encoder = KnownStatements(stored.tables["statements"]), text_encoder(self.encoder)
        beyond = statements.table.filter(pl.col("entity") >= pl.col("side").replace_strict(sizes, default=0))
        if not self.strangers or beyond.height:
            raise ValueError("its statements or pairs are of other people and things")
        self._knowledge = PairKnowledge(statements, self.known, encoder, float(stored.config["threshold"]))
        halves = (stored.group(f"expected.{half}.") for half in (0, 1))
        self._knowledge.expected = [LinearMap(**parts) for parts in halves if parts]
        super()._reopen(stored)


def _caveat(told: Sequence[StatementEvidence]) -> str:
    """A sentence that follows where others dislike in the item what the user dislikes; else nothing."""
    return f" Though you usually avoid {told[0].text}: some say {told[1].text} of it." if told else ""


def _said(known: Sequence[StatementEvidence]) -> dict[str, list[str]]:
    """What is known `item`: of the item, its title left out; `user`: of the user; `taken`: titles that they took."""
    said: dict[str, list[str]] = {"item": [], "user": [], "taken": []}
    for one in known:
        if one.source != "title":
            said[one.side].append(one.text)
        elif one.side == "user":
            said["taken"].append(one.text)
    return said


def _worded(claim: str, statement: str) -> str:
    """The claim where its words stand in the statement, else the statement."""
    words = [set(re.findall(r"\w+", text.casefold())) for text in (claim, statement)]
    return claim if words[0] <= words[1] else statement


def _joined(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
