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
    """Reads two graph vectors, adapted by a mixture of experts, beside title and profiles (Ma et al. 2024, 3.2-3)."""

    system, title, part, stands = "xrec", "XRec", "collaborative", "graph vectors"
    config_type, known_type = XRecConfig, CollaborativeVectors
    config: XRecConfig

    def _build(self, backbone: Backbone) -> Reader[PairBridge]:
        """Adapters at their start."""
        config, size = self.config, (backbone.width, backbone.word_norm)
        prompt = Prompt(backbone.tokenizer, config.prompt, {"user": 1, "item": 1})
        vectors = (torch.from_numpy(self.known.vectors[side]) for side in SIDES)
        user, item = (ExpertAdapter(config.adapter, vectors_Nd, *size) for vectors_Nd in vectors)
        bridge = PairBridge.at_start(user, item, prompt, backbone)
        injection = None if config.injection == "none" else backbone.injection(config.injection)
        return Reader(backbone, prompt, bridge, injection)

    def _loss(self, rows: list[Row]) -> Mapping[str, Tensor]:
        """The NLL of the explanation's tokens."""
        return {"loss": self.reader.loss(rows)}

    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        vectors, new = self.known.vectors, subject.user is None
        user = self.known.representation_for_history(subject.seen) if new else vectors["user"][subject.user]
        return user, vectors["item"][subject.item]

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        return [TokenEvidence(f"<{side[0]}.vector>", side, []) for side in SIDES]
