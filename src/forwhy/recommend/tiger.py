"""TIGER (Rajput et al. 2023): an encoder reads the codes of a history, a decoder writes those of the next item.

Shapes: B histories or targets, I items of a history, S tokens read, T tokens written, n tokens written so far, L
levels, D width, W codes of a level, V tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import EllipsisType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forwhy.artifact import Artifact
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Histories, Sequences
from forwhy.recommend import generative
from forwhy.recommend.base import Ints
from forwhy.recommend.causal import ReadPrompts, TreeReader
from forwhy.recommend.generative import GenerativeNetwork, GenerativeTask, Parts, Vectors
from forwhy.recommend.llmbs.network import Packed, Pieces, cut
from forwhy.recommend.options import TigerConfig
from forwhy.recommend.t5 import Encoded, KeyValue, Pairs, Stack
from forwhy.training.engine import Epoch, batches_of
from forwhy.vocabulary.index import ItemIndex

BEGIN = 0
"""The token that every history and every written item begins with."""
Batch = tuple[Tensor, Tensor, Tensor]
"""One step's targets: what was taken before each [B, I], padded behind, how many items that is [B], the targets [B]."""


@dataclass
class ReadHistories(ReadPrompts):
    """Encoded histories, and the tree of codes that is being written after them."""

    encoded: Encoded
    written: list[KeyValue]
    """Keys and values [B, H, 1 + n, E] of the begin token and the tree."""
    places_n: Tensor
    """[1 + n] how far from the beginning each of them stands."""

    def prune(self) -> None:
        """Forget the tree, keep the histories."""
        self.places_n = self.places_n[:1]
        self.written = [(keys[:, :, :1], values[:, :, :1]) for keys, values in self.written]


class TigerNetwork(GenerativeNetwork, TreeReader):
    """Reads codes both ways, writes codes from left to right; read and written tokens share a table.

    For beam search (`TreeReader`) all beams of a user look at the one encoded history, which is never repeated: they
    are the queries' axis of the cross-attention. A mask keeps them apart where they look at what was written. It has no
    `prefix`: an encoder's states at the beginning depend on what follows.
    """

    def __init__(self, index: ItemIndex, config: TigerConfig) -> None:
        """Random weights from torch's generator, spread as T5's."""
        super().__init__()
        self.ahead = False  # True: the encoder sees what came before alone, as while `AheadTask` trains
        self.tokens, self.config = generative.IndexTokens.of(index, BEGIN + 1, (BEGIN,)), config
        self.vocabulary = BEGIN + 1 + self.tokens.count
        self.table = nn.Embedding(self.vocabulary, config.dims)
        self.encoder, self.decoder = Stack(config, reads=True), Stack(config, reads=False)
        self.head = CodesHead(self.table)

    def forward(self, items_BI: Tensor, lengths_B: Tensor, targets_B: Tensor) -> dict[str, Tensor]:
        """`loss`: the mean cross-entropy of the targets' codes after their histories, padded behind."""
        codes_NL = self.tokens.items_NL.to(self.device)
        ids_BS = F.pad(codes_NL[items_BI.to(self.device)].flatten(1), (1, 0), value=BEGIN)
        encoded = self.encode(ids_BS, 1 + lengths_B.to(self.device) * codes_NL.shape[1])
        codes_BL = codes_NL[targets_B.to(self.device)]
        places_L = torch.arange(codes_BL.shape[1], device=self.device)
        before_LL = places_L[:, None] >= places_L
        given_BL = F.pad(codes_BL[:, :-1], (1, 0), value=BEGIN)
        states_BLD, _ = self.write(encoded, given_BL, places_L, before_LL[None])
        return {"loss": self._cross_entropy(states_BLD, codes_BL)}

    def all_targets(self, packed: Packed) -> dict[str, Tensor]:
        """`loss`: the same of all targets of histories in one pass, each after what came before it (`ahead` only)."""
        codes_BIL = self.tokens.items_NL.to(self.device)[packed.items_BI.to(self.device)]
        rows, items, levels = codes_BIL.shape
        read_BS = F.pad(codes_BIL[:, :-1].flatten(1), (1, 0), value=BEGIN)
        given_BT = F.pad(codes_BIL[:, :, :-1], (1, 0), value=BEGIN).flatten(1)
        item_T = torch.arange(items, device=self.device).repeat_interleave(levels)
        places_T = torch.arange(levels, device=self.device).repeat(items)
        own_TT = (item_T[:, None] == item_T) & (places_T <= places_T[:, None])
        after_TS = torch.arange(read_BS.shape[1], device=self.device) > (item_T * levels)[:, None]
        unread = torch.zeros(1, 1, *after_TS.shape, device=self.device).masked_fill_(after_TS, -torch.inf)
        pairs, _ = self.encode(read_BS, torch.full((rows,), read_BS.shape[1]))
        states_BTD, _ = self.write((pairs, unread), given_BT, places_T, own_TT[None])
        chosen_BI = packed.targets_BI.to(self.device)
        states_BILD = states_BTD.view(rows, items, levels, -1)
        return {"loss": self._cross_entropy(states_BILD[chosen_BI], codes_BIL[chosen_BI])}

    def encode(self, ids_BS: Tensor, lengths_B: Tensor) -> Encoded:
        """One pass over histories of tokens, padded behind; the lengths count tokens."""
        places_S = torch.arange(ids_BS.shape[1], device=ids_BS.device)
        bias, unread = self.encoder.distances(places_S, places_S), None
        if self.ahead:
            bias = bias.masked_fill(places_S > places_S[:, None], -torch.inf)
        if int(lengths_B.min()) < ids_BS.shape[1]:
            behind_B11S = (places_S >= lengths_B[:, None])[:, None, None]
            unread = torch.zeros_like(behind_B11S, dtype=torch.float32).masked_fill_(behind_B11S, -torch.inf)
        states_BSD, _ = self.encoder(self.table(ids_BS), bias if unread is None else bias + unread)
        return [block.cross.pair(states_BSD) for block in self.decoder.blocks], unread

    def write(
        self, encoded: Encoded, ids_BT: Tensor, places_n: Tensor, seen_BTn: Tensor, written: Pairs = ()
    ) -> tuple[Tensor, list[KeyValue]]:
        """States [B, T, D] that predict what follows each new token, and keys and values of all tokens so far.

        `places_n`: how far from the beginning each token so far stands, the new ones last. `seen_BTn`: True where a new
        token sees another; the first dimension may be 1. `written`: keys and values of the tokens before.
        """
        bias = self.decoder.distances(places_n[-ids_BT.shape[1] :], places_n)
        bias = bias.masked_fill(~seen_BTn[:, None], -torch.inf)
        found: tuple[Tensor, list[KeyValue]] = self.decoder(self.table(ids_BT), bias, written, *encoded)
        return found

    def _cross_entropy(self, states_BLD: Tensor, codes_BL: Tensor) -> Tensor:
        smoothing = self.config.label_smoothing
        if self.config.softmax == "vocab":
            logits = self.head.vocabulary(states_BLD).flatten(0, 1)
            return F.cross_entropy(logits, codes_BL.flatten(), label_smoothing=smoothing)
        losses = []
        for level, ids_W in enumerate(self.tokens.levels):
            logits_BW = self.head.rows(states_BLD[:, level], ids_W.to(self.device))
            codes_B = codes_BL[:, level] - int(ids_W[0])
            losses.append(F.cross_entropy(logits_BW, codes_B, label_smoothing=smoothing))
        return torch.stack(losses).mean()

    # --- as a `TreeReader`

    @property
    def reader(self) -> "TigerNetwork":  # type: ignore[override]  # a module cannot hold itself as an attribute
        """The network itself."""
        return self

    model = reader

    def read(self, prompts: Sequence[Sequence[int]], room: int, prefix: object = None) -> ReadHistories:
        """One pass over a batch of histories, and one over the begin token; room and prefix mean nothing here."""
        lengths_B = torch.tensor([len(row) for row in prompts], device=self.device)
        longest = int(lengths_B.max())
        ids_BS = torch.tensor([[*row, *[BEGIN] * (longest - len(row))] for row in prompts])
        encoded = self.encode(ids_BS.to(self.device), lengths_B)
        begin_B1 = torch.full((len(prompts), 1), BEGIN, device=self.device)
        here_1 = torch.zeros(1, dtype=torch.long, device=self.device)
        seen_111 = torch.ones(1, 1, 1, dtype=torch.bool, device=self.device)
        states_B1D, written = self.write(encoded, begin_B1, here_1, seen_111)
        return ReadHistories(lengths_B, states_B1D[:, 0], encoded, written, here_1)

    def grow(self, prompts: ReadHistories, ids_BT: Tensor, depths_T: Tensor, seen_BTn: Tensor) -> Tensor:
        """States [B, T, D]: the decoder goes on from what was written."""
        prompts.places_n = torch.cat([prompts.places_n, depths_T + 1])
        begin_BT1 = seen_BTn.new_ones(*seen_BTn.shape[:2], 1)
        seen_BTn = torch.cat([begin_BT1, seen_BTn], dim=2)
        given = prompts.encoded, ids_BT, prompts.places_n, seen_BTn, prompts.written
        states_BTD, prompts.written = self.write(*given)
        return states_BTD


class CodesHead:
    """The table of tokens as the output layer, its states scaled as T5 does when it shares them."""

    def __init__(self, table: nn.Embedding) -> None:
        self.table = table

    def vocabulary(self, states: Tensor) -> Tensor:
        """Logits [..., V] of all tokens."""
        return self.rows(states, ...)

    def rows(self, states: Tensor, ids_W: Tensor | EllipsisType) -> Tensor:
        """Logits [..., W] of some tokens."""
        return F.linear(states * self.table.embedding_dim**-0.5, self.table.weight[ids_W]).float()


class TigerTask(GenerativeTask[Batch]):
    """Learns to write the codes of training items after what was taken before them."""

    network: TigerNetwork
    config: TigerConfig

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; weight decay on matrices but those of tokens and distances."""
        network, config = self.network, self.config
        tables = [part.weight for part in (network.table, network.encoder.bias, network.decoder.bias)]
        return generative.decayed_adamw(network, tables, config.learning_rate, config.weight_decay)

    def batches(self, epoch: int) -> Sequence[Batch]:
        """Every training target once, or the epoch's draw of each history's."""
        train, rng = self.sequences.train, np.random.default_rng((self.config.seed, epoch))
        targets = drawn(train, self.config.targets, rng)
        lengths = np.minimum(targets - train.offsets[:-1][train.rows[targets]], self.config.window)

        def batch(rows: Ints) -> Batch:
            places, sizes = targets[rows], lengths[rows]
            before_BI = train.spans(places - sizes, sizes).padded()
            return torch.from_numpy(before_BI), torch.from_numpy(sizes), torch.from_numpy(train.items[places])

        return Epoch(batches_of(lengths, self.config.batch_size, rng), batch)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the targets' codes."""
        found: Mapping[str, Tensor] = self.network(*batch)
        return found


class AheadTask(GenerativeTask[Packed]):
    """The encoder reads forward alone, so that one pass learns all targets of a history: before it reads both ways."""

    network: TigerNetwork
    config: TigerConfig
    optimizer = TigerTask.optimizer

    @cached_property
    def pieces(self) -> Pieces:
        """The histories, cut."""
        return cut(self.sequences.train, self.config.window, stride=max(self.config.window // 2, 1))

    def batches(self, epoch: int) -> Sequence[Packed]:
        """Every training item once, half a window or more before it."""
        rng = np.random.default_rng((self.config.seed, epoch))
        lengths = self.pieces.histories.lengths
        return Epoch(batches_of(lengths, self.config.batch_size, rng), self.pieces.take)

    def loss(self, batch: Packed) -> Mapping[str, Tensor]:
        """Mean cross-entropy of the targets' codes."""
        return self.network.all_targets(batch)


def drawn(train: Histories, count: int, rng: np.random.Generator) -> Ints:
    """Places in `train.items` of at most `count` items of each history, drawn without order; of all where 0."""
    if not count:
        return np.arange(len(train.items))
    order = np.lexsort((rng.random(len(train.items)), train.rows))
    turn = np.arange(len(order)) - train.offsets[:-1][train.rows]
    return np.sort(order[turn < count])


class TigerRecommender(generative.GenerativeRecommender):
    """An encoder and a decoder that know the items' codes; what it lists and how: see `GenerativeRecommender`.

    Without the hashed user token of the paper, as in LETTER's code: so people never seen are served as all others. The
    paper's codes come from an RQ-VAE (`IndexConfig(method="rqvae", source="semantic")`), but any index will do.
    """

    kind: ClassVar[str] = "tiger"
    title: ClassVar[str] = "TIGER"
    options: ClassVar[type[TigerConfig]] = TigerConfig
    config: TigerConfig
    network: TigerNetwork

    @classmethod
    def _begun(cls, dataset: Dataset, index: ItemIndex, config: TigerConfig, vectors: Vectors) -> Parts:
        return TigerNetwork(index, config), {}

    def _train(self, dataset: Dataset, sequences: Sequences, folder: Path, identity: str) -> None:
        network, config = self.network, self.config
        loop: dict[str, Any] = {"precision": config.precision}
        if (ahead := config.ahead).epochs:
            network.ahead = True
            task = AheadTask(network, sequences, self._trie, config.model_copy(update=ahead.model_dump()))
            self.metrics["ahead"] = task.learn(folder / "ahead", "ahead", identity, **loop).summary()
            network.ahead = False
        full = TigerTask(network, sequences, self._trie, config)
        loop["evaluate_first"] = bool(ahead.epochs)
        self.metrics["full"] = full.learn(folder / "full", "tiger", identity, **loop).summary()

    @classmethod
    def _restored(cls, stored: Artifact, index: ItemIndex, config: TigerConfig, at: torch.device) -> Parts:
        network = TigerNetwork(index, config)
        network.load_state_dict(generative.tensors_of(stored, "network."))
        return network.to(at), {}
