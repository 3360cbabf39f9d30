"""Content-kNN: what is like the items of a history by what is said of it. Nothing is trained; no torch.

Shapes: B people, I items, E width of a text's vector, T terms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from scipy import sparse

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.data.dataset import Dataset
from forwhy.data.histories import WINDOW, Catalogue, Histories, Sequences
from forwhy.errors import UserError
from forwhy.options import Options
from forwhy.recommend.base import Recommender, Scores
from forwhy.systems import EncoderConfig, Run, Stage
from forwhy.systems.item_knn import later_weigh_more, packed, unpacked
from forwhy.systems.next_item import NextItemSystem
from forwhy.text.encoder import text_encoder, unit


class ContentConfig(Options):
    """Content-kNN: neighbours by what is said of them. Chosen on Beauty's validation items (docs/log.md)."""

    decay: float = Field(default=0.6, gt=0.0, le=1.0)
    """Weight of an item of the history against the one after it; 1: all count alike."""
    terms: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of an item's vector that is its attribute terms, the rest being its text; all of it where there is only
    one of them."""
    temperature: PositiveFloat = 0.05
    """What cosines are divided by to become logarithms of probabilities."""
    window: PositiveInt = WINDOW
    """Items of a history that are read, the latest ones."""


class ContentVectors:
    """[I, E + T] unit vectors of items: of their text beside rare terms; zeros where nothing is said."""

    def __init__(self, text_IE: NDArray[np.float32], terms_IT: Any) -> None:  # noqa: ANN401 - scipy has no types
        """`terms_IT`: CSR. Rows of both together have norm 1 or 0."""
        self.text_IE, self.terms_IT = text_IE, terms_IT
        self._terms_TI = terms_IT.T.tocsr()

    @classmethod
    def of(cls, dataset: Dataset, encoder: str, share: float) -> ContentVectors:
        """Read off a data set; a UserError where no item has a text or a term."""
        texts, terms = dataset.item_texts(), dataset.item_attributes()
        if not any(map(str.strip, texts)) and not any(terms):
            raise UserError(f"data set '{dataset.name}': no item has any text; use item-knn or sasrec")
        text_IE, terms_IT = unit(text_encoder(encoder).encode(texts)), rare_terms(terms)
        # Weights whose squares are shares, so that cosines are mixed by share.
        told_I = np.stack([text_IE.any(1), np.diff(terms_IT.indptr) > 0]).astype(np.float64)
        weights_I = told_I * np.array([[1 - share], [share]])
        left, right = np.sqrt(weights_I / np.maximum(weights_I.sum(0), 1e-9))
        return cls(
            (text_IE * left[:, None]).astype(np.float32),
            (sparse.diags(right) @ terms_IT).astype(np.float32).tocsr(),
        )

    def wanted(self, weights_BI: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """[B, I] cosine of every item to a weighted sum (CSR) of items."""
        # One type throughout: to widen a table costs more than to multiply it.
        weights_BI = weights_BI.astype(np.float32)
        text_BE, terms_BT = weights_BI @ self.text_IE, weights_BI @ self.terms_IT
        norms_B = np.sqrt((text_BE**2).sum(1) + np.asarray(terms_BT.multiply(terms_BT).sum(1)).ravel())
        products_BI = text_BE @ self.text_IE.T + (terms_BT @ self._terms_TI).toarray()
        # Rounded, so that equal items tie however many people are asked for.
        return np.asarray(np.round(products_BI / np.maximum(norms_B, 1e-9)[:, None], 5), np.float32)


def rare_terms(terms: list[list[str]]) -> Any:  # noqa: ANN401
    """[I, T] CSR of norm 1: terms weigh log(I / items that have them); rows without a term, or one that all have, 0."""
    folded = [sorted({term.casefold() for term in each}) for each in terms]
    counts = Counter(term for each in folded for term in each)
    columns = {term: column for column, term in enumerate(sorted(counts))}
    rows = np.repeat(np.arange(len(folded)), [len(each) for each in folded])
    cells = np.array([columns[term] for each in folded for term in each], dtype=np.int64)
    values = np.array(
        [np.log(len(terms) / counts[term]) for each in folded for term in each], dtype=np.float64
    )
    norms = np.sqrt(np.bincount(rows, values**2, len(terms)))
    kept = values > 0
    table = (values[kept] / norms[rows[kept]], (rows[kept], cells[kept]))
    return sparse.csr_matrix(table, shape=(len(terms), max(1, len(columns))))


class ContentKnnRecommender(Recommender, Saved):
    """Score of an item: its cosine to the history's vectors, later ones weighing more, over a temperature.

    Serves new items like old ones, as long as something is said of them. Memory O(I·(E + terms of an item)); cost
    O(I·E) per person.
    """

    kind: ClassVar[str] = "content-knn"

    def __init__(
        self, catalogue: Catalogue, vectors: ContentVectors, config: ContentConfig | None = None
    ) -> None:
        super().__init__(catalogue)
        self.config, self.vectors = config or ContentConfig(), vectors
        self.window = self.config.window

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        sequences: Sequences,
        config: ContentConfig | None = None,
        encoder: str = "minilm",
    ) -> ContentKnnRecommender:
        """Encode what is said of the items (cached), and learn what taking again is worth."""
        config = config or ContentConfig()
        vectors = ContentVectors.of(dataset, encoder, config.terms)
        return cls(Catalogue.of(dataset, sequences.train), vectors, config).learn_repeats(sequences)

    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] cosines over the temperature, and `repeat_gain` more where the history holds the item."""
        wanted = later_weigh_more(histories, len(self.catalogue.items), self.config.decay, self.config.window)
        return self._gained(self.vectors.wanted(wanted) / np.float32(self.config.temperature), histories)

    def content(self) -> Content:
        """Vectors, options, and what was taken in training."""
        text = f"The next of {len(self.catalogue.items):,} items from {self._read_and_loaded()}"
        config = {"options": self.config.model_dump(mode="json"), "repeat_gain": self.repeat_gain}
        tensors = (
            self.catalogue.tensors() | packed("terms", self.vectors.terms_IT) | {"text": self.vectors.text_IE}
        )
        return Content(config, tensors, self.catalogue.tables(), card("content-knn", text, {}, "sequential"))

    @classmethod
    def restore(cls, stored: Artifact, **_: Any) -> ContentKnnRecommender:  # noqa: ANN401
        """Make it again without encoding."""
        vectors = ContentVectors(stored.tensors["text"], unpacked("terms", stored))
        found = cls(Catalogue.read(stored), vectors, ContentConfig.model_validate(stored.config["options"]))
        found.repeat_gain = float(stored.config["repeat_gain"])
        return found


class ContentKnn(NextItemSystem):
    """The control of every text-based row: neighbours of the history's items by what is said of them."""

    system: Literal["content-knn"] = "content-knn"
    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    recommender: ContentConfig = Field(default_factory=ContentConfig)
    stages: ClassVar[tuple[Stage, ...]] = (Stage("evaluation", ("encoder", "recommender", "evaluation")),)

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """The encoder."""
        return {"encoder.name": partial(text_encoder, self.encoder.name)}

    def load_recommender(self, run: Run) -> ContentKnnRecommender:
        """Read again from the data set; vectors of texts are cached."""
        dataset = run.dataset()
        sequences = Sequences.from_dataset(dataset, self.data.graph)
        return ContentKnnRecommender.fit(dataset, sequences, self.recommender, self.encoder.name)
