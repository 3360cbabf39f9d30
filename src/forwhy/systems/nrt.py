"""NRT: a user and an item give a rating, and both start a GRU that writes why (Li et al. 2017).

Without the words of all reviews as a third task, as in the comparisons of PETER and XRec.

Shapes: B pairs, H width of a layer, D width of a vector.
"""

from __future__ import annotations

from itertools import chain, pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.explain.options import WORDED_PUBLISHED, WordedConfig
from forwhy.explain.worded import WordedExplainer
from forwhy.explain.words import STARS, WordBatch, rating_error
from forwhy.lazy import torch
from forwhy.options import Presets
from forwhy.systems.att2seq import RecurrentNetwork
from forwhy.systems.explaining import Collaborative

if TYPE_CHECKING:
    from torch import Tensor


class NrtConfig(WordedConfig):
    """Sizes of the network. No decay: with the paper's every pair gets one text."""

    presets: ClassVar[Presets] = {
        "forwhy": {},
        "paper": {
            **WORDED_PUBLISHED, "dims": 300, "hidden": 400, "rating_layers": 4, "dropout": 0.0, "batch_size": 200,
            "lr": 1e-4, "gradient_clip": 0.0,
        },
    }  # fmt: skip
    dims: PositiveInt = 64
    """Width of the vectors of users, items and words."""
    hidden: PositiveInt = 128
    """Width of the GRU and of the rating's layers."""
    rating_layers: NonNegativeInt = 1
    """Hidden layers of the rating after the first."""


class NrtNetwork(RecurrentNetwork[NrtConfig]):
    """r = MLP[u; i] (eq. 3 to 5); h_0 = tanh(W [u; i; the rating's star]); then a GRU over the words."""

    def __init__(self, users: int, items: int, words: int, rated: bool, config: NrtConfig) -> None:
        super().__init__(users, items, words, rated, config)
        nn, dims, hidden = torch.nn, config.dims, config.hidden
        self.users, self.items = nn.Embedding(users, dims), nn.Embedding(items, dims)
        widths = [2 * dims, *[hidden] * (1 + config.rating_layers)]
        layers = [(nn.Linear(wide, narrow), nn.Sigmoid()) for wide, narrow in pairwise(widths)]
        self.rating = nn.Sequential(*chain.from_iterable(layers), nn.Linear(hidden, 1)) if rated else None
        self.start = nn.Linear(2 * dims + STARS * rated, hidden)
        self.words, self.out = nn.Embedding(words, dims), nn.Linear(hidden, words)
        self.dropout, self.cell = nn.Dropout(config.dropout), nn.GRU(dims, hidden, batch_first=True)
        for table in (self.users, self.items, self.words):
            nn.init.uniform_(table.weight, -0.1, 0.1)

    def _pair(self, batch: WordBatch) -> tuple[Tensor, Tensor | None]:
        """[B, 2D] both vectors, and [B] the rating, where there are any."""
        pair_B2D = torch.cat([self.users(batch.user_B), self.items(batch.item_B)], dim=1)
        return pair_B2D, None if self.rating is None else self.rating(pair_B2D)[:, 0]

    def begin(self, batch: WordBatch) -> tuple[Tensor, ...]:
        """The state [B, 1, H]."""
        pair_B2D, rating_B = self._pair(batch)
        if rating_B is not None:
            star_B = rating_B.detach().clamp(1, STARS).long() - 1
            pair_B2D = torch.cat([pair_B2D, torch.nn.functional.one_hot(star_B, STARS).to(pair_B2D)], dim=1)
        return (torch.tanh(self.start(pair_B2D))[:, None],)

    def losses(self, batch: WordBatch) -> dict[str, Tensor]:
        """NLL of a word, and the squared error of the rating."""
        losses, (_, rating_B) = super().losses(batch), self._pair(batch)
        if rating_B is None:
            return losses
        error = rating_error(rating_B, batch)
        return {"loss": losses["loss"] + error, "nll": losses["loss"], "rating": error}


class NrtExplainer(WordedExplainer[NrtConfig]):
    """Writes by a GRU that a user, an item and the rating that they suggest start."""

    system, title = "nrt", "NRT"
    config_type, network_type, reads_ratings = NrtConfig, NrtNetwork, True


class Nrt(Collaborative):
    """Users and items give a rating and start a recurrent network of words."""

    system: Literal["nrt"] = "nrt"
    explainer: NrtConfig = Field(default_factory=NrtConfig)

    def new_explainer(self) -> NrtExplainer:
        """Vectors, ratings and words, learned at once."""
        return NrtExplainer(self.explainer)
