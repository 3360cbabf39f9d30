"""Long product codes of items, all read and predicted at once (after RPG, Hou et al. 2025).

Stage 1 (`index`) gives each item 16 codes of what is said of it and 16 of who takes it, stage 2 (`recommender`) trains
one causal network with a head for each code. No code waits for another, so no beams: the scores of the whole catalogue
are exact, one product after one pass over the history.

Shapes: B histories, L places, I items, K codes of an item, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.lazy import torch
from forwhy.recommend.attention import AttentionNetwork, AttentionOptions
from forwhy.systems import Run
from forwhy.systems.generative import BehaviourVectors, IndexedSystem, SpectralVectors, Vectors
from forwhy.systems.next_item import Loaded
from forwhy.vocabulary.indexing import attribute_vectors

if TYPE_CHECKING:
    from torch import Tensor

    from forwhy.recommend.sequential import NextItemRecommender

INDEX = {"method": "product"}
"""How its codes are made, unless something else is given."""


class ParallelConfig(AttentionOptions):
    """Heads that predict all codes of the next item, trained by the softmax over the catalogue of their sums."""

    network: Literal["parallel"] = "parallel"
    dims: PositiveInt = 128
    """d: width of a code's vector and of the states."""
    epochs: NonNegativeInt = 50
    patience: NonNegativeInt = 3

    def build(self, n_items: int) -> ParallelNetwork:
        """The untrained network; `describe` completes it with the items' codes."""
        return ParallelNetwork(n_items, self)


class ParallelNetwork(AttentionNetwork):
    """An item is the sum of its codes' vectors where it is predicted, with one of its own where it is read.

    Head k gives code c the logit state · w_kc / √K. Its log-probability is that less the head's log-sum-exp, which all
    items share; so the sum over an item's codes ranks as state · vector does, and the catalogue's softmax is of either.
    """

    options: ParallelConfig
    attributes_IM: Tensor
    """[I, K] each item's codes, numbered through all heads."""
    _kept: Tensor | None = None

    def describe(self, attributes_IM: Tensor) -> None:
        """Take the codes of items, and make a vector for each."""
        self.words = self.described_by(attributes_IM)

    def vectors(self, codes_NK: Tensor) -> Tensor:
        """[N, D] of items by the rows of `words` that are theirs. O(N·K·D)."""
        summed_ND = torch.nn.functional.embedding_bag(codes_NK, self.words.weight, mode="sum")
        vectors_ND: Tensor = summed_ND * codes_NK.shape[1] ** -0.5
        return vectors_ND

    @property
    def table(self) -> Tensor:
        """[I, D] what is predicted of each item; kept as long as nothing is trained."""
        if self.training:
            return self.vectors(self.attributes_IM)
        if self._kept is None:
            self._kept = self.vectors(self.attributes_IM).detach()
        return self._kept

    def train(self, mode: bool = True) -> Self:
        """Between training and asking the kept vectors go: a fused optimiser leaves no other sign of its steps."""
        self._kept = None
        return super().train(mode)

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only."""
        read_ND = self.vectors(self.attributes_IM[items_BL.flatten()]) + self.items(items_BL.flatten())
        return self.attended(read_ND.view(*items_BL.shape, -1))


class Parallel(IndexedSystem):
    """A network predicts all codes of the next item side by side."""

    system: Literal["parallel"] = "parallel"
    behaviour: BehaviourVectors = Field(default_factory=lambda: SpectralVectors(dims=128))
    recommender: ParallelConfig = Field(default_factory=ParallelConfig)
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {"index": INDEX}

    def item_vectors(self, run: Run) -> Vectors:
        """Also `attributes`, where items have some and codes are made of what is said of them."""
        told_IE = attribute_vectors(run.dataset()) if "semantic" in self.sources else np.empty((0, 0))
        return {**super().item_vectors(run), **({"attributes": told_IE} if told_IE.size else {})}

    def make_recommender(self, run: Run) -> NextItemRecommender:
        """The network, with the items' codes, on training items; validation items choose the epoch."""
        from forwhy.recommend.generative import check_items
        from forwhy.recommend.sequential import NextItemRecommender

        dataset, index, graph = run.dataset(), self.load_index(run), self.data.graph
        check_items(index, dataset.items)
        codes_IK = torch.from_numpy(index.token_rows)
        return NextItemRecommender.fit(dataset, run.work, self.recommender, graph, attributes_IM=codes_IK)

    def load_recommender(self, run: Run) -> NextItemRecommender:
        """The trained network, which holds the codes."""
        from forwhy.recommend.sequential import NextItemRecommender

        return NextItemRecommender.from_pretrained(run.output("recommender"))

    def more_protocol(self, recommender: Loaded) -> dict[str, object]:
        """How many codes an item has, and the encoder of texts."""
        return {"codes": recommender.network.attributes_IM.shape[1], "encoder": self.encoder.name}

    def budget(self) -> str:
        """What the training of the network may spend."""
        options = self.recommender
        return f"{options.epochs} epochs of interactions at most, {options.batch_size} histories a step"
