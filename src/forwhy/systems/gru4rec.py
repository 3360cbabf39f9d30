"""GRU4Rec (Hidasi et al. 2016) with the softmax over the whole catalogue."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forwhy.recommend.sequential.gru4rec import Gru4RecConfig
from forwhy.systems.next_item import NetworkSystem


class Gru4Rec(NetworkSystem):
    """A recurrent network over a history predicts the next item."""

    system: Literal["gru4rec"] = "gru4rec"
    recommender: Gru4RecConfig = Field(default_factory=Gru4RecConfig)
