"""XRec: graph vectors through a mixture of experts into every layer of a frozen language model.

Stage 1 is LightGCN with BPR (Ma et al. 2024, eq. 7 to 11). Stage 2 learns adapters that turn a user's and an item's
vector into the language model's width, in the prompt and in every layer (eq. 12), beside title and profiles in words.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from forwhy.explain.base import Explainer
from forwhy.explain.options import XRecConfig
from forwhy.graph.representations import CollaborativeVectors
from forwhy.systems.explaining import Collaborative


class XRec(Collaborative):
    """Collaborative vectors that a frozen language model reads in each of its layers."""

    system: Literal["xrec"] = "xrec"
    explainer: XRecConfig = Field(default_factory=XRecConfig)

    def new_explainer(self) -> Explainer[CollaborativeVectors, Any]:
        """Stage 2: adapted vectors in the prompt and in every layer."""
        from forwhy.explain.xrec import XRecExplainer

        return XRecExplainer(self.explainer)
