"""XRec's explainer: graph vectors of a user and an item, in the prompt and in every layer of a frozen model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.projectors import ExpertAdapter, PairBridge
from forwhy.bridge.prompt import Numbers, Prompt, Row
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES
from forwhy.explain.evidence import Subject, TokenEvidence
from forwhy.explain.options import XRecConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors


class XRecExplainer(SoftExplainer[CollaborativeVectors, PairBridge]):
    """Reads two graph vectors, each adapted by a mixture of experts, beside title and profiles in words.

    Ma et al. 2024, sections 3.2 and 3.3. A user known only by a history is folded into the graph; their
    profile is then left out.
    """

    system, title, part, stands = "xrec", "XRec", "collaborative", "graph vectors"
    config_type, known_type = XRecConfig, CollaborativeVectors
    config: XRecConfig

    def _build(self, backbone: Backbone) -> Reader[PairBridge]:
        """Adapters at their start.

        Raises:
            UserError: A model into which nothing can be injected.
        """
        config = self.config
        prompt = Prompt(backbone.tokenizer, config.prompt, {"user": 1, "item": 1})
        vectors = (torch.from_numpy(self.known.vectors[side]) for side in SIDES)
        user, item = (
            ExpertAdapter(config.adapter, vectors_Nd, backbone.width, backbone.word_norm)
            for vectors_Nd in vectors
        )
        bridge = PairBridge.at_start(user, item, prompt, backbone)
        injection = None if config.injection == "none" else backbone.injection(config.injection)
        return Reader(backbone, prompt, bridge, injection)

    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """The NLL of the explanation's tokens."""
        return {"loss": self.reader.loss(rows)}

    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        known = self.known
        if subject.user is None:
            return known.representation_for_history(subject.seen), known.vectors["item"][subject.item]
        return known.vectors["user"][subject.user], known.vectors["item"][subject.item]

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        return [TokenEvidence(f"<{side[0]}.vector>", side, []) for side in SIDES]
