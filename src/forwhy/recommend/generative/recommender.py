"""Index tokens: what an item's codes are in a model's vocabulary.

Shapes: N items, L levels, W codes of a level.
"""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import forwhy.artifact as artifact
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Ids
from forwhy.data.sequences import Histories, Sequences
from forwhy.errors import UserError
from forwhy.recommend.base import Id, Ints, Listed, Scores
from forwhy.recommend.decoding import BeamDecoder, CodeTrie
from forwhy.recommend.generative.config import GenerativeConfig
from forwhy.recommend.sequential.base import SequentialRecommender
from forwhy.training import LoopConfig
from forwhy.vocabulary.indices import ItemIndex


@dataclass(frozen=True)
class IndexTokens:
    """Token ids of an index; a history is written as `prompt`, then the codes of its items."""

    items_NL: Tensor
    """[N, L] token ids of every item."""
    levels: tuple[Tensor, ...]
    """Per level, [W] the token of each code: what `BeamDecoder` asks for."""
    prompt: tuple[int, ...]
    """What every history begins with; at least one token."""

    @property
    def first(self) -> int:
        """The lowest index token; all index tokens follow one another."""
        return int(self.levels[0][0])

    @property
    def count(self) -> int:
        """Index tokens of all levels."""
        return sum(len(level) for level in self.levels)

    def history(self, items: Sequence[int]) -> list[int]:
        """Prompt and codes of internal items."""
        return [*self.prompt, *self.items_NL[torch.as_tensor(items, dtype=torch.long)].flatten().tolist()]


def level_tokens(index: ItemIndex, first: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`items_NL` and `levels` where the index's tokens follow one another from `first` on."""
    starts = first + index.offsets
    levels = tuple(
        torch.arange(int(start), int(stop)) for start, stop in zip(starts[:-1], starts[1:], strict=True)
    )
    return torch.from_numpy(index.token_rows + first).long(), levels


def check_index(index: ItemIndex, items: Ids, tokens: IndexTokens) -> None:
    """Refuse an index of other items or other codes than the model's."""
    if tuple(index.items.values) != tuple(items.values):
        raise UserError(
            f"the index names {len(index.items):,} items, the data set {len(items):,}, and they are not the same; "
            "build the index on this data set"
        )
    if not torch.equal(tokens.items_NL, torch.from_numpy(index.token_rows + tokens.first)):
        raise UserError("index and model disagree: the model was trained on other codes; load its own index")


# --- What a written item gains for standing in the history already.
#
# A model that writes codes knows little of it: two codes of an item may each be likely where the
# item is not. One number,
# added to the log-probability of every item of the history, makes taking again as frequent in the lists as it is among
# validation items: none where nobody does it.
#
# Shapes: B people.


FARTHEST = 20.0
"""Gains lie between -20 and 20."""


def likeliest_gain(lists: list[Listed], histories: Histories, targets_B: Ints) -> float:
    """The gain under which these targets are likeliest, given each person's list and scores before any gain.

    Probabilities p of the history's items become p·e^gain, all divided by their new sum. Half a repeated target is
    added to those seen, so that none among B does not say never. 0 where no list holds an item of its history.
    """
    mass_B = np.zeros(len(lists))
    again_B = np.zeros(len(lists), dtype=bool)
    for row, (items, scores) in enumerate(lists):
        mass_B[row] = min(1.0, float(np.exp(scores[np.isin(items, histories[row])].astype(np.float64)).sum()))
        again_B[row] = targets_B[row] in histories[row]
    if not mass_B.any():
        return 0.0
    return _solved(mass_B, float(again_B.sum()) + 0.5)


def with_gain(listed: Listed, history: Ints, gain: float) -> Listed:
    """A list in its new order; equal scores stay as they stood."""
    items, scores = listed
    moved = scores + np.float32(gain) * np.isin(items, history)
    order = np.argsort(-moved, kind="stable")
    return items[order], moved[order].astype(np.float32)


def _solved(mass_B: NDArray[np.float64], wanted: float) -> float:
    """By bisection: how many repeats the model expects grows with the gain."""
    low, high = -FARTHEST, FARTHEST
    while high - low > 1e-3:
        middle = (low + high) / 2
        odds_B = np.exp(middle) * mass_B
        expected = (odds_B / (1 - mass_B + odds_B)).sum()
        low, high = (middle, high) if expected < wanted else (low, middle)
    return round((low + high) / 2, 3)


# --- What the folders of generative recommenders have in common: their own index, what people took, the card's table.


@contextmanager
def index_part(index: ItemIndex) -> Iterator[dict[str, Path]]:
    """The index as a part of an artifact; its folder lasts as long as the block, and others may join it."""
    with tempfile.TemporaryDirectory(prefix="forwhy-") as temporary:
        part = Path(temporary) / "index"
        index.save_pretrained(part)
        yield {"index": part}


def own_index(folder: Path, stored: artifact.Artifact) -> ItemIndex:
    """The index that the model was trained on.

    Raises:
        UserError: another one lies there.
    """
    index = ItemIndex.from_pretrained(stored.part("index"))
    if index.fingerprint != stored.config["index"]:
        raise UserError(
            f"{folder}: index and model disagree: trained on index {stored.config['index'][:8]}, found "
            f"{index.fingerprint[:8]}; put its own index back or train again"
        )
    return index


def train_histories(stored: artifact.Artifact) -> Histories:
    """What each user took in training."""
    return Histories(stored.tensors["train.items"], stored.tensors["train.offsets"])


def tensors_of(stored: artifact.Artifact, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without it."""
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in stored.tensors.items()
        if name.startswith(prefix)
    }


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows of the card's table: stage, name, value."""
    return "\n".join(
        f"| {stage} | {name} | {value} |"
        for stage, numbers in metrics.items()
        for name, value in numbers.items()
    )


# --- Lists of items that exist, by beams over their codes, and exact scores: the same for every
# model that writes codes.
#
# Shapes: B people, I items, K items of a list.


class GenerativeRecommender(SequentialRecommender):
    """Lists the items whose codes a model finds most probable after a history, by constrained beam search.

    A history is in time order, its repeats count, and only its last `window` items are read. Hot users' is what they
    took in training; others bring theirs. An empty history is read as one: the list is what people take first.
    A score is the log-probability of an item's codes, and `repeat_gain` more where the history holds the item. Beams
    are `beam` wide, or the next multiple of it that holds `k` items and those that `filter_seen` leaves out; with as
    many beams as items the list is exact.
    Lists of different `k` within one width of beams are heads of each other.
    Cost per person: one pass over the history and one over the beams per level.
    """

    config: GenerativeConfig

    def __init__(
        self,
        users: Ids,
        items: Ids,
        titles: Sequence[str],
        train: Histories,
        index: ItemIndex,
        tokens: IndexTokens,
        repeat_gain: float = 0.0,
    ) -> None:
        """See the subclasses; `repeat_gain` is what `learn_repeats` found.

        Raises:
            UserError: the index is of other items, or the model has other tokens.
        """
        super().__init__(users, items, titles, train)
        check_index(index, items, tokens)
        self.index, self.tokens, self.repeat_gain = index, tokens, repeat_gain
        self._trie = CodeTrie.from_codes(index.codes, index.sizes)

    # --- lists

    def lists_after(
        self, histories: Histories, k: int = 10, hidden: Sequence[Ints] | None = None
    ) -> list[Listed]:
        """The `k` best items after each history, best first, and their scores; fewer where the catalogue ends.

        Args:
            histories: Internal items, oldest first; may be empty.
            k: Items of each list.
            hidden: Items that each list leaves out.
        """
        recent = histories.last(self.config.window)
        left_out = [np.unique(items) for items in hidden] if hidden else [recent.items[:0]] * len(recent)
        widths = np.array([self._width(k + len(items)) for items in left_out], dtype=np.int64)
        lists: list[Listed] = [(recent.items[:0], np.empty(0, np.float32))] * len(recent)
        for width in np.unique(widths).tolist():
            rows = np.flatnonzero(widths == width)
            decoder = self._decoder(self._trie, width)
            found = decoder.search([self._prompt(recent[int(row)]) for row in rows])
            for row, items, scores in zip(
                rows.tolist(), found.items.numpy(), found.scores.numpy(), strict=True
            ):
                items, scores = with_gain((items, scores), recent[row], self.repeat_gain)
                kept = ~np.isin(items, left_out[row])
                lists[row] = (items[kept][:k], scores[kept][:k])
        return lists

    def items_after(self, histories: Histories, k: int = 10, hidden: Sequence[Ints] | None = None) -> Ints:
        """[B, k] the items of those lists; -1 where the catalogue ends. What `evaluate.ranking.rank_lists` reads."""
        items_BK = np.full((len(histories), k), -1, dtype=np.int64)
        for row, (items, _) in enumerate(self.lists_after(histories, k, hidden)):
            items_BK[row, : len(items)] = items
        return items_BK

    def learn_repeats(self, sequences: Sequences, users: int, seed: int) -> None:
        """Set `repeat_gain` by the lists of validation users, as many as drawn by `seed` (0: all); 0 without any."""
        chosen = sequences.drawn("valid", users, seed)
        histories = sequences.histories("valid").take(chosen).last(self.config.window)
        self.repeat_gain = 0.0
        lists = self.lists_after(histories, self._width(1))
        self.repeat_gain = likeliest_gain(lists, histories, sequences.valid[chosen])

    def _lists_of(self, users: Ints, k: int, hidden: Sequence[Ints]) -> list[Listed]:
        return self.lists_after(self.train.take(users), k, hidden)

    def _list_after(self, items: Ints, k: int, hidden: Ints) -> Listed:
        return self.lists_after(Histories.of([items]), k, [hidden])[0]

    def _width(self, wanted: int) -> int:
        """Beams for that many items: a multiple of `beam`, so that few widths occur; never more than items."""
        return min(-(-wanted // self.config.beam) * self.config.beam, len(self.items))

    # --- scores

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] exact scores of all items after histories, empty ones too. A pass over the whole trie for each."""
        return self._exact(self._trie, histories)

    def score(self, users: Id | Sequence[Id], items: Id | Sequence[Id]) -> Scores:
        """[n] scores of pairs users[k], items[k]; a single id stands for all rows.

        Cost: one pass per distinct user over the codes of the distinct items (of all items under `legal`).

        Raises:
            UserError: unknown id, or two lists of different lengths.
        """
        left = self._user_numbers([users] if isinstance(users, str | int) else users)
        right = self._item_numbers([items] if isinstance(items, str | int) else items)
        if len(left) != len(right) and 1 not in (len(left), len(right)):
            raise UserError(f"{len(left)} users for {len(right)} items: give as many, or one of either")
        left, right = np.broadcast_arrays(left, right)
        people, row = np.unique(left, return_inverse=True)
        asked, column = np.unique(right, return_inverse=True)
        if not len(left):
            return np.empty(0, np.float32)
        if self.config.decoding == "legal":  # depends on which items exist
            return self.scores(people)[row, right]
        some = CodeTrie.from_codes(self.index.codes[asked], self.index.sizes)
        return self._exact(some, self.train.take(people), asked)[row, column]

    def _exact(self, trie: CodeTrie, histories: Histories, items: Ints | None = None) -> Scores:
        """`items`: those of the trie, where they are not all."""
        recent = histories.last(self.config.window)
        if not len(recent):
            return np.empty((0, len(trie)), np.float32)
        prompts = [self._prompt(recent[row]) for row in range(len(recent))]
        scores_BN = np.asarray(self._decoder(trie, 1).exact_scores(prompts).numpy())
        again_BI = np.zeros((len(recent), len(self.items)), dtype=bool)
        again_BI[recent.rows, recent.items] = True
        again_BN = again_BI if items is None else again_BI[:, items]
        return scores_BN + np.float32(self.repeat_gain) * again_BN

    def _prompt(self, items: Ints) -> list[int]:
        return self.tokens.history(items.tolist())

    @abstractmethod
    def _decoder(self, trie: CodeTrie, beam: int) -> BeamDecoder:
        """The model as it decodes items of this trie."""


# --- What training to write items' codes needs, whatever the model: checks and validation.


class Validation:
    """NDCG@10 and Recall@10 of the validation items of some users, by constrained beam search."""

    def __init__(
        self, sequences: Sequences, tokens: IndexTokens, window: int, sample: int, seed: int
    ) -> None:
        """`sample`: users, drawn once by `seed`; 0: all."""
        chosen = sequences.drawn("valid", sample, seed)
        before = sequences.histories("valid").take(chosen).last(window)
        self._prompts = [tokens.history(before[row].tolist()) for row in range(len(chosen))]
        self._targets = torch.from_numpy(sequences.valid[chosen])

    def __len__(self) -> int:
        return len(self._prompts)

    def measure(self, decoder: BeamDecoder) -> dict[str, float]:
        """`ndcg@10` and `recall@10`; the decoder has 10 beams or more."""
        found = decoder.search(self._prompts, 10).items
        hits = found == self._targets[:, None]
        gains = hits / torch.log2(torch.arange(hits.shape[1]) + 2.0)
        return {"ndcg@10": float(gains.sum() / len(hits)), "recall@10": float(hits.sum() / len(hits))}


def check_data(dataset: Dataset, sequences: Sequences, index: ItemIndex) -> None:
    """Refuse an index of other items, and a data set without training items."""
    if tuple(index.items.values) != tuple(dataset.items.values):
        raise UserError(
            f"the index names {len(index):,} items, data set '{dataset.name}' {len(dataset.items):,}, and they are "
            "not the same; build the index on this data set"
        )
    if not len(sequences.train.items):
        raise UserError(
            f"data set '{dataset.name}' has no training interactions, so there is nothing to learn from"
        )


def loop(config: GenerativeConfig, validates: bool, **more: Any) -> LoopConfig:  # noqa: ANN401 (its own options)
    """The training loop's options; `more` wins."""
    options: dict[str, Any] = {
        "epochs": config.epochs,
        "patience": config.patience,
        "evaluate_every": config.evaluate_every,
        "schedule": "cosine",
        "warmup": config.warmup,
        "gradient_clip": config.gradient_clip,
        "device": config.device,
        "seed": config.seed,
        "checkpoint_seconds": config.checkpoint_seconds,
    }
    return LoopConfig(**options | more).validated(validates)
