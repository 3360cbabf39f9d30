"""Rank of the right text, and what follows from words: exact cases, chance, and a brute force."""

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import make_dataset
from forwhy.evaluate.gain import chance, explained_variance, text_ranks, text_retrieval
from forwhy.text.encoder import HashEncoder

generator = np.random.default_rng(0)


def test_ranks_equal_sorting_by_cosine() -> None:
    queries, texts = generator.normal(size=(30, 5)), generator.normal(size=(30, 5))
    cosine = queries @ texts.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(texts, axis=1)
    expected = [1 + int((row > row[k]).sum()) for k, row in enumerate(cosine)]
    assert text_ranks(queries, texts).tolist() == expected


def test_right_vectors_rank_first_and_equal_texts_count_against_us() -> None:
    texts = np.eye(4)
    assert text_ranks(3 * texts, texts).tolist() == [1, 1, 1, 1]
    texts[1] = texts[0]
    assert text_ranks(texts, texts).tolist() == [2, 2, 1, 1]
    assert text_ranks(np.zeros((4, 4)), texts).tolist() == [4, 4, 4, 4]


def test_random_queries_reach_chance() -> None:
    found = text_retrieval(generator.normal(size=(1500, 8)), generator.normal(size=(1500, 8)))
    for name in ("median_rank", "mrr", "hit@10"):
        low, high = found["intervals"][name]
        assert low <= found[name] <= high
    assert found["median_rank"] == pytest.approx(found["chance"]["median_rank"], rel=0.1)
    assert found["mrr"] == pytest.approx(found["chance"]["mrr"], rel=0.5)  # a few lucky ranks make it


def test_chance_is_the_mean_over_all_ranks() -> None:
    ranks = np.arange(1, 41)
    assert chance(40) == pytest.approx({"median_rank": 20.5, "mrr": (1 / ranks).mean(), "hit@10": 0.25})
    assert chance(3)["hit@10"] == 1


def test_bad_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="must both be"):
        text_ranks(np.eye(3), np.eye(4))
    with pytest.raises(ValueError, match="not finite"):
        text_ranks(np.full((2, 2), np.nan), np.eye(2))


# --- how much of what is said follows from the words


def explained(said_of: str) -> dict:
    """Texts name one word of the item, as hashed vectors; what the words say is right of one side alone."""
    rng, encoder = np.random.default_rng(1), HashEncoder(32)
    kinds = ["tea", "cake", "jazz", "views", "books"]
    pairs = [(user, item) for user in range(60) for item in rng.permutation(40)[:6].tolist()]
    splits = ["test" if row % 6 == 0 else "train" for row in range(len(pairs))]
    users, items = zip(*pairs, strict=True)
    texts = [f"it has {kinds[item % 5]}" for item in items]
    visits = pl.DataFrame({"user_id": users, "item_id": items, "split": "train"})
    titles = [f"House of {kinds[item % 5]}" for item in range(40)]
    told = pl.DataFrame({"user_id": users, "item_id": items, "text": texts, "split": splits})
    tables = {"interactions": visits, "explanations": told}
    tables["items"] = pl.DataFrame({"item_id": list(range(40)), "title": titles})
    counts = {"user": 60, "item": 40}
    said = {side: rng.standard_normal((count, 5)).astype(np.float32) for side, count in counts.items()}
    said[said_of] = np.eye(5, dtype=np.float32)[np.arange(counts[said_of]) % 5]
    found = explained_variance(make_dataset("small", tables), said, encoder)
    assert found is not None
    return found


def test_words_that_say_it_explain_it_and_dealt_ones_do_not() -> None:
    found = explained("item")
    assert found["item"] > 0.95
    assert found["both"] > 0.8
    assert found["user"] < 0.1
    assert found["controls"]["title"]["item"] > 0.9
    assert found["controls"]["shuffled"]["both"] < 0.1
    assert "profile" not in found["controls"]
    low, high = found["intervals"]["item"]
    assert low <= found["item"] <= high
    assert found["pairs"] == 60


def test_words_of_the_wrong_side_explain_nothing() -> None:
    assert explained("user")["item"] < 0.3


def test_without_explanations_nothing_is_explained() -> None:
    visits = pl.DataFrame({"user_id": [1, 2], "item_id": [1, 1], "split": "train"})
    assert explained_variance(make_dataset("bare", {"interactions": visits}), {}, HashEncoder()) is None
