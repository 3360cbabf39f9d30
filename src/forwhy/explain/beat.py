"""BEAT's explainer: behaviour tokens of a user and an item in front of a frozen language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.errors import UserError
from forwhy.explain import store
from forwhy.explain.assembly import SIDES, build_reader, load_backbone, word_starts
from forwhy.explain.base import Capabilities, Explanation, NllResult
from forwhy.explain.config import BeatConfig
from forwhy.explain.evidence import Subject, contributions_of, explained, history_of
from forwhy.explain.fitting import READ_TOGETHER, BeatTask, drawn, loop_config, shifted, with_tokens_of
from forwhy.training import TrainingResult, train
from forwhy.vocabulary.vocabulary import Vocabulary

ExternalPair = tuple[str | int, str | int]


class BeatExplainer:
    """Says why a user would like an item, in words of a frozen model that reads their behaviour tokens.

    Hot users and items are those of the vocabulary's training graph; a warm user comes with a history of
    items. A user or item without any training interaction has no meaningful tokens and is refused with the
    remedy.
    """

    capabilities = Capabilities(hot=True, warm=True, cold=False)

    def __init__(self, config: BeatConfig | None = None) -> None:
        self.config = config or BeatConfig()
        self.result: TrainingResult | None = None
        self.starts: dict[str, list[int]] = {}
        self._vocabulary: Vocabulary | None = None
        self._reader: Reader | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary whose tokens it reads."""
        if self._vocabulary is None:
            raise UserError(
                "explainer: not fitted yet; call fit(dataset, vocabulary, folder) or from_pretrained"
            )
        return self._vocabulary

    @property
    def reader(self) -> Reader:
        """The projectors and the frozen model."""
        if self._reader is None:
            raise UserError(
                "explainer: not fitted yet; call fit(dataset, vocabulary, folder) or from_pretrained"
            )
        return self._reader

    # --- fitting ------------------------------------------------------------------------------------------

    def fit(self, dataset: Dataset, vocabulary: Vocabulary, folder: Path) -> BeatExplainer:
        """Learn to read `vocabulary` from explained training pairs; validation NLL picks the state.

        Args:
            dataset: Its training and validation explanations are read, nothing else of it.
            vocabulary: Learned on the same users and items.
            folder: For metrics.jsonl and the checkpoint; run again with it, a killed training continues.

        Cost: about epochs x pairs x (prompt + text after the cached prefix) positions, forward and back, of
            the
        language model, whose memory and activations of one batch are what is needed.

        Raises:
            UserError: Other users or items than the vocabulary's, no explanations, or no model.
        """
        self._same_entities(dataset, vocabulary)
        backbone = load_backbone(self.config)
        self.starts = word_starts(vocabulary, backbone, self.config)
        self._vocabulary = vocabulary
        self._reader = build_reader(self.config, vocabulary, backbone, self.starts)
        task = self._task(dataset)
        identity = f"{dataset.fingerprint}:{backbone.source.id}:{backbone.source.revision}"
        self.result = train(task, loop_config(self.config), folder, "explainer", identity)
        return self

    @staticmethod
    def _same_entities(dataset: Dataset, vocabulary: Vocabulary) -> None:
        for side in SIDES:
            ours, theirs = getattr(dataset, f"{side}s"), getattr(vocabulary, f"{side}s")
            if ours.values != theirs.values:
                raise UserError(
                    f"explainer: the {side}s of data set '{dataset.name}' ({len(ours):,}) are not the "
                    f"vocabulary's ({len(theirs):,}); use the data set that the vocabulary was learned on"
                )

    def _task(self, dataset: Dataset) -> BeatTask:
        """Rows of the training and validation pairs whose user and item have tokens that mean something."""
        config = self.config
        train_rows = self._rows(dataset, "train", config.train_pairs)
        valid_rows = self._rows(dataset, "valid", config.validation_pairs)
        strangers = (
            with_tokens_of(valid_rows, shifted(len(valid_rows), config.seed))
            if config.validation_gain
            else []
        )
        return BeatTask(self.reader, config, train_rows, valid_rows, strangers)

    def _rows(self, dataset: Dataset, split: Literal["train", "valid"], wanted: int) -> list[Row]:
        pairs = dataset.pairs(split)
        pairs = pairs.select(np.flatnonzero(self.supported(pairs)))
        if not len(pairs):
            raise UserError(
                f"data set '{dataset.name}': no usable explanations in split '{split}'; add some or re-split"
            )
        pairs = pairs.select(drawn(len(pairs), wanted, self.config.seed))
        codes, titles = self.vocabulary.codes, self.vocabulary.titles
        return [
            self.reader.prompt.row(codes["user"][user], codes["item"][item], titles[item], text)
            for user, item, text in zip(pairs.users, pairs.items, pairs.texts, strict=True)
        ]

    # --- explaining ---------------------------------------------------------------------------------------

    def supported(self, pairs: Pairs) -> NDArray[np.bool_]:
        """[n] Whether both sides of a pair have training interactions, so that :meth:`explain` takes it."""
        history = self.vocabulary.has_history
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
            contributions: Also measure each token's worth, for 13 more readings of each text.

        Raises:
            UserError: Unknown id; a user or item without training interactions; an empty history.
        """
        subjects = self._subjects(pairs, history, item)
        rows = [subject.row for subject in subjects]
        texts = self.reader.write(rows, self.config.generation)
        worth = contributions_of(self.reader, self._answered(subjects, texts)) if contributions else None
        glosses = {book: self.vocabulary.glosses(book) for book in self.vocabulary.codebooks}
        explanations = [
            explained(self.vocabulary, glosses, subject, text, None if worth is None else worth[number])
            for number, (subject, text) in enumerate(zip(subjects, texts, strict=True))
        ]
        return explanations[0] if pairs is None or _is_single(pairs) else explanations

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
            user_rows: [n] Users whose tokens stand in the prompts in place of the pairs' own.
            item_rows: [n] Items likewise; a title, where the prompt shows one, stays the pair's own.
        """
        users = pairs.users if user_rows is None else user_rows
        items = pairs.items if item_rows is None else item_rows
        codes, titles = self.vocabulary.codes, self.vocabulary.titles
        rows = [
            self.reader.prompt.row(codes["user"][user], codes["item"][shown], titles[true], text)
            for user, shown, true, text in zip(users, items, pairs.items, pairs.texts, strict=True)
        ]
        return NllResult(*self.reader.nll(rows, READ_TOGETHER))

    def _subjects(
        self,
        pairs: ExternalPair | Pairs | Sequence[ExternalPair] | None,
        history: Sequence[str | int] | None,
        item: str | int | None,
    ) -> list[Subject]:
        """What is asked about, with the history behind it; refused where there is none."""
        items = self.vocabulary.items
        if pairs is None:
            if not history or item is None:
                raise UserError("explain: give pairs, or history=[items the user likes] together with item=…")
            seen = [items.index(external) for external in history]
            codes = self.vocabulary.codes_for_history(seen)
            return [self._subject(codes, items.index(item), seen)]
        if isinstance(pairs, Pairs):
            numbers = list(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))
        else:
            users = self.vocabulary.users
            asked = cast("Sequence[ExternalPair]", [pairs] if _is_single(pairs) else pairs)
            numbers = [(users.index(user), items.index(thing)) for user, thing in asked]
        return [self._known_subject(user, thing) for user, thing in numbers]

    def _known_subject(self, user: int, item: int) -> Subject:
        vocabulary = self.vocabulary
        seen = history_of(vocabulary, user)
        if not seen:
            raise UserError(
                f"user {vocabulary.users.values[user]!r}: no training interactions, so no behaviour tokens "
                "to explain with; say what the user likes instead: explain(history=[items], item=…)"
            )
        return self._subject(vocabulary.codes["user"][user], item, seen)

    def _subject(self, user_codes: NDArray[np.int32], item: int, seen: Sequence[int]) -> Subject:
        vocabulary = self.vocabulary
        if not (vocabulary.seen[:, 1] == item).any():
            raise UserError(
                f"item {vocabulary.items.values[item]!r}: no training interactions, so no behaviour tokens "
                "to explain with; ask about an item that someone has taken, or fit again once someone has"
            )
        row = self.reader.prompt.row(user_codes, vocabulary.codes["item"][item], vocabulary.titles[item])
        return Subject(row, item, seen)

    def _answered(self, subjects: Sequence[Subject], texts: Sequence[str]) -> list[Row]:
        """The subjects' rows with their texts as targets."""
        prompt = self.reader.prompt
        return [
            replace(subject.row, target=prompt.target(text))
            for subject, text in zip(subjects, texts, strict=True)
        ]

    # --- keeping ------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that loads alone: projectors, vocabulary and the name of the model, not its weights.

        Raises:
            UserError: Full disk, or a folder of something else; what was there stays.
        """
        store.save(folder, self.config, self.reader, self.vocabulary, self.starts, self.result)

    @classmethod
    def from_pretrained(
        cls, folder: Path, model: str | None = None, device: str | None = None
    ) -> BeatExplainer:
        """Load what :meth:`save_pretrained` wrote, and the frozen model it was trained with.

        Args:
            folder: The artifact.
            model: Where that model lies, when not where it was (a folder); another model is refused.
            device: Where to run, when not where it was trained.

        Raises:
            UserError: Truncated, altered or foreign folder; a base model that is missing or another one.
        """
        explainer = cls()
        loaded = store.load(Path(folder), model, device)
        explainer.config, explainer.starts = loaded.config, loaded.starts
        explainer._vocabulary, explainer._reader = loaded.vocabulary, loaded.reader
        return explainer


def _is_single(pairs: object) -> bool:
    """Whether this is one (user, item) rather than several."""
    return isinstance(pairs, tuple) and len(pairs) == 2 and all(isinstance(part, str | int) for part in pairs)
