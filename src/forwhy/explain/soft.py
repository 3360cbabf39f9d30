"""What explainers with soft tokens share: a frozen model reads what stands for a user and an item.

BEAT's behaviour tokens and XRec's graph vectors differ in what stands there (:meth:`SoftExplainer._standing`),
in the bridge that turns it into the model's vectors, and in what an explanation says it rests on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, cast, overload

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

import forwhy.explain.fitting as fitting
from forwhy.bridge.backbone import Backbone
from forwhy.bridge.projectors import PairBridge
from forwhy.bridge.prompt import Numbers, Row
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES, Side
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.errors import UserError
from forwhy.explain import store
from forwhy.explain.assembly import load_backbone
from forwhy.explain.base import Capabilities, Evidence, Explanation, NllResult, TokenEvidence, is_single
from forwhy.explain.config import ExplainerConfig
from forwhy.explain.store import PROFILES, Profiles, Stored, profile_table, read_profiles
from forwhy.graph.representations import Representations
from forwhy.training import TrainingResult, train

ExternalPair = tuple[str | int, str | int]
ConfigT = TypeVar("ConfigT", bound=ExplainerConfig)
KnownT = TypeVar("KnownT", bound=Representations)
BridgeT = TypeVar("BridgeT", bound=PairBridge)


class SoftExplainer(ABC, Generic[ConfigT, KnownT, BridgeT]):
    """Says why a user would like an item, in words of a frozen model that reads soft tokens.

    Hot users and items are those with training interactions; a warm user comes with a history of items. A user
    or item without any training interaction has nothing that could stand for it and is refused with the remedy.
    """

    capabilities = Capabilities(hot=True, warm=True, cold=False)
    system: ClassVar[str]
    title: ClassVar[str]
    part: ClassVar[str]
    """The stage and the artifact's part that knows what stands for users and items."""
    stands: ClassVar[str]
    """What stands for them, in words."""
    config_type: ClassVar[type[ExplainerConfig]]

    def __init__(self, config: ConfigT) -> None:
        self.config = config
        self.result: TrainingResult | None = None
        self.profiles: Profiles = {"user": {}, "item": {}}
        """Shown where the prompt shows profiles."""
        self._known: KnownT | None = None
        self._reader: Reader[BridgeT] | None = None

    @property
    def known(self) -> KnownT:
        """Users, items and what stands for them."""
        if self._known is None:
            raise self._unfitted()
        return self._known

    @property
    def reader(self) -> Reader[BridgeT]:
        """The bridge and the frozen model."""
        if self._reader is None:
            raise self._unfitted()
        return self._reader

    def _unfitted(self) -> UserError:
        return UserError(
            f"explainer: not fitted yet; call fit(dataset, {self.part}, folder) or from_pretrained"
        )

    # --- what systems differ in

    @classmethod
    @abstractmethod
    def _read_known(cls, folder: Path) -> KnownT:
        """What a saved explainer knows."""

    @abstractmethod
    def _build(self, backbone: Backbone) -> Reader[BridgeT]:
        """A reader of what is known, with the bridge at its start."""

    @abstractmethod
    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """`loss` of a batch, and parts worth logging."""

    @abstractmethod
    def _standing(self, side: Side, entity: int) -> Numbers:
        """What stands for an entity in the prompt."""

    @abstractmethod
    def _newcomer(self, seen: Sequence[int]) -> Numbers:
        """What stands for a user known only by these internal items."""

    @abstractmethod
    def _tokens(self, row: Row, worth: NDArray[np.float64] | None) -> list[TokenEvidence]:
        """The soft tokens of a row, those of the user first, with what each was worth."""

    @abstractmethod
    def _vectors(self, items: Sequence[int]) -> NDArray[np.float32]:
        """[n, W] of items, whose cosines say which are alike."""

    # --- fitting

    def fit(self, dataset: Dataset, known: KnownT, folder: Path) -> Self:
        """Learn to read what is known from explained training pairs; validation NLL picks the state.

        Args:
            dataset: Its training and validation explanations are read, and profiles where the prompt shows them.
            known: Learned on the same users and items.
            folder: For metrics.jsonl and the checkpoint; run again with it, a killed training continues.

        Cost: about epochs x pairs x (prompt + text after the cached prefix) positions, forward and back, of the
            language model, whose memory and activations of one batch are what is needed.

        Raises:
            UserError: Other users or items than those known, no explanations, or no model.
        """
        self._same_entities(dataset, known)
        self._known = known
        if self.config.shows_profiles:
            self.profiles = {side: dataset.profiles(side) for side in SIDES}
        backbone = load_backbone(self.config)
        self._reader = self._build(backbone)
        identity = f"{dataset.fingerprint}:{backbone.source.id}:{backbone.source.revision}"
        self.result = train(
            self._task(dataset), fitting.loop_config(self.config), folder, "explainer", identity
        )
        return self

    def _same_entities(self, dataset: Dataset, known: Representations) -> None:
        for side in SIDES:
            ours, theirs = getattr(dataset, f"{side}s"), getattr(known, f"{side}s")
            if ours.values != theirs.values:
                raise UserError(
                    f"explainer: the {side}s of data set '{dataset.name}' ({len(ours):,}) are not those of the "
                    f"{self.part} ({len(theirs):,}); use the data set that it was learned on"
                )

    def _task(self, dataset: Dataset) -> fitting.ReadingTask:
        """Rows of the training and validation pairs whose user and item are known by more than a number."""
        config = self.config
        train_pairs = self._usable(dataset, "train", config.train_pairs)
        valid = self._usable(dataset, "valid", config.validation_pairs)
        strangers: list[Row] = []
        if config.validation_gain:
            others = fitting.shifted(len(valid), config.seed)
            strangers = self._scored(valid, valid.users[others], valid.items[others])
        return fitting.ReadingTask(
            self.reader, config, self._loss, self._own(train_pairs), self._own(valid), strangers
        )

    def _usable(self, dataset: Dataset, split: Literal["train", "valid"], wanted: int) -> Pairs:
        pairs = dataset.pairs(split)
        pairs = pairs.select(np.flatnonzero(self.supported(pairs)))
        if not len(pairs):
            raise UserError(
                f"data set '{dataset.name}': no usable explanations in split '{split}'; add some or re-split"
            )
        return pairs.select(fitting.drawn(len(pairs), wanted, self.config.seed))

    def _own(self, pairs: Pairs) -> list[Row]:
        """Rows of pairs and their texts, read as themselves."""
        return self._scored(pairs, pairs.users, pairs.items)

    def _scored(self, pairs: Pairs, users: NDArray[np.int64], items: NDArray[np.int64]) -> list[Row]:
        """Rows of pairs and their texts, read as these users and items; titles stay the pairs' own."""
        return [
            self._row(self._standing("user", user), user, shown, true, text)
            for user, shown, true, text in zip(
                users.tolist(), items.tolist(), pairs.items.tolist(), pairs.texts, strict=True
            )
        ]

    def _row(
        self, standing: Numbers, user: int | None, item: int, titled: int, text: str | None = None
    ) -> Row:
        profiles: dict[Side, str] = {"item": self.profiles["item"].get(item, "")}
        if user is not None:
            profiles["user"] = self.profiles["user"].get(user, "")
        title = self.known.titles[titled]
        return self.reader.prompt.row(standing, self._standing("item", item), title, text, profiles)

    # --- explaining

    def supported(self, pairs: Pairs) -> NDArray[np.bool_]:
        """[n] Whether both sides of a pair have training interactions, so that :meth:`explain` takes it."""
        history = self.known.has_history
        supported: NDArray[np.bool_] = history["user"][pairs.users] & history["item"][pairs.items]
        return supported

    @overload
    def explain(self, pairs: ExternalPair, *, contributions: bool = False) -> Explanation: ...
    @overload
    def explain(
        self, pairs: Pairs | Sequence[ExternalPair], *, contributions: bool = False
    ) -> list[Explanation]: ...
    @overload
    def explain(
        self, *, history: Sequence[str | int], item: str | int, contributions: bool = False
    ) -> Explanation: ...
    def explain(
        self,
        pairs: ExternalPair | Pairs | Sequence[ExternalPair] | None = None,
        *,
        history: Sequence[str | int] | None = None,
        item: str | int | None = None,
        contributions: bool = False,
    ) -> Explanation | list[Explanation]:
        """Why each user would like the item; greedy, so a pair gets the same text in any batch.

        Args:
            pairs: One (user, item) of external ids, several, or `Pairs` of internal numbers.
            history: Instead of a known user: external ids of items that someone likes.
            item: The item to explain for `history`.
            contributions: Also measure each soft token's worth, for one more reading of each text per token and one
                of all.

        Raises:
            UserError: Unknown id; a user or item without training interactions; an empty history.
        """
        subjects = self._subjects(pairs, history, item)
        texts = self.reader.write([subject.row for subject in subjects], self.config.generation)
        worth = self._worth(subjects, texts) if contributions else [None] * len(texts)
        explanations = [self._explained(*parts) for parts in zip(subjects, texts, worth, strict=True)]
        return explanations[0] if pairs is None or is_single(pairs) else explanations

    def _worth(
        self, subjects: Sequence[fitting.Subject], texts: Sequence[str]
    ) -> Sequence[NDArray[np.float64] | None]:
        """[soft tokens] nats that each carried, per subject; None where that cannot be told."""
        return list(fitting.contributions_of(self.reader, self._answered(subjects, texts)))

    def _explained(
        self, subject: fitting.Subject, text: str, worth: NDArray[np.float64] | None
    ) -> Explanation:
        """A text with its tokens and their worth, the items most like the explained one, and phrases."""
        tokens = self._tokens(subject.row, worth)
        return Explanation(
            text,
            tokens,
            Evidence(fitting.nearest_of(subject, self._vectors, self.known), fitting.phrases_of(tokens)),
        )

    def stream(
        self,
        pair: ExternalPair | None = None,
        *,
        history: Sequence[str | int] | None = None,
        item: str | int | None = None,
    ) -> Iterator[str]:
        """The text of one pair in pieces as they come; joined they equal the text of :meth:`explain`."""
        return self.reader.stream(self._subjects(pair, history, item)[0].row, self.config.generation)

    def nll(
        self,
        pairs: Pairs,
        user_rows: NDArray[np.int64] | None = None,
        item_rows: NDArray[np.int64] | None = None,
    ) -> NllResult:
        """NLL of the pairs' texts.

        Takes any pair, also one that :meth:`explain` refuses. Cost: one reading of each text.

        Args:
            pairs: Internal numbers and the texts to be scored.
            user_rows: [n] Users who stand in the prompts, profiles and all, in place of the pairs' own.
            item_rows: [n] Items likewise; a title, where the prompt shows one, stays the pair's own.
        """
        users = pairs.users if user_rows is None else user_rows
        items = pairs.items if item_rows is None else item_rows
        return NllResult(*self.reader.nll(self._scored(pairs, users, items), fitting.READ_TOGETHER))

    def prompt_length(self, pairs: Pairs) -> float | None:
        """Mean positions of the pairs' prompts, task tokens and constant beginning included; None for no pairs."""
        prompt, rows = self.reader.prompt, self._own(pairs)
        constant = len(prompt.prefix_ids) + len(self.reader.bridge.task_TD)
        return constant + float(np.mean([len(prompt.layout(row)) for row in rows])) if rows else None

    def _subjects(
        self,
        pairs: ExternalPair | Pairs | Sequence[ExternalPair] | None,
        history: Sequence[str | int] | None,
        item: str | int | None,
    ) -> list[fitting.Subject]:
        """What is asked about, with the history behind it; refused where there is none."""
        items = self.known.items
        if pairs is None:
            if not history or item is None:
                raise UserError("explain: give pairs, or history=[items the user likes] together with item=…")
            seen = [items.index(external) for external in history]
            return [self._subject(self._newcomer(seen), None, items.index(item), seen)]
        if isinstance(pairs, Pairs):
            numbers = list(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))
        else:
            users = self.known.users
            asked = cast("Sequence[ExternalPair]", [pairs] if is_single(pairs) else pairs)
            numbers = [(users.index(user), items.index(thing)) for user, thing in asked]
        return [self._known_subject(user, thing) for user, thing in numbers]

    def _known_subject(self, user: int, item: int) -> fitting.Subject:
        seen = fitting.history_of(self.known, user)
        if not seen:
            raise UserError(
                f"user {self.known.users.values[user]!r}: no training interactions, so no {self.stands} "
                "to explain with; say what the user likes instead: explain(history=[items], item=…)"
            )
        return self._subject(self._standing("user", user), user, item, seen)

    def _subject(
        self, standing: Numbers, user: int | None, item: int, seen: Sequence[int]
    ) -> fitting.Subject:
        if not (self.known.seen[:, 1] == item).any():
            raise UserError(
                f"item {self.known.items.values[item]!r}: no training interactions, so no {self.stands} "
                "to explain with; ask about an item that someone has taken, or fit again once someone has"
            )
        return fitting.Subject(self._row(standing, user, item, item), item, seen)

    def _answered(self, subjects: Sequence[fitting.Subject], texts: Sequence[str]) -> list[Row]:
        """The subjects' rows with their texts as targets."""
        prompt = self.reader.prompt
        return [
            replace(subject.row, target=prompt.target(text))
            for subject, text in zip(subjects, texts, strict=True)
        ]

    # --- keeping

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that loads alone: the bridge, what is known, and the name of the model, not its weights.

        Raises:
            UserError: Full disk, or a folder of something else; what was there stays.
        """
        store.save(Path(folder), self)

    @classmethod
    def from_pretrained(cls, folder: Path, model: str | None = None, device: str | None = None) -> Self:
        """Load what :meth:`save_pretrained` wrote, and the frozen model it was trained with.

        Args:
            folder: The artifact.
            model: Where that model lies, when not where it was (a folder); another model is refused.
            device: Where to run, when not where it was trained.

        Raises:
            UserError: Truncated, altered or foreign folder; a base model that is missing or another one.
        """
        return cls.from_stored(store.load(Path(folder), cls.system), model, device)

    @classmethod
    def from_stored(cls, stored: Stored, model: str | None, device: str | None) -> Self:
        """As :meth:`from_pretrained`, of an artifact of this system that is read already."""
        config = stored.config(cls.config_type, model, device)
        explainer = cls(cast("ConfigT", config))
        explainer._known = cls._read_known(stored.folder / cls.part)
        explainer._restore(stored)
        explainer._load(stored)
        return explainer

    def _load(self, stored: Stored) -> None:
        """The reader as it was trained."""
        stored.check(backbone := load_backbone(self.config))
        self._reader = self._build(backbone)
        self._reader.bridge.load_state_dict(stored.bridge)

    def state(self) -> dict[str, Tensor]:
        """What was trained."""
        return dict(self.reader.bridge.state_dict())

    def base_model(self) -> dict[str, Any]:
        """What names the model that it was made for."""
        return store.base_model(self.reader.backbone)

    def extra(self) -> dict[str, NDArray[np.int32]]:
        """Numbers that the artifact keeps beside the bridge's."""
        return {}

    def tables(self) -> dict[str, pl.DataFrame]:
        """Texts that the artifact keeps."""
        return {PROFILES: profile_table(self.profiles)}

    def _restore(self, stored: Stored) -> None:
        """Take back what :meth:`extra` and :meth:`tables` gave."""
        self.profiles = read_profiles(stored.tables[PROFILES])
