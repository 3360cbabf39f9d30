"""XRec's explainer: graph vectors of a user and an item, in the prompt and in every layer of a frozen model."""

from __future__ import annotations

import torch

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.projectors import ExpertAdapter, PairBridge
from forwhy.bridge.prompt import Numbers
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES
from forwhy.explain.evidence import Subject, TokenEvidence
from forwhy.explain.options import XRecConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors


class XRecExplainer(SoftExplainer[CollaborativeVectors, PairBridge]):
    """Reads two graph vectors, adapted by a mixture of experts, beside title and profiles (Ma et al. 2024, 3.2-3)."""

    system, title, part, stands = "xrec", "XRec", "collaborative", "graph vectors"
    config_type, known_type = XRecConfig, CollaborativeVectors
    config: XRecConfig

    def _build(self, backbone: Backbone) -> Reader[PairBridge]:
        """Adapters at their start."""
        config, size = self.config, (backbone.width, backbone.word_norm)
        vectors = (torch.from_numpy(self.known.vectors[side]) for side in SIDES)
        adapters = [ExpertAdapter(config.adapter, vectors_Nd, *size) for vectors_Nd in vectors]
        injection = None if config.injection == "none" else backbone.injection(config.injection)
        return self._bridged(backbone, adapters, dict.fromkeys(SIDES, 1), injection)

    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        vectors, new = self.known.vectors, subject.user is None
        user = self.known.representation_for_history(subject.seen) if new else vectors["user"][subject.user]
        return user, vectors["item"][subject.item]

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        return [TokenEvidence(f"<{side[0]}.vector>", side, []) for side in SIDES]
