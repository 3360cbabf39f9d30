"""XRec: graph vectors through a mixture of experts into every layer of a frozen language model.

Stage 1 is LightGCN with BPR (Ma et al. 2024, eq. 7 to 11). Stage 2 learns adapters that turn a user's and an item's
vector into the language model's width, in the prompt and in every layer (eq. 12), beside title and profiles in words.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from forwhy.explain.base import Explainer
from forwhy.explain.options import XRecConfig
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors
from forwhy.systems import Run, Stage
from forwhy.systems.explaining import EXPLAIN, ExplainingSystem


class XRec(ExplainingSystem):
    """Collaborative vectors that a frozen language model reads in each of its layers."""

    system: Literal["xrec"] = "xrec"
    collaborative: CollaborativeConfig = Field(default_factory=CollaborativeConfig)
    explainer: XRecConfig = Field(default_factory=XRecConfig)

    stages: ClassVar[tuple[Stage, ...]] = (
        Stage("collaborative", ("collaborative",)),
        EXPLAIN,
        Stage("evaluation", ("encoder", "evaluation")),
    )

    def make_collaborative(self, run: Run) -> CollaborativeVectors:
        """Stage 1: a vector of each user and item, from training interactions alone."""
        from forwhy.graph.lightgcn import learn_vectors

        return learn_vectors(run.dataset(), run.work, self.collaborative, self.data.graph)

    def new_explainer(self) -> Explainer[CollaborativeVectors, Any]:
        """Stage 2: adapted vectors in the prompt and in every layer."""
        from forwhy.explain.xrec import XRecExplainer

        return XRecExplainer(self.explainer)

    def load_representations(self, run: Run) -> CollaborativeVectors:
        """The vectors of stage 1."""
        return CollaborativeVectors.from_pretrained(run.output("collaborative"))

    def budget_before(self) -> str:
        """What the training of the vectors may spend."""
        return f"{self.collaborative.epochs} epochs of interactions at most"
