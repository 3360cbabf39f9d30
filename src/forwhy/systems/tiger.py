"""TIGER (Rajput et al. 2023): codes of what items say, by a residual-quantised autoencoder, that a decoder writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from forwhy.recommend.options import TigerConfig
from forwhy.systems import Run
from forwhy.systems.generative import GenerativeSystem

if TYPE_CHECKING:
    from forwhy.recommend.tiger import TigerRecommender


class Tiger(GenerativeSystem):
    """An encoder reads a history's codes, a decoder writes the next item's."""

    system: Literal["tiger"] = "tiger"
    recommender: TigerConfig = Field(default_factory=TigerConfig)
    reads_attributes: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {"index": {"source": "semantic", "method": "rqvae"}}

    def budget(self) -> str:
        """What the training of the encoder and the decoder may spend."""
        options, ahead = self.recommender, self.recommender.ahead.epochs
        spent = f"{options.epochs} epochs of interactions at most, {options.batch_size} targets a step"
        return f"{f'{ahead} epochs forward, then ' if ahead else ''}{spent}"

    def recommender_class(self) -> type[TigerRecommender]:
        """The encoder and the decoder."""
        from forwhy.recommend.tiger import TigerRecommender

        return TigerRecommender

    def make_recommender(self, run: Run) -> TigerRecommender:
        """Stage 3: the encoder and the decoder."""
        index, graph = self.load_index(run), self.data.graph
        return self.recommender_class().fit(run.dataset(), index, run.work, self.recommender, graph)
