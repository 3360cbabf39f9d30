"""Items that are taken together share their first codes."""

import numpy as np
import pytest

from forwhy.vocabulary import spectral
from forwhy.vocabulary.spectral import spectral_codes


def planted(blocks: int, size: int, people: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Who takes what, each person within one block but for one item in ten; and the block of every item."""
    random = np.random.default_rng(0)
    block_N = random.permutation(np.repeat(np.arange(blocks), size))
    rows = []
    for person in range(people * blocks):
        own = np.flatnonzero(block_N == person % blocks)
        rows += [(person, item) for item in random.choice(own, 6, replace=False)]
        rows += [(person, item) for item in random.choice(len(block_N), 1) if random.random() < 0.6]
    return np.unique(rows, axis=0), block_N


def test_planted_blocks_are_recovered() -> None:
    edges, block_N = planted(5, 20)
    codes = spectral_codes(edges, 100, width=5, depth=3, seed=1)
    owners = [np.bincount(block_N[codes[:, 0] == code], minlength=5) for code in range(5)]
    assert sum(count.max() for count in owners) >= 98
    assert len(np.unique(codes, axis=0)) == 100
    assert np.array_equal(codes, spectral_codes(edges, 100, width=5, depth=3, seed=1))


def test_sparse_and_full_eigenvectors_span_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    edges, block_N = planted(5, 20)
    monkeypatch.setattr(spectral, "DENSE", 10)
    codes = spectral_codes(edges, 100, width=5, depth=3, seed=1)
    owners = [np.bincount(block_N[codes[:, 0] == code], minlength=5) for code in range(5)]
    assert sum(count.max() for count in owners) >= 98


@pytest.mark.parametrize("items", [1, 2, 3, 30])
def test_items_that_nobody_takes_get_codes_too(items: int) -> None:
    for edges in (np.empty((0, 2), np.int64), np.array([[0, 0], [0, items - 1], [1, 0]])):
        codes = spectral_codes(edges, items, width=4, depth=3)
        assert len(np.unique(codes, axis=0)) == items
