"""Item-kNN: what people took together with the items of a history. No torch.

Shapes: B people, U users, I items, K neighbours of an item.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy import sparse

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.columns import Graph
from forwhy.data.because import Because, of_history
from forwhy.data.dataset import Dataset
from forwhy.data.histories import WINDOW, Catalogue, Histories, Sequences
from forwhy.options import Options
from forwhy.recommend.base import Ints, Recommender, Scores
from forwhy.systems import Run, Stage
from forwhy.systems.next_item import NextItemSystem

BLOCK_ITEMS = 1024
"""Items whose neighbours are sought at once: bounds the memory to this many rows of co-occurrence."""


class KnnConfig(Options):
    """Item-kNN: neighbours by cosine of co-occurrence."""

    neighbours: PositiveInt = 100
    """Most similar items kept of each item."""
    decay: float = Field(default=0.8, gt=0.0, le=1.0)
    """Weight of an item of the history against the one after it; 1: all count alike."""
    shrink: NonNegativeFloat = 0.0
    """Added to the denominator of the cosine, so that rare pairs count less."""
    window: PositiveInt = WINDOW
    """Items of a history that are read, the latest ones."""


class ItemKnnRecommender(Recommender, Saved):
    """Score of an item: the sum of its similarities to the history's items, later ones weighing more.

    similarity(i, j) = |U_i and U_j| / (sqrt(|U_i| |U_j|) + shrink), 0 to itself, where U_i are the users who took i in
    training; of each item j the K most similar i are kept. An item of age a counts decay^a.
    """

    kind: ClassVar[str] = "item-knn"
    counted: ClassVar[bool] = True

    def __init__(self, catalogue: Catalogue, config: KnnConfig | None = None, similar: Any = None) -> None:  # noqa: ANN401
        """Cost: the sum of squared lengths of distinct training histories, unless it is given; memory O(I·K)."""
        super().__init__(catalogue)
        self.config = config or KnnConfig()
        self.window = self.config.window
        if similar is None:
            similar = _similarities(catalogue.histories, len(catalogue.items), self.config)
        self._similar = similar

    @classmethod
    def fit(
        cls, dataset: Dataset, config: KnnConfig | None = None, graph: Graph = "leak-free"
    ) -> ItemKnnRecommender:
        """Count a data set's training interactions, and among validation items what is taken again."""
        sequences = Sequences.from_dataset(dataset, graph)
        return cls(Catalogue.of(dataset, sequences.train), config).learn_repeats(sequences)

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] sums of similarities; memory of the scores and O(window·K) per person."""
        wanted = later_weigh_more(histories, len(self.catalogue.items), self.config.decay, self.config.window)
        return self._gained(np.asarray((wanted @ self._similar).toarray(), dtype=np.float32), histories)

    def content(self) -> Content:
        """Similarities, options, and what was taken in training."""
        text = f"The next of {len(self.catalogue.items):,} items from {self._read_and_loaded()}"
        config = {"options": self.config.model_dump(mode="json"), "repeat_gain": self.repeat_gain}
        tensors = self.catalogue.tensors() | packed("similar", self._similar)
        return Content(config, tensors, self.catalogue.tables(), card("item-knn", text, {}, "sequential"))

    @classmethod
    def restore(cls, stored: Artifact, **_: Any) -> ItemKnnRecommender:  # noqa: ANN401
        """Make it again without counting."""
        catalogue, config = Catalogue.read(stored), KnnConfig.model_validate(stored.config["options"])
        found = cls(catalogue, config, unpacked("similar", stored))
        found.repeat_gain = float(stored.config["repeat_gain"])
        return found

    def _because(self, user: int | None, item: int, history: Ints) -> Because:
        recent = Histories.of([history]).last(self.config.window)
        taken, places = np.unique(recent.items, return_inverse=True)
        gain = np.exp(self.repeat_gain) if item in taken else 1.0
        weights = gain * np.bincount(places, self.config.decay**recent.ages)
        added = weights * self._similar[taken][:, [item]].toarray().ravel()
        return of_history("history", self.catalogue, taken.tolist(), added, float(added.sum()))


def later_weigh_more(histories: Histories, n_items: int, decay: float, window: int) -> Any:  # noqa: ANN401
    """[B, I] CSR: decay^age of each of the last `window` items; the sum where a history names an item twice."""
    recent = histories.last(window)
    cells = (decay**recent.ages, recent.items, recent.offsets)
    return sparse.csr_matrix(cells, shape=(len(recent), n_items))


def packed(name: str, matrix: Any) -> dict[str, NDArray[Any]]:  # noqa: ANN401
    """A CSR matrix as tensors of an artifact; `unpacked` reads them back."""
    parts = {"values": matrix.data, "columns": matrix.indices, "starts": matrix.indptr}
    return {f"{name}.{part}": it for part, it in (parts | {"shape": np.array(matrix.shape)}).items()}


def unpacked(name: str, stored: Artifact) -> Any:  # noqa: ANN401
    """The CSR matrix that `packed` made tensors of."""
    values, columns, starts, shape = (
        stored.tensors[f"{name}.{it}"] for it in ("values", "columns", "starts", "shape")
    )
    return sparse.csr_matrix((values, columns, starts), shape=tuple(shape.tolist()))


def _similarities(train: Histories, n_items: int, config: KnnConfig) -> Any:  # noqa: ANN401 - scipy has no types
    """[I, I] CSR: row j holds the similarities of j's K neighbours."""
    ones = np.ones(len(train.items))
    taken_UI = sparse.csr_matrix((ones, train.items, train.offsets), shape=(len(train), n_items))
    taken_UI.sum_duplicates()
    taken_UI.data[:] = 1.0
    by_item_IU = taken_UI.T.tocsr()
    roots_I = np.sqrt(np.diff(by_item_IU.indptr))
    blocks = []
    for start in range(0, n_items, BLOCK_ITEMS):
        both = (by_item_IU[start : start + BLOCK_ITEMS] @ taken_UI).tocoo()
        other = both.row + start != both.col
        rows, columns, counts = both.row[other], both.col[other], both.data[other]
        values = counts / (roots_I[rows + start] * roots_I[columns] + config.shrink)
        blocks.append(_nearest(rows, columns, values, (both.shape[0], n_items), config.neighbours))
    return sparse.vstack(blocks, format="csr")


def _nearest(rows: Any, columns: Any, values: Any, shape: tuple[int, int], neighbours: int) -> Any:  # noqa: ANN401
    """The largest values of each row; equal ones in catalogue order."""
    order = np.lexsort((columns, -values, rows))
    rows, columns, values = rows[order], columns[order], values[order]
    counts = np.bincount(rows, minlength=shape[0])
    near = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) < neighbours
    return sparse.csr_matrix((values[near], (rows[near], columns[near])), shape=shape)


class ItemKnn(NextItemSystem):
    """Neighbours of the history's items by cosine of co-occurrence."""

    system: Literal["item-knn"] = "item-knn"
    recommender: KnnConfig = Field(default_factory=KnnConfig)
    stages: ClassVar[tuple[Stage, ...]] = (Stage("evaluation", ("recommender", "evaluation")),)

    def load_recommender(self, run: Run) -> ItemKnnRecommender:
        """Counted again from the data set."""
        return ItemKnnRecommender.fit(run.dataset(), self.recommender, self.data.graph)
