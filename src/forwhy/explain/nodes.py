"""What GraphGPT, TEA-GLM and Time-LLM share as explainers: a user or an item is a few vectors that become a few tokens.

These were made for other tasks; in BEAT's experiments (Table 1) each keeps its own way to align vectors with a language
model and explains pairs. They read graph vectors, or BEAT's behaviour tokens in their place. No torch before `fit`.

Shapes: B pairs, V numbers that stand for a node, S vectors of a node, d width of a vector, K tokens of a node, D model
width, N nodes of a side, C codes of a side's books, L slots.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from forwhy.columns import SIDES, Side
from forwhy.explain.codes import CodeExplainer
from forwhy.explain.evidence import Subject, TokenEvidence
from forwhy.explain.options import PUBLISHED, ExplainerConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors, Representations
from forwhy.lazy import Network, torch
from forwhy.options import Presets

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from forwhy.bridge.backbone import Backbone
    from forwhy.bridge.projectors import PairBridge
    from forwhy.bridge.prompt import Numbers
    from forwhy.bridge.reader import Reader

_PROMPT = {
    "instruction": (
        "You explain recommendations. Below stand tokens for a user and for an item, learned by a recommender system "
        "from who took what. Say in one or two plain sentences, at most 50 words, why this user would enjoy this item. "
        "Name what the item offers and what the user likes. Do not mention tokens, scores or the recommender itself."
    )
}
_SMALL = 1e-8
_NEAR = 0.1
"""Share of torch's usual start that is added to a word: a model reads what is near to a word (docs/log.md)."""


class NodeConfig(ExplainerConfig):
    """What nodes are, and how they are learned to be read."""

    preset: Literal["forwhy", "paper"] = "forwhy"
    tokens: Literal["graph", "behaviour"] = "graph"
    """`graph`: vectors of LightGCN, learned from who took what. `behaviour`: the codewords of BEAT's tokens, learned in
    a stage `vocabulary`, as BEAT's experiments let these models read."""
    scaled: bool = True
    """Vectors are centred and divided by their overall deviation, and tokens start near the word "user" or "item", in
    units of a word embedding's coordinate, so that one learning rate fits every model; otherwise both as they come."""


def presets(**published: Any) -> Presets:  # noqa: ANN401 - of any field
    """`forwhy`, and `paper`: `published` over what BEAT trained all its models with."""
    prompt = {**PUBLISHED["prompt"], **_PROMPT}
    return {
        "forwhy": {"prompt": _PROMPT},
        "paper": {**PUBLISHED, "prompt": prompt, "scaled": False, **published},
    }


class Nodes(Network):
    """Numbers that stand for nodes of a side -> their vectors; nothing of it is learned."""

    shape: tuple[int, int]
    """S and d."""

    def _centred(self, vectors_Nd: NDArray[np.float32], scaled: bool) -> Tensor:
        """As a tensor, brought to mean 0 and deviation 1 where `scaled`."""
        found: Tensor = torch.from_numpy(np.asarray(vectors_Nd, np.float32))
        if not scaled:
            return found
        found = found - found.mean(dim=0)
        return found / found.std(unbiased=False).clamp_min(_SMALL)


class VectorNodes(Nodes):
    """[B, d] a node's own vector -> [B, 1, d]."""

    mean_d: Tensor
    deviation: Tensor

    def __init__(self, vectors_Nd: NDArray[np.float32], scaled: bool) -> None:
        super().__init__()
        self.shape = 1, vectors_Nd.shape[1]
        known_Nd = torch.from_numpy(vectors_Nd)
        mean_d, deviation = known_Nd.mean(dim=0), (known_Nd - known_Nd.mean(dim=0)).std(unbiased=False)
        self.register_buffer("mean_d", mean_d * scaled, persistent=False)
        self.register_buffer(
            "deviation", deviation.clamp_min(_SMALL) if scaled else torch.ones(()), persistent=False
        )

    def forward(self, own_Bd: Tensor) -> Tensor:
        """[B, 1, d]."""
        return ((own_Bd - self.mean_d) / self.deviation)[:, None]


class CodeNodes(Nodes):
    """[B, L] codes -> [B, L, d] their codewords; zeros where a token was taken out (-1)."""

    codewords_CM: Tensor
    offset_L: Tensor

    def __init__(self, books: Mapping[str, NDArray[np.float32]], slots: list[str], scaled: bool) -> None:
        super().__init__()
        read = [books[name] for name in dict.fromkeys(slots)]
        self.shape = len(slots), read[0].shape[1]
        first = dict(zip(dict.fromkeys(slots), np.cumsum([0, *map(len, read[:-1])]).tolist(), strict=True))
        words_CM = torch.cat([self._centred(book, scaled) for book in read])
        self.register_buffer("codewords_CM", words_CM, persistent=False)
        self.register_buffer("offset_L", torch.tensor([first[name] for name in slots]), persistent=False)

    def forward(self, codes_BL: Tensor) -> Tensor:
        """[B, L, d]."""
        return self.codewords_CM[codes_BL.clamp_min(0) + self.offset_L] * (codes_BL >= 0)[..., None]


class NodeTokens(Network):
    """Nodes of a side, and what makes tokens of them."""

    start_D: Tensor

    def __init__(self, nodes: Nodes, maker: Network, start_D: Tensor, unit: float) -> None:
        """`maker`: [B, S, d] -> [B, K, D], what is added to `start_D` in units of `unit`."""
        super().__init__()
        self.nodes, self.maker, self.unit = nodes, maker, unit
        self.register_buffer("start_D", start_D, persistent=False)

    def forward(self, values_BV: Tensor) -> Tensor:
        """[B, K, D]."""
        tokens_BKD: Tensor = self.start_D + self.unit * self.maker(self.nodes(values_BV))
        return tokens_BKD


class NodeExplainer(SoftExplainer[Any, "PairBridge"]):
    """Reads tokens that are made of a user's and an item's vectors; one maker of tokens serves both sides."""

    part, stands = "collaborative", "graph vectors"
    known_type: ClassVar[type[Representations]] = CollaborativeVectors
    config_type: ClassVar[type[NodeConfig]]
    config: NodeConfig

    # --- what each kind does in its own way

    @abstractmethod
    def _maker(self, nodes: Mapping[Side, Nodes], backbone: Backbone) -> Network:
        """From vectors [B, S, d] to tokens [B, K, D], at its start; the layer that gives these is its last one."""

    @abstractmethod
    def _count(self, nodes: Nodes) -> int:
        """K, of nodes of a side."""

    def _nodes(self, side: Side) -> Nodes:
        return VectorNodes(self.known.vectors[side], self.config.scaled)

    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        known, new = self.known, subject.user is None
        user = known.representation_for_history(subject.seen) if new else known.vectors["user"][subject.user]
        return user, known.vectors["item"][subject.item]

    def _build(self, backbone: Backbone) -> Reader[PairBridge]:
        nodes = {side: self._nodes(side) for side in SIDES}
        maker = self._maker(nodes, backbone)
        unit, starts = 1.0, [torch.zeros(backbone.width)] * 2
        if self.config.scaled:
            unit, starts = backbone.word_norm / backbone.width**0.5, [backbone.word(side) for side in SIDES]
            last = [layer for layer in maker.modules() if isinstance(layer, torch.nn.Linear)][-1]
            last.weight.mul_(_NEAR)
            torch.nn.init.zeros_(last.bias)
        tokens = [NodeTokens(nodes[side], maker, at, unit) for side, at in zip(SIDES, starts, strict=True)]
        return self._bridged(backbone, tokens, {side: self._count(own) for side, own in nodes.items()})

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        slots = self.reader.prompt.slots(self._row(subject))
        return [
            TokenEvidence(f"<{side[0]}.graph_{k + 1}>", side, [])
            for side in SIDES
            for k in range(slots[side])
        ]


class CodeNodeExplainer(CodeExplainer):
    """For an explainer of nodes that reads behaviour tokens; stands before it among the bases."""

    def _nodes(self, side: Side) -> Nodes:
        scaled = cast("NodeConfig", self.config).scaled
        return CodeNodes(self.known.codebooks, self.known.slots(side), scaled)
