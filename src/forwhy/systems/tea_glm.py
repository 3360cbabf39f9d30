"""TEA-GLM: vectors of a graph aligned with a language model's word table, then projected to a few tokens.

Wang et al. 2024, "LLMs as Zero-shot Graph Learners". First (section 3.1) a network of node vectors learns by contrast:
of two views of a node against all other nodes (instances), and, in the coordinates of the word table's principal
components, of a component's values over all nodes against every other component's (features). Then (3.2) one linear
projector makes K tokens of a node, learned from the task; network and language model are frozen.

Adapted: nodes are users and items, their vectors those of LightGCN or the codewords of their tokens, one after the
other, so the network is two layers over them in place of a graph network, and two views are two masks of coordinates:
edges have been used before. The task is to say why, in place of instructions on many graphs.

Shapes: B pairs, S vectors of a node, d width of a vector, n nodes of a step, P principal components, K tokens, D model
width, V words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from forwhy.columns import SIDES, Side
from forwhy.explain.nodes import CodeNodeExplainer, NodeConfig, NodeExplainer, Nodes, presets
from forwhy.lazy import Network, torch
from forwhy.options import Presets
from forwhy.systems.nodes import NodeSystem

if TYPE_CHECKING:
    from torch import Tensor

    from forwhy.bridge.backbone import Backbone
    from forwhy.data.dataset import Dataset
    from forwhy.explain.nodes import NodeTokens


class TeaGlmConfig(NodeConfig):
    """How vectors are aligned, and into how many tokens they are projected."""

    presets: ClassVar[Presets] = presets(count=5, components=1000, alignment=2000, temperature=0.4)
    count: PositiveInt = 4
    """K: tokens of a user and of an item."""
    components: PositiveInt = 128
    """P: principal components of the word table that features are contrasted in; at most the model's width."""
    alignment: NonNegativeInt = 300
    """Steps of the contrast, before explanations are read; 0 leaves it out. A step takes milliseconds."""
    nodes: PositiveInt = 256
    """n: users and items of a step."""
    masked: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of coordinates that a view of a node lacks."""
    temperature: PositiveFloat = 0.5
    """Of both contrasts."""
    alignment_lr: PositiveFloat = 1e-3
    """Adam's learning rate in the contrast."""


def principal_components(table_VD: Tensor, count: int) -> Tensor:
    """[P, D] unit directions of largest variance of the rows, the largest first, by the covariance: O(V D² + D³)."""
    table_VD = table_VD.detach().float()
    centred_VD = table_VD - table_VD.mean(dim=0)
    _, vectors_DD = torch.linalg.eigh(centred_VD.T @ centred_VD)
    components_PD: Tensor = vectors_DD.T.flip(0)[:count].contiguous()
    return components_PD


def contrast(first_nD: Tensor, second_nD: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two views by cosine, either way: each row against all others of both views (section 3.1)."""
    both_mD = torch.nn.functional.normalize(torch.cat([first_nD, second_nD]), dim=1)
    likeness_mm = both_mD @ both_mD.T / temperature
    likeness_mm = likeness_mm.masked_fill(
        torch.eye(len(both_mD), dtype=torch.bool, device=both_mD.device), -torch.inf
    )
    partner_m = torch.arange(len(both_mD), device=both_mD.device).roll(len(first_nD))
    loss: Tensor = torch.nn.functional.cross_entropy(likeness_mm, partner_m)
    return loss


class AlignedTokens(Network):
    """[B, S, d] -> [B, K, D]: the aligned network, then the projector."""

    def __init__(self, inputs: int, width: int, count: int) -> None:
        """`inputs`: S d numbers of a node."""
        super().__init__()
        nn = torch.nn
        self.aligned = nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
        self.aligned.requires_grad_(False)
        self.projector = nn.Linear(width, count * width)
        self.count = count

    def forward(self, vectors_BSd: Tensor) -> Tensor:
        """One linear map for all K tokens (section 3.2)."""
        tokens_BKD: Tensor = self.projector(self.aligned(vectors_BSd.flatten(1))).unflatten(
            1, (self.count, -1)
        )
        return tokens_BKD

    def alignment(self, inputs_nI: Tensor, components_PD: Tensor, config: TeaGlmConfig) -> Tensor:
        """Half of what instances lose and half of what features lose, of two views (section 3.1)."""
        masks = (torch.rand_like(inputs_nI) >= config.masked for _ in range(2))
        first_nD, second_nD = (self.aligned(inputs_nI * mask) for mask in masks)
        instances = contrast(first_nD, second_nD, config.temperature)
        first_Pn, second_Pn = ((view_nD @ components_PD.T).T for view_nD in (first_nD, second_nD))
        return (instances + contrast(first_Pn, second_Pn, config.temperature)) / 2


class TeaGlmExplainer(NodeExplainer):
    """Reads K tokens of a user and K of an item, projected from vectors that speak in the word table's directions."""

    system, title = "tea-glm", "TEA-GLM"
    config_type = TeaGlmConfig
    config: TeaGlmConfig

    def _maker(self, nodes: Mapping[Side, Nodes], backbone: Backbone) -> AlignedTokens:
        vectors, dims = nodes["user"].shape
        return AlignedTokens(vectors * dims, backbone.width, self.config.count)

    def _count(self, nodes: Nodes) -> int:
        return self.config.count

    def _begin(self, dataset: Dataset) -> None:
        """Align once, before training; seconds, and the same again from the same seed, so that a kill loses little."""
        from forwhy.training.engine import deterministic

        super()._begin(dataset)
        backbone, config = self.reader.backbone, self.config
        with torch.random.fork_rng(devices=[]), deterministic(backbone.device):
            torch.manual_seed(config.seed)
            self._align(principal_components(backbone.words.weight, config.components))

    def _align(self, components_PD: Tensor) -> None:
        """Adam on the contrast of nodes drawn anew at each step; the network is frozen afterwards."""
        bridge, config = self.reader.bridge, self.config
        sides = cast("tuple[NodeTokens, NodeTokens]", (bridge.user, bridge.item))
        maker = cast("AlignedTokens", sides[0].maker)
        inputs_NI = torch.cat(
            [side.nodes(self._every(name)).flatten(1) for name, side in zip(SIDES, sides, strict=True)]
        )
        maker.aligned.requires_grad_(True)
        optimiser = torch.optim.Adam(maker.aligned.parameters(), config.alignment_lr)
        for _ in range(config.alignment):
            drawn_n = torch.randperm(len(inputs_NI))[: config.nodes]
            loss = maker.alignment(inputs_NI[drawn_n], components_PD, config)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            optimiser.zero_grad()  # also after the last step: what comes next must not move the network
        maker.aligned.requires_grad_(False)

    def _every(self, side: Side) -> Tensor:
        """[N, V] the numbers that stand for everybody on a side."""
        return torch.from_numpy(self.known.vectors[side]).to(self.reader.backbone.device)


class TeaGlmOfCodes(CodeNodeExplainer, TeaGlmExplainer):
    """TEA-GLM of behaviour tokens."""

    def _every(self, side: Side) -> Tensor:
        return torch.from_numpy(self.known.codes[side]).to(self.reader.backbone.device, torch.long)

    _tokens = NodeExplainer._tokens


class TeaGlm(NodeSystem):
    """Vectors aligned with principal components of the words that a frozen language model knows."""

    system: Literal["tea-glm"] = "tea-glm"
    explainer: TeaGlmConfig = Field(default_factory=TeaGlmConfig)

    def new_explainer(self) -> TeaGlmExplainer:
        """Of graph vectors or of behaviour tokens."""
        return (TeaGlmOfCodes if self.reads_words else TeaGlmExplainer)(self.explainer)
