"""Rank of the right text: exact cases, chance, and a brute force."""

import numpy as np
import pytest

from forwhy.evaluate.gain import chance, text_ranks, text_retrieval

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
