"""Att2Seq: a user and an item start an LSTM that writes why (Dong et al. 2017, without the rating).

Shapes: B pairs, T words, L layers, H width of a layer, D width of a vector, N targets, V words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from forwhy.explain.options import WORDED_PUBLISHED, WordedConfig
from forwhy.explain.worded import WordedExplainer
from forwhy.explain.words import BOS, PAD, ConfigT, WordBatch, WordNetwork
from forwhy.lazy import torch
from forwhy.options import Presets
from forwhy.systems.explaining import Collaborative

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Dropout, Embedding, Linear, RNNBase


class Att2SeqConfig(WordedConfig):
    """Sizes of the network; attention over the attributes is left out, as in the comparisons of PETER and XRec."""

    presets: ClassVar[Presets] = {
        "forwhy": {},
        "paper": {
            **WORDED_PUBLISHED, "hidden": 512, "layers": 2, "spread": 0.08, "batch_size": 50, "lr": 1e-4,
            "gradient_clip": 5.0,
        },
    }  # fmt: skip
    dims: PositiveInt = 64
    """Width of a user's and an item's vector."""
    hidden: PositiveInt = 128
    """Width of the LSTM's layers and of a word's vector."""
    layers: PositiveInt = 1
    """Layers of the LSTM."""
    spread: PositiveFloat = 0.5
    """Users' and items' vectors start between minus and plus this; everything else within .08 where the
    network is 512 wide, as published, and the more the narrower it is."""


class RecurrentNetwork(WordNetwork[ConfigT]):
    """An LSTM or GRU (`cell`) over vectors of words (`words`), and `out` to the vocabulary; `begin` starts it."""

    words: Embedding
    cell: RNNBase
    dropout: Dropout
    out: Linear

    def step(self, word_B: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """O(L H² + H V) for each pair."""
        states_B1H, state = self._run(word_B[:, None], state)
        return self.out(states_B1H[:, 0]), state

    def logits(self, batch: WordBatch) -> Tensor:
        """All texts in one pass."""
        read_BT = torch.nn.functional.pad(batch.target_BT[:, :-1], (1, 0), value=BOS)
        states_BTH, _ = self._run(read_BT, self.begin(batch))
        found: Tensor = self.out(self.dropout(states_BTH[batch.target_BT != PAD]))
        return found

    def _run(self, word_BT: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The last layer's states after each word; torch wants layers first, and of a GRU no tuple."""
        inner = tuple(part.transpose(0, 1).contiguous() for part in state)
        states_BTH, after = self.cell(
            self.dropout(self.words(word_BT)), inner if len(inner) > 1 else inner[0]
        )
        parts = after if isinstance(after, tuple) else (after,)
        return states_BTH, tuple(part.transpose(0, 1) for part in parts)


class Att2SeqNetwork(RecurrentNetwork[Att2SeqConfig]):
    """h_0 = tanh(W [u; i]) of all layers, c_0 = 0; then an LSTM over the words (eq. 5 to 9)."""

    def __init__(self, users: int, items: int, words: int, rated: bool, config: Att2SeqConfig) -> None:
        super().__init__(users, items, words, rated, config)
        nn, dims, hidden, layers = torch.nn, config.dims, config.hidden, config.layers
        self.users, self.items = nn.Embedding(users, dims), nn.Embedding(items, dims)
        self.start = nn.Linear(2 * dims, layers * hidden)
        self.words, self.out = nn.Embedding(words, hidden), nn.Linear(hidden, words)
        self.dropout, dropped = nn.Dropout(config.dropout), config.dropout * (layers > 1)
        self.cell = nn.LSTM(hidden, hidden, layers, dropout=dropped, batch_first=True)
        most = (
            0.08 * (512 / hidden) ** 0.5
        )  # as published for 512; a narrow network would not pass on what it is told
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -most, most)
        for table in (self.users, self.items):
            nn.init.uniform_(table.weight, -config.spread, config.spread)

    def begin(self, batch: WordBatch) -> tuple[Tensor, ...]:
        """Hidden states and cells [B, L, H]."""
        pair_B2D = torch.cat([self.users(batch.user_B), self.items(batch.item_B)], dim=1)
        hidden_BLH = torch.tanh(self.start(pair_B2D)).view(len(pair_B2D), self.config.layers, -1)
        return hidden_BLH, torch.zeros_like(hidden_BLH)


class Att2SeqExplainer(WordedExplainer[Att2SeqConfig]):
    """Writes by an LSTM that a user and an item start."""

    system, title = "att2seq", "Att2Seq"
    config_type, network_type = Att2SeqConfig, Att2SeqNetwork


class Att2Seq(Collaborative):
    """Users and items start a recurrent network of words."""

    system: Literal["att2seq"] = "att2seq"
    explainer: Att2SeqConfig = Field(default_factory=Att2SeqConfig)

    def new_explainer(self) -> Att2SeqExplainer:
        """Vectors and words, learned at once."""
        return Att2SeqExplainer(self.explainer)
