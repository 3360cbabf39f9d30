"""Recommenders that write the codes of items: tokens, lists by beams, exact scores, training's frame, saving.

A model adds a network (`GenerativeNetwork`) and how it learns (`GenerativeTask`).
Shapes: B people, N items, L levels of codes, W codes of a level, K items of a list.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.columns import Graph
from forwhy.data.dataset import Dataset, Ids
from forwhy.data.histories import Capabilities, Catalogue, Histories, Sequences
from forwhy.errors import UserError
from forwhy.recommend.base import Hidden, Ints, Recommender, Scores
from forwhy.recommend.beams import BeamDecoder
from forwhy.recommend.causal import TreeReader
from forwhy.recommend.halves import HalvesDecoder
from forwhy.recommend.options import GenerativeOptions
from forwhy.recommend.repeats import mass_of_lists, with_gain
from forwhy.recommend.rules import Listed
from forwhy.recommend.trie import CodeTrie
from forwhy.training.checkpoint import TrainingState
from forwhy.training.engine import Task, kept_generators, resolve_device, seed_everything
from forwhy.training.loop import train
from forwhy.vocabulary.index import ItemIndex

Batch = TypeVar("Batch")
Own = Any
"""The model's own options."""
Vectors = Mapping[str, NDArray[np.floating]]
Parts = tuple[Any, dict[str, Any]]
"""A `GenerativeNetwork`, and what else the recommender's constructor takes."""


@dataclass(frozen=True)
class IndexTokens:
    """Token ids of an index, which follow one another; a history is written as `prompt` and the codes of its items."""

    items_NL: Tensor
    """[N, L] token ids of every item."""
    levels: tuple[Tensor, ...]
    """Per level, [W] the token of each code: what `BeamDecoder` asks for."""
    prompt: tuple[int, ...]
    """What every history begins with; at least one token."""

    @classmethod
    def of(cls, index: ItemIndex, first: int, prompt: tuple[int, ...], **more: int) -> Self:
        """The tokens of an index from token `first` on."""
        levels = torch.split(torch.arange(first, first + int(index.offsets[-1])), list(index.sizes))
        return cls(torch.from_numpy(index.token_rows + first).long(), levels, prompt, **more)

    @property
    def first(self) -> int:
        """The lowest index token."""
        return int(self.levels[0][0])

    @property
    def count(self) -> int:
        """Index tokens of all levels."""
        return sum(len(level) for level in self.levels)

    def history(self, items: Sequence[int] | Ints) -> list[int]:
        """Prompt and codes of internal items."""
        return [*self.prompt, *self.items_NL[torch.as_tensor(items, dtype=torch.long)].flatten().tolist()]


class GenerativeNetwork(nn.Module):
    """A model that knows the codes of items as tokens."""

    tokens: IndexTokens
    reader: TreeReader
    """The model as beam search reads it."""

    def beams(self, trie: CodeTrie, config: GenerativeOptions, beam: int) -> BeamDecoder | HalvesDecoder:
        """What finds items of this trie."""
        return BeamDecoder(self.reader, trie, self.tokens.levels, config.decoding, beam)


class GenerativeRecommender(Recommender, Saved):
    """Lists the items whose codes a model finds most probable after a history, by constrained beam search.

    A history is in time order, its repeats count, and only its last `window` items are read. An empty one gets
    what most people took, as of every recommender; a user of no training item what people take first.
    A score is the log-probability of an item's codes, and `repeat_gain` more where the history holds the item. Beams
    are `beam` wide, or the next multiple of it that holds `k` items and those that `filter_seen` leaves out; with as
    many beams as items the list is exact, with fewer, lists of different `k` agree as long as they take equally many.
    Cost per person: one pass over the history and one over the beams per level.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(hot=True, warm=True, cold=True)
    writes_lists: ClassVar[bool] = True
    title: ClassVar[str]
    """Of the model's card."""
    options: ClassVar[type[GenerativeOptions]]
    """The model of `config`."""
    config: Any
    window: int

    def __init__(
        self,
        catalogue: Catalogue,
        index: ItemIndex,
        network: GenerativeNetwork,
        config: GenerativeOptions,
        metrics: Mapping[str, Any] | None = None,
        repeat_gain: float = 0.0,
    ) -> None:
        """Put together what was fitted or read; `metrics` by stage. Index, items and model have to agree."""
        super().__init__(catalogue)
        check_items(index, catalogue.items)
        own_NL = torch.from_numpy(index.token_rows + network.tokens.first)
        if not torch.equal(network.tokens.items_NL, own_NL):
            raise UserError(
                "index and model disagree: the model was trained on other codes; load its own index"
            )
        self.index, self.network, self.config = index, network.eval(), config
        self.metrics, self.repeat_gain, self.window = dict(metrics or {}), repeat_gain, config.window
        self._trie = CodeTrie.from_codes(index.codes, index.sizes)

    # --- learning

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        index: ItemIndex,
        folder: Path | str,
        config: GenerativeOptions | None = None,
        graph: Graph = "leak-free",
        sequences: Sequences | None = None,
        vectors: Vectors | None = None,
    ) -> Self:
        """Learn to write each training item's codes after those before it; a killed run continues from `folder`.

        Gradients come from training items alone; validation items choose the epoch. Without any the last is kept.

        Args:
            dataset: interactions with timestamps, one validation and one test item per user.
            index: the codes of all its items.
            folder: for checkpoints and metrics.jsonl of each stage.
            config: the model's defaults where None.
            graph: which training interactions (see `Dataset.edges`).
            sequences: other histories of the same data set, such as shuffled ones.
            vectors: `semantic` and `behaviour`, [N, E] each, what the index was made from: for LLM-BS's contrast.

        Raises:
            UserError: no order, no training items, an index of others, a model that can't be used, divergence.
        """
        config, vectors = config or cls.options(), vectors or {}
        sequences = sequences or Sequences.from_dataset(dataset, graph)
        check_items(index, dataset.items)
        if not len(sequences.train.items):
            named = f"data set '{dataset.name}'"
            raise UserError(f"{named} has no training interactions, so there is nothing to learn from")
        with kept_generators():
            seed_everything(config.seed)
            network, more = cls._begun(dataset, index, config, vectors)
        found = cls(Catalogue.of(dataset, sequences.train), index, network, config, **more)
        found._train(dataset, sequences, Path(folder), _identity(dataset, sequences, index, config, vectors))
        network.eval()
        return found.learn_repeats(sequences, config.seed)

    @classmethod
    @abstractmethod
    def _begun(cls, dataset: Dataset, index: ItemIndex, config: Own, vectors: Vectors) -> Parts:
        """The untrained network, from torch's generator."""

    @abstractmethod
    def _train(self, dataset: Dataset, sequences: Sequences, folder: Path, identity: str) -> None:
        """Train the network, and keep what was measured of each stage in `metrics`."""

    # --- lists

    def lists_after(self, histories: Histories, k: int = 10, hidden: Hidden = None) -> list[Listed]:
        """The `k` best items after each history, best first, without those that `hidden` names for it."""
        rules, trie, open_items = self.rules, self._trie, np.arange(len(self.catalogue.items))
        if rules is not None:
            if self.config.decoding == "legal":
                # What a code's probability is shared with are the items that exist, so all are scored.
                return super().lists_after(histories, k, hidden)
            if len(open_items := rules.plain):
                trie = CodeTrie.from_codes(self.index.codes[open_items], self.index.sizes)
        recent = histories.last(self.window)
        left_out = [recent.items[:0]] * len(recent) if hidden is None else list(map(np.unique, hidden))
        widths = np.array([self._width(k + len(items)) for items in left_out], dtype=np.int64)
        lists: list[Listed] = [(recent.items[:0], np.empty(0, np.float32))] * len(recent)
        for width in np.unique(widths).tolist() if len(open_items) else ():
            rows = np.flatnonzero(widths == width).tolist()
            decoder = self.network.beams(trie, self.config, width)
            found = decoder.search([self.network.tokens.history(recent[row]) for row in rows])
            for row, items, scores in zip(rows, found.items.numpy(), found.scores.numpy(), strict=True):
                items, scores = with_gain((open_items[items], scores), recent[row], self.repeat_gain)
                kept = ~np.isin(items, left_out[row])
                lists[row] = (items[kept][:k], scores[kept][:k])
        if rules is None or not len(rules.boosted):
            return lists
        scores_BM = self._scores_of_after(recent, rules.boosted)
        return [rules.with_boosted(*row, k) for row in zip(lists, scores_BM, left_out, strict=True)]

    def lists(self, users: Ints, k: int = 10, hidden: Hidden = None) -> list[Listed]:
        """The `k` best items of each internal user, after what they took in training."""
        return self.lists_after(self.catalogue.histories.take(users), k, hidden)

    def _mass_taken(self, histories: Histories) -> NDArray[np.float64]:
        return mass_of_lists(self.lists_after(histories, self._width(1)), histories)

    def _width(self, wanted: int) -> int:
        """Beams for that many items: a multiple of `beam`, so that few widths occur; never more than items."""
        beam = int(self.config.beam)
        return min(-(-wanted // beam) * beam, len(self.catalogue.items))

    # --- scores

    def scores_after(self, histories: Histories) -> Scores:
        """[B, N] exact scores of all items after histories. A pass over the whole trie for each."""
        return self._exact(self._trie, histories, np.arange(len(self.catalogue.items)))

    def _scores_of(self, users: Ints, items: Ints) -> Scores:
        return self._scores_of_after(self.catalogue.histories.take(users), items)

    def _scores_of_after(self, histories: Histories, items: Ints) -> Scores:
        """A pass over the codes of these items alone, but where a probability depends on which items exist."""
        if self.config.decoding == "legal":
            return super()._scores_of_after(histories, items)
        some = CodeTrie.from_codes(self.index.codes[items], self.index.sizes)
        return self._exact(some, histories, items)

    def _exact(self, trie: CodeTrie, histories: Histories, items: Ints) -> Scores:
        recent = histories.last(self.window)
        again_BI = np.zeros((len(recent), len(self.catalogue.items)), dtype=bool)
        again_BI[recent.rows, recent.items] = True
        prompts = [self.network.tokens.history(recent[row]) for row in range(len(recent))]
        scores_BN = self.network.beams(trie, self.config, 1).exact(prompts).numpy()
        return np.asarray(scores_BN + np.float32(self.repeat_gain) * again_BI[:, items])

    # --- saving

    def content(self) -> Content:
        """Weights, index, options, and what was taken in training."""
        config = {"options": self.config.model_dump(mode="json"), "index": self.index.fingerprint}
        config |= {"metrics": self.metrics, "repeat_gain": self.repeat_gain}
        weights = {name: value.detach().cpu().numpy() for name, value in self._weights().items()}
        what = f"Writes the codes of the next of {len(self.catalogue.items):,} items after"
        text = f"{what} {self._read_and_loaded()}{self._origin()}"
        about = card(self.title, text, self.metrics, "generative-recommendation")
        tensors, tables = self.catalogue.tensors() | weights, self.catalogue.tables()
        return Content(config, tensors, tables, about, {"index": self.index})

    def _weights(self) -> Mapping[str, Tensor]:
        """Tensors by the names under which `_restored` reads them."""
        return {f"network.{name}": value for name, value in self.network.state_dict().items()}

    def _origin(self) -> str:
        return ""

    @classmethod
    def restore(cls, stored: Artifact, device: str = "auto", **_: Any) -> Self:  # noqa: ANN401
        """Make it again, on a device; refuses an index that the model was not trained on."""
        index = ItemIndex.from_pretrained(stored.part("index"))
        if index.fingerprint != stored.config["index"]:
            raise UserError(
                f"{stored.folder}: index and model disagree: trained on index {stored.config['index'][:8]}, found "
                f"{index.fingerprint[:8]}; put its own index back or train again"
            )
        config = cls.options.model_validate(stored.config["options"])
        with kept_generators():
            network, more = cls._restored(stored, index, config, resolve_device(device))
        metrics, gain = dict(stored.config["metrics"]), float(stored.config["repeat_gain"])
        return cls(Catalogue.read(stored), index, network, config, metrics=metrics, repeat_gain=gain, **more)

    @classmethod
    @abstractmethod
    def _restored(cls, stored: Artifact, index: ItemIndex, config: Own, at: torch.device) -> Parts:
        """The network with its weights, on a device."""


def tensors_of(stored: Artifact, prefix: str) -> dict[str, Tensor]:
    """The stored tensors whose names begin so, without it."""
    return {name: torch.from_numpy(value) for name, value in stored.group(prefix).items()}


class GenerativeTask(Task[Batch]):
    """Learns from training items; validation items, looked for by beam search, decide when to stop, nothing else."""

    higher_is_better = True
    network: Any
    config: Any

    def __init__(self, network: GenerativeNetwork, sequences: Sequences, trie: CodeTrie, config: Own) -> None:
        self.module: nn.Module = network
        self.network, self.config, self.trie, self.sequences = network, config, trie, sequences
        before, targets = sequences.validation(config.validation_users, config.seed, config.window)
        self._prompts = [network.tokens.history(before[row]) for row in range(len(before))]
        self._targets_B1 = torch.from_numpy(targets)[:, None]

    def evaluate(self) -> Mapping[str, float]:
        """NDCG@10 and Recall@10 by constrained beam search; without validation items the training likelihood."""
        if not self._prompts:
            parts = self.loss(self.batches(0)[0])
            return {"train_log_likelihood": -float(parts.get("generation", parts["loss"]))}
        # Beams are compared to rounding; autocast's is too coarse for that.
        with torch.autocast(self.network.reader.device.type, enabled=False):
            decoder = self.network.beams(self.trie, self.config, max(self.config.beam, 10))
            found = decoder.search(self._prompts, 10)
        hits = found.items == self._targets_B1
        gains = hits / torch.log2(torch.arange(hits.shape[1]) + 2.0)
        return {"ndcg@10": float(gains.sum() / len(hits)), "recall@10": float(hits.sum() / len(hits))}

    def learn(self, folder: Path, name: str, identity: str, **more: Any) -> TrainingState:  # noqa: ANN401
        """Run the loop, the learning rate falling along a cosine; `more`: other options of the loop."""
        config = self.config.loop(bool(self._prompts), schedule="cosine", **more)
        return train(self, config, folder, name, identity)


def decayed_adamw(module: nn.Module, tables: list[Tensor], rate: float, decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices but the `tables` of tokens."""
    spared = {id(table) for table in tables}
    groups: dict[float, list[nn.Parameter]] = {decay: [], 0.0: []}
    for parameter in module.parameters():
        groups[decay if parameter.ndim > 1 and id(parameter) not in spared else 0.0].append(parameter)
    options = [{"params": group, "weight_decay": share} for share, group in groups.items() if group]
    return torch.optim.AdamW(options, lr=rate, fused=True)


def check_items(index: ItemIndex, items: Ids) -> None:
    """Refuse an index of other items."""
    if tuple(index.items.values) != tuple(items.values):
        raise UserError(
            f"the index names {len(index.items):,} items, the data set {len(items):,}, and they are not the same; "
            "build the index on this data set"
        )


def _identity(dataset: Dataset, sequences: Sequences, index: ItemIndex, config: Own, vectors: Vectors) -> str:
    """What decides the result of the first training beside the loop's options; how it is asked later does not."""
    digest = hashlib.sha256()
    for source in sorted(vectors):
        digest.update(source.encode() + np.ascontiguousarray(vectors[source]).tobytes())
    own = config.model_dump_json(exclude={"device", "checkpoint_seconds", "beam", "normalise", "annealing"})
    made_of = dataset.fingerprint, sequences.fingerprint(), index.fingerprint, digest.hexdigest(), own
    return "\n".join(made_of)
