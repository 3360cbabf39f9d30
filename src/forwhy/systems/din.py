"""DIN (Zhou et al. 2018) from item ids alone, with a sampled softmax: what LLM-BS takes behaviour vectors from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forwhy.recommend.sequential.din import DinConfig
from forwhy.systems.next_item import NetworkSystem


class Din(NetworkSystem):
    """A network that pools a history anew for every item that it scores."""

    system: Literal["din"] = "din"
    recommender: DinConfig = Field(default_factory=DinConfig)
