"""What each stage of a system of the next item does; skipping and resuming are `runner`'s.

LLM-BS: a network that predicts the next item gives items their behaviour vectors (`behaviour`), these and what
the items say become codes (`index`, LLM-BS eq. 4), a language model learns to write them (`recommender`).
TIGER: an index and a model of its own. SASRec, GRU4Rec: the network alone. Item-kNN and popularity only count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.recipe.folder import RunFolder
from forwhy.recipe.next_item_evaluation import evaluate
from forwhy.recipe.plan import Stage
from forwhy.recipe.systems import (
    GenerativeRecipe,
    Gru4RecRecipe,
    LlmBsRecipe,
    NextItemRecipe,
    SasRecRecipe,
    SpectralVectors,
    TigerRecipe,
    VectorsFile,
)
from forwhy.recommend.llmbs import LlmBsRecommender
from forwhy.recommend.sequential import NextItemRecommender
from forwhy.recommend.sequential.config import NextItemConfig
from forwhy.recommend.tiger import TigerRecommender
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.indices import (
    IndexConfig,
    ItemIndex,
    build_index,
    read_vectors,
    semantic_vectors,
    spectral_vectors,
)

__all__ = ["evaluate", "learn"]

Vectors = Mapping[str, NDArray[np.floating]]
log = logging.getLogger(__name__)


class Learnt(Protocol):
    """What a stage leaves."""

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic."""


def learn(home: RunFolder, stage: Stage, recipe: NextItemRecipe, dataset: Dataset, folder: Path) -> Learnt:
    """What a stage before the evaluation makes; `folder` is for its checkpoints."""
    if isinstance(recipe, SasRecRecipe | Gru4RecRecipe):
        return _network(recipe.recommender, recipe, dataset, folder)
    assert isinstance(recipe, GenerativeRecipe)
    if stage == "behaviour":
        assert not isinstance(recipe.behaviour, SpectralVectors | VectorsFile)
        return _network(recipe.behaviour, recipe, dataset, folder)
    vectors = item_vectors(home, recipe, dataset)
    if stage == "index":
        return make_index(recipe.index, dataset, vectors)
    index = ItemIndex.from_pretrained(home.output("index"))
    graph = recipe.data.graph
    if isinstance(recipe, LlmBsRecipe):
        return LlmBsRecommender.fit(dataset, index, folder, recipe.recommender, vectors, graph)
    assert isinstance(recipe, TigerRecipe)
    return TigerRecommender.fit(dataset, index, folder, recipe.recommender, graph)


def _network(
    config: NextItemConfig, recipe: NextItemRecipe, dataset: Dataset, folder: Path
) -> NextItemRecommender:
    return NextItemRecommender.fit(dataset, folder, config, recipe.data.graph)


def item_vectors(home: RunFolder, recipe: GenerativeRecipe, dataset: Dataset) -> Vectors:
    """`semantic` and `behaviour`, [I, E] each: those that index and contrast read, and that there are.

    No semantic ones where no item has text, unless the index is of nothing else.

    Raises:
        UserError: a network that is not trained yet, a file that cannot be read, no text for an index of it.
    """
    found: dict[str, Any] = {}
    has_text = any(text.strip() for text in dataset.item_texts())
    if "semantic" in recipe.sources and (has_text or recipe.index.source == "semantic"):
        found["semantic"] = semantic_vectors(dataset, text_encoder(recipe.encoder.name))[0]
    if "behaviour" in recipe.sources:
        found["behaviour"] = _behaviour(home, recipe, dataset)
    return found


def _behaviour(home: RunFolder, recipe: GenerativeRecipe, dataset: Dataset) -> NDArray[np.floating]:
    given = recipe.behaviour
    if isinstance(given, VectorsFile):
        return read_vectors(given.path)
    if isinstance(given, SpectralVectors):
        return spectral_vectors(dataset, given.dims, given.seed)
    return NextItemRecommender.from_pretrained(home.output("behaviour")).item_vectors()


def make_index(config: IndexConfig, dataset: Dataset, vectors: Vectors) -> ItemIndex:
    """The items' codes; of both sources, those of behaviour alone where no item has text."""
    if config.source == "unit" and "semantic" not in vectors:
        log.warning("data set '%s': no item has text; the index is of behaviour alone", dataset.name)
        config = config.model_copy(update={"source": "behaviour"})
    return build_index(dataset.items, config, vectors.get("semantic"), vectors.get("behaviour"))
