"""SASRec (Kang and McAuley 2018) with the softmax over the whole catalogue."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from forwhy.recommend.sequential.sasrec import SasRecConfig
from forwhy.systems.next_item import NetworkSystem


class SasRec(NetworkSystem):
    """A network of attention over a history predicts the next item."""

    system: Literal["sasrec"] = "sasrec"
    recommender: SasRecConfig = Field(default_factory=SasRecConfig)
