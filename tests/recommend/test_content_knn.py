"""Content-kNN against cosines written out."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Catalogue, Histories, Sequences
from forwhy.errors import UserError
from forwhy.systems.content_knn import ContentConfig, ContentKnnRecommender, ContentVectors, rare_terms
from forwhy.testing import artifact_laws, recommender_laws
from forwhy.text.encoder import HashEncoder

from .conftest import dataset, ring

FACTS = {
    "title": ["red lamp", "red rug", "", "green boat", ""],
    "categories": ["Light, Home", "home", "Light", "", ""],
}


def shop() -> Dataset:
    """Five things: of the third there are terms alone, of the fourth a title, of the last nothing."""
    tables = dict(dataset(ring(30, 5, 5)).tables)
    tables["items"] = pl.DataFrame({"item_id": [f"i{item:02}" for item in range(5)], **FACTS})
    return make_dataset("shop", tables, duplicates="keep")


def test_terms_weigh_by_how_rare_they_are() -> None:
    found = rare_terms([["A", "b"], ["a"], ["a", "c", "C"], []]).toarray()
    assert found.shape == (4, 3)
    a, b = np.log(4 / 3), np.log(4)
    np.testing.assert_allclose(found[0], np.array([a, b, 0]) / np.hypot(a, b))
    np.testing.assert_allclose(found[1:], [[1, 0, 0], [a / np.hypot(a, b), 0, b / np.hypot(a, b)], [0, 0, 0]])
    assert not rare_terms([["x"], ["x"]]).toarray().any(), "what all have tells nothing apart"


def test_scores_are_cosines_to_the_sum_of_the_history() -> None:
    """Text and terms of each item mixed by share; what an item lacks leaves all to the other."""
    data, config = shop(), ContentConfig(decay=0.5, terms=0.3, temperature=0.1, window=3)
    texts = HashEncoder().encode(data.item_texts()).astype(np.float64)
    terms = rare_terms(data.item_attributes()).toarray()
    shares = np.array([[0.7, 0.3], [0.7, 0.3], [0.7, 0.3], [1.0, 0.0], [0.0, 0.0]])
    # A worded attribute stands in the text too.
    whole = np.hstack([np.sqrt(shares[:, :1]) * texts, np.sqrt(shares[:, 1:]) * terms])
    history = [0, 4, 2, 3]
    wanted = whole[3] + 0.5 * whole[2] + 0.25 * whole[4]
    vectors = ContentVectors.of(data, "hash", config.terms)
    recommender = ContentKnnRecommender(
        Catalogue.of(data, Sequences.from_dataset(data).train), vectors, config
    )
    found = recommender.scores_after(Histories.of([history, [], [4]]))
    np.testing.assert_allclose(found[0], whole @ wanted / np.linalg.norm(wanted) / 0.1, atol=1e-4)
    assert not found[1:].any(), "after nothing that anything is said of, all are alike"


def test_it_obeys_the_laws(tmp_path: Path) -> None:
    data = shop()
    recommender = ContentKnnRecommender.fit(data, Sequences.from_dataset(data), encoder="hash")
    train = Sequences.from_dataset(data).train
    users = list(data.users.values)[:8]
    seen = {user: {data.items.values[item] for item in train[row]} for row, user in enumerate(users)}
    recommender_laws(recommender, users, seen)
    artifact_laws(lambda: recommender, tmp_path)


def test_without_a_word_it_is_refused() -> None:
    with pytest.raises(UserError, match="no item has any text; use item-knn or sasrec"):
        ContentVectors.of(dataset(ring(9, 4, 4)), "hash", 0.5)
