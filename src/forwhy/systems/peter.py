"""PETER: a small transformer that reads a user, an item and the words so far (Li et al. 2021).

Shapes: B pairs, S positions (the user, the item, words that are shown, <bos>, the text), T words of the text, P words
that are shown, D width, H heads, K width of a head, V words, N targets.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal, TypeVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from forwhy.explain.options import WORDED_PUBLISHED, WordedConfig
from forwhy.explain.worded import WordedExplainer
from forwhy.explain.words import BOS, EOS, PAD, WordBatch, WordNetwork, rating_error
from forwhy.lazy import Network, torch
from forwhy.options import Presets
from forwhy.systems.explaining import Collaborative

if TYPE_CHECKING:
    from torch import Tensor

    Kept = tuple[Tensor, ...]

PETER_PRESETS: Presets = {
    "forwhy": {},
    "paper": {
        **WORDED_PUBLISHED, "dims": 512, "feedforward": 2048, "dropout": 0.2, "optimizer": "sgd", "lr": 1.0,
        "batch_size": 128, "schedule": "plateau",
    },
}  # fmt: skip
_SPREAD = 0.1
"""Vectors and the heads' weights start between minus and plus this."""


class PeterConfig(WordedConfig):
    """Sizes of the network, and what its tasks weigh beside the NLL."""

    presets: ClassVar[Presets] = PETER_PRESETS
    dims: PositiveInt = 128
    """Width of all vectors and layers."""
    heads: PositiveInt = 2
    layers: PositiveInt = 2
    feedforward: PositiveInt = 512
    """Width of a layer's hidden part."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    lr: PositiveFloat = 2e-3
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    epochs: NonNegativeInt = 20
    context: NonNegativeFloat = 1.0
    """Weight of the context: the item's state says which words will come, in whatever order."""
    rating: NonNegativeFloat = 0.1
    """Weight of the squared error of the rating that the user's state gives, where there are any."""

    @model_validator(mode="after")
    def _check_heads(self) -> PeterConfig:
        if self.dims % self.heads:
            raise ValueError(f"dims = {self.dims} is no multiple of {self.heads} heads; change either")
        return self


ConfigT = TypeVar("ConfigT", bound=PeterConfig)


class _Layer(Network):
    """Attention and feed-forward, each normalised after its sum (Vaswani et al. 2017)."""

    def __init__(self, config: PeterConfig) -> None:
        super().__init__()
        nn, dims = torch.nn, config.dims
        self.heads, self.dropout = config.heads, nn.Dropout(config.dropout)
        self.read, self.join = nn.Linear(dims, 3 * dims), nn.Linear(dims, dims)
        self.up, self.down = nn.Linear(dims, config.feedforward), nn.Linear(config.feedforward, dims)
        self.norms = nn.ModuleList(nn.LayerNorm(dims) for _ in range(2))
        nn.init.xavier_uniform_(self.read.weight)
        for bias in (self.read.bias, self.join.bias):
            nn.init.zeros_(bias)

    def forward(self, x_BSD: Tensor, allowed_BST: Tensor, before: Kept) -> tuple[Tensor, Kept, Tensor]:
        """What these positions say, keys and values of them and those `before`, and shares [B, H, S, T]."""
        query_BSHK, *new = self.read(x_BSD).unflatten(2, (3, self.heads, -1)).unbind(2)
        both = zip(before, new, strict=True) if before else ((part,) for part in new)
        key_BTHK, value_BTHK = (torch.cat(parts, dim=1) for parts in both)
        scores_BHST = torch.einsum("bshk,bthk->bhst", query_BSHK, key_BTHK) / math.sqrt(query_BSHK.shape[-1])
        shares_BHST = scores_BHST.masked_fill(~allowed_BST[:, None], -torch.inf).softmax(-1)
        found_BSHK = torch.einsum("bhst,bthk->bshk", self.dropout(shares_BHST), value_BTHK)
        x_BSD = self.norms[0](x_BSD + self.dropout(self.join(found_BSHK.flatten(2))))
        wide = self.dropout(torch.relu(self.up(x_BSD)))
        return self.norms[1](x_BSD + self.dropout(self.down(wide))), (key_BTHK, value_BTHK), shares_BHST


class PeterNetwork(WordNetwork[ConfigT]):
    """Eq. 3 to 12: each position sees those before it, and the user also the item ("PETER mask")."""

    def __init__(self, users: int, items: int, words: int, rated: bool, config: ConfigT) -> None:
        super().__init__(users, items, words, rated, config)
        nn, dims = torch.nn, config.dims
        self.users, self.items, self.words = (nn.Embedding(count, dims) for count in (users, items, words))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.dropout, self.out = nn.Dropout(config.dropout), nn.Linear(dims, words)
        wide, last = nn.Linear(dims, dims), nn.Linear(dims, 1)
        self.rating = nn.Sequential(wide, nn.Sigmoid(), last) if rated else None
        for part in (self.users, self.items, self.words, self.out, wide, last):
            nn.init.uniform_(part.weight, -_SPREAD, _SPREAD)
        for head in (self.out, wide, last):
            nn.init.zeros_(head.bias)

    def _placed(self, x_BSD: Tensor, place_BS: Tensor) -> Tensor:
        """Vectors with the waves of their places, which only count what is no padding."""
        dims = x_BSD.shape[-1]
        rate_D = torch.exp(torch.arange(0, dims, 2, device=x_BSD.device) * (-math.log(10_000.0) / dims))
        angle_BSD = place_BS[..., None] * rate_D
        waves_BSD = torch.stack([angle_BSD.sin(), angle_BSD.cos()], dim=-1).flatten(2)[..., :dims]
        placed: Tensor = self.dropout(x_BSD * math.sqrt(dims) + waves_BSD)
        return placed

    def _read(self, batch: WordBatch, words_BS: Tensor) -> tuple[Tensor, list[Kept], Tensor, Tensor]:
        """States [B, S, D] of the pair and these words, keys and values, what is no padding, and shares [B, S, S]."""
        pair_B2D = torch.stack([self.users(batch.user_B), self.items(batch.item_B)], dim=1)
        real_BS = torch.nn.functional.pad(words_BS != PAD, (2, 0), value=True)
        x_BSD = torch.cat([pair_B2D, self.words(words_BS)], dim=1)
        x_BSD = self._placed(x_BSD, (real_BS.cumsum(1) - 1).clamp_min(0))
        mask_SS = torch.ones(*[x_BSD.shape[1]] * 2, dtype=torch.bool, device=x_BSD.device).tril()
        mask_SS[0, 1] = True
        kept, shares = [], []
        for layer in self.layers:
            x_BSD, state, shares_BHSS = layer(x_BSD, mask_SS & real_BS[:, None], ())
            kept.append(state)
            shares.append(shares_BHSS.mean(1))
        return x_BSD, kept, real_BS, torch.stack(shares).mean(0)

    def _written(self, batch: WordBatch) -> Tensor:
        """[B, P + T] what is shown, <bos>, and the text but its last word."""
        begun_BT = torch.nn.functional.pad(batch.target_BT[:, :-1], (1, 0), value=BOS)
        return torch.cat([batch.shown_BP, begun_BT], dim=1)

    def begin(self, batch: WordBatch) -> Kept:
        """What is no padding [B, S], then keys and values of each layer [B, S, H, K]."""
        _, kept, real_BS, _ = self._read(batch, batch.shown_BP)
        return (real_BS, *(part for state in kept for part in state))

    def step(self, word_B: Tensor, state: Kept) -> tuple[Tensor, Kept]:
        """O(layers · D (D + S) + D V) for each pair: positions before are kept."""
        real_BS, *parts = state
        x_B1D = self._placed(self.words(word_B[:, None]), real_BS.sum(1, keepdim=True))
        real_BS = torch.nn.functional.pad(real_BS, (0, 1), value=True)
        kept: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            x_B1D, new, _ = layer(x_B1D, real_BS[:, None], tuple(parts[2 * number : 2 * number + 2]))
            kept += new
        return self.out(x_B1D[:, 0]), (real_BS, *kept)

    def logits(self, batch: WordBatch) -> Tensor:
        """All texts in one pass."""
        return self._all(batch)[0]

    def _all(self, batch: WordBatch) -> tuple[Tensor, Tensor]:
        """Logits [N, V] of the words, and states [B, 2, D] of the user and the item."""
        states_BSD, *_ = self._read(batch, self._written(batch))
        said_BTD = states_BSD[:, 2 + batch.shown_BP.shape[1] :]
        return self.out(said_BTD[batch.target_BT != PAD]), states_BSD[:, :2]

    def losses(self, batch: WordBatch) -> dict[str, Tensor]:
        """NLL of a word, of the words from the item's state (context), and the rating's squared error (eq. 13)."""
        logits_NV, pair_B2D = self._all(batch)
        parts = {"nll": torch.nn.functional.cross_entropy(logits_NV, batch.target_N)}
        word_BT = (batch.target_BT != PAD) & (batch.target_BT != EOS)
        context_BT = self.out(pair_B2D[:, 1]).log_softmax(-1).gather(1, batch.target_BT)
        parts["context"] = -context_BT[word_BT].sum() / word_BT.sum().clamp_min(1)
        loss = parts["nll"] + self.config.context * parts["context"]
        if self.rating is not None:
            parts["rating"] = rating_error(self.rating(pair_B2D[:, 0])[:, 0], batch)
            loss = loss + self.config.rating * parts["rating"]
        return {"loss": loss, **parts}

    def shares(self, batch: WordBatch) -> Tensor:
        """[B, T, S] what is looked at where each word is written; mean over layers and heads."""
        return self._read(batch, self._written(batch))[-1][:, 2 + batch.shown_BP.shape[1] :]


class PeterExplainer(WordedExplainer[PeterConfig]):
    """Writes by a transformer whose first positions are a user and an item."""

    system, title = "peter", "PETER"
    config_type, network_type, reads_ratings = PeterConfig, PeterNetwork, True


class Peter(Collaborative):
    """A small transformer reads a user, an item and the words so far."""

    system: Literal["peter"] = "peter"
    explainer: PeterConfig = Field(default_factory=PeterConfig)

    def new_explainer(self) -> PeterExplainer:
        """Vectors and words, learned at once."""
        return PeterExplainer(self.explainer)
