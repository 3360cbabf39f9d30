"""XRec's explainer: graph vectors of a user and an item, in the prompt and in every layer of a frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.projectors import CollaborativeBridge
from forwhy.bridge.prompt import Numbers, Row
from forwhy.bridge.reader import Reader
from forwhy.columns import Side
from forwhy.explain.assembly import xrec_reader
from forwhy.explain.base import TokenEvidence
from forwhy.explain.config import XRecConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors


class XRecExplainer(SoftExplainer[XRecConfig, CollaborativeVectors, CollaborativeBridge]):
    """Reads two graph vectors, each adapted by a mixture of experts, beside title and profiles in words.

    Ma et al. 2024, sections 3.2 and 3.3. A user known only by a history is folded into the graph; their
    profile is then left out.
    """

    system = "xrec"
    title = "XRec"
    part = "collaborative"
    stands = "graph vectors"
    config_type = XRecConfig

    def __init__(self, config: XRecConfig | None = None) -> None:
        super().__init__(config or XRecConfig())

    @classmethod
    def _read_known(cls, folder: Path) -> CollaborativeVectors:
        return CollaborativeVectors.from_pretrained(folder)

    def _build(self, backbone: Backbone) -> Reader[CollaborativeBridge]:
        return xrec_reader(self.config, self.known, backbone)

    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """The NLL of the explanation's tokens."""
        return {"loss": self.reader.loss(rows)}

    def _standing(self, side: Side, entity: int) -> Numbers:
        vector_d: NDArray[np.float32] = self.known.vectors[side][entity]
        return vector_d

    def _newcomer(self, seen: Sequence[int]) -> Numbers:
        return self.known.representation_for_history(seen)

    def _vectors(self, items: Sequence[int]) -> NDArray[np.float32]:
        return self.known.item_vectors(items)

    def _tokens(self, row: Row, worth: NDArray[np.float64] | None) -> list[TokenEvidence]:
        sides: tuple[Side, Side] = ("user", "item")
        return [
            TokenEvidence(f"<{side[0]}.vector>", side, [], None if worth is None else float(worth[slot]))
            for slot, side in enumerate(sides)
        ]
