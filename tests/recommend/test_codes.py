"""The coded catalogue against the plain product: exact where it looks at everything, near it where it looks at some."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.recommend.codes import CodedCatalogue
from forwhy.testing import artifact_laws, forge
from forwhy.vocabulary.clusters import Floats, Ints, Vectors


def clustered(items: int, dims: int, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    centres = random.standard_normal((20, dims), np.float32)
    return centres[random.integers(0, 20, items)] + 0.4 * random.standard_normal((items, dims), np.float32)


def exact(vectors: Vectors, queries: Vectors, k: int) -> tuple[Floats, Ints]:
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


VECTORS, QUERIES = clustered(3000, 12), clustered(20, 12, seed=1)


@pytest.fixture(scope="module")
def coded() -> CodedCatalogue:
    return CodedCatalogue.fit(VECTORS, cells=40, size=4)


@pytest.mark.parametrize("dims", [1, 3, 12, 17])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_all_cells_and_all_items_are_the_exact_list(dims: int, kind: type) -> None:
    vectors = clustered(700, dims).astype(kind)
    vectors[100:200] = vectors[:100]  # ties, which the number decides
    vectors[300:400] = 0
    queries = clustered(5, dims, seed=1)
    found = CodedCatalogue.fit(vectors, cells=9, size=4).search(queries, 650, rerank=700)
    for ours, right in zip(found, exact(vectors, queries, 650), strict=True):
        np.testing.assert_array_equal(ours, right)


def test_recall_grows_with_what_is_looked_at(coded: CodedCatalogue) -> None:
    _, right = exact(VECTORS, QUERIES, 50)

    def recall(probes: int, rerank: int) -> float:
        _, items = coded.search(QUERIES, 50, probes, rerank)
        return np.mean([len(np.intersect1d(*pair)) / 50 for pair in zip(items, right, strict=True)])

    by_probes = [recall(probes, 3000) for probes in (1, 2, 4, 8, 16, 40)]
    assert by_probes == sorted(by_probes)
    assert by_probes[0] < 0.9 < by_probes[3]
    assert by_probes[-1] == 1
    by_rerank = [recall(40, rerank) for rerank in (50, 100, 400, 3000)]
    assert by_rerank == sorted(by_rerank)
    assert by_rerank[0] < 0.9 < by_rerank[2]


def test_a_batch_is_its_queries_and_scores_are_the_products(coded: CodedCatalogue) -> None:
    scores, items = coded.search(QUERIES, 10, probes=5, rerank=100)
    for row, query in enumerate(QUERIES):
        alone = coded.search(query[None], 10, probes=5, rerank=100)
        np.testing.assert_array_equal(alone[0][0], scores[row])
        np.testing.assert_array_equal(alone[1][0], items[row])
        products = VECTORS[items[row]].astype(np.float64) @ query.astype(np.float64)
        np.testing.assert_array_equal(products.astype(np.float32), scores[row])


def test_chunks_do_not_show(coded: CodedCatalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = coded.search(QUERIES, 20, probes=30, rerank=60)
    monkeypatch.setattr("forwhy.recommend.codes.CHUNK", 100)
    for ours, right in zip(coded.search(QUERIES, 20, probes=30, rerank=60), whole, strict=True):
        np.testing.assert_array_equal(ours, right)


@pytest.mark.parametrize(
    "vectors", [np.ones((1, 3)), np.zeros((5, 3)), np.ones((6, 2), np.float16), np.eye(4)]
)
def test_few_equal_and_empty_vectors_and_lists_that_end(vectors: NDArray[np.floating]) -> None:
    scores, items = CodedCatalogue.fit(vectors).search(np.ones((2, vectors.shape[1])), k=8, probes=9)
    n = len(vectors)
    assert items.tolist() == [[*range(n), *[-1] * (8 - n)]] * 2
    assert scores[:, :n].tolist() == [vectors.sum(1).tolist()] * 2
    assert (scores[:, n:] == -np.inf).all()


def test_the_same_seed_gives_the_same_codes(coded: CodedCatalogue) -> None:
    again = CodedCatalogue.fit(VECTORS, cells=40, size=4).content().tensors
    for name, array in coded.content().tensors.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_memory_map_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held beside the codes does not grow with the items."""
    monkeypatch.setattr("forwhy.recommend.codes.SAMPLE", 2000)

    def peak(items: int) -> int:
        np.save(tmp_path / "vectors.npy", clustered(items, 64))
        vectors = np.load(tmp_path / "vectors.npy", mmap_mode="r")
        tracemalloc.start()
        CodedCatalogue.fit(vectors, cells=16, size=8)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small, large = peak(5000), peak(40_000)
    assert large - small < 35_000 * 40  # codes twice, cells, orders; vectors would be 256 bytes each


def test_saved_and_loaded_is_the_same(coded: CodedCatalogue, tmp_path: Path) -> None:
    coded.save_pretrained(tmp_path / "kept")
    again = CodedCatalogue.from_pretrained(tmp_path / "kept", vectors=VECTORS)
    for ours, right in zip(again.search(QUERIES, 20, 9, 50), coded.search(QUERIES, 20, 9, 50), strict=True):
        np.testing.assert_array_equal(ours, right)
    assert repr(again) == "<CodedCatalogue: 3,000 items, 40 cells, 4 bytes each>"
    bare = CodedCatalogue.from_pretrained(tmp_path / "kept")
    scores, items = bare.search(QUERIES, 20)
    assert (np.diff(scores) <= 0).all()
    assert len(np.intersect1d(items, exact(VECTORS, QUERIES, 20)[1])) > 200
    with pytest.raises(UserError, match="not those that were coded"):
        CodedCatalogue.from_pretrained(tmp_path / "kept", vectors=VECTORS + 1)


def test_artifact_laws(coded: CodedCatalogue, tmp_path: Path) -> None:
    artifact_laws(lambda: coded, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"order_I": np.full(3000, 3000, np.int32)},
        {"starts": np.arange(41)},
        {"starts": np.linspace(0, 3000, 41)},
        {"pairs_PI": np.zeros((2, 2999), np.uint16)},
        {"pairs_PI": np.full((2, 3000), 1 << 16, np.int32)},
    ],
)
def test_arrays_that_do_not_fit_are_refused(coded: CodedCatalogue, wrong: dict, tmp_path: Path) -> None:
    replace(coded, **wrong).save_pretrained(tmp_path / "kept")
    forge(tmp_path / "kept")
    with pytest.raises(UserError, match="holds no coded-catalogue that fits together"):
        CodedCatalogue.from_pretrained(tmp_path / "kept")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_vectors_that_are_not_finite_are_refused(value: float) -> None:
    vectors = VECTORS.astype(np.float64)
    vectors[2500, 3] = value
    with pytest.raises(UserError, match=r"row 2500 \(from 0\) holds NaN or infinity"):
        CodedCatalogue.fit(vectors, cells=4)


@pytest.mark.parametrize(
    "vectors", [np.zeros((0, 3)), np.zeros(3), np.zeros((3, 0)), np.ones((3, 3), np.int64)]
)
def test_what_is_no_table_is_refused(vectors: Vectors) -> None:
    with pytest.raises(UserError, match="not a table of floats"):
        CodedCatalogue.fit(vectors)


def test_options_and_queries_out_of_range_are_refused(coded: CodedCatalogue) -> None:
    for options in ({"size": 3}, {"size": 0}, {"cells": 0}):
        with pytest.raises(UserError, match="give an even number of bytes"):
            CodedCatalogue.fit(VECTORS, **options)
    for queries in (np.ones(12), np.ones((2, 11)), np.full((1, 12), np.nan)):
        with pytest.raises(UserError, match="give rows of 12 finite numbers"):
            coded.search(queries)
    for asked in ({"k": 0}, {"probes": 0}):
        with pytest.raises(UserError, match="at least one item of one cell"):
            coded.search(QUERIES, **asked)
    scores, items = coded.search(np.empty((0, 12)))
    assert scores.shape == items.shape == (0, 100)
