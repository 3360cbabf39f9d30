"""The RQ-VAE learns what its vectors hold, level by level, and its codes make a whole index."""

import numpy as np
import pytest
import torch

from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.vocabulary.indices import IndexConfig, build_index
from forwhy.vocabulary.indices.rqvae import RqVae, RqVaeConfig, rqvae_codes

RANDOM = np.random.default_rng(0)
GROUP = RANDOM.integers(0, 8, 400)
VECTORS = (3 * RANDOM.standard_normal((8, 12))[GROUP] + 0.3 * RANDOM.standard_normal((400, 12))).astype(
    np.float32
)
CONFIG = RqVaeConfig(width=16, depth=3, hidden=(32,), code_dim=8, epochs=15, batch_size=100)


def test_same_seed_same_codes_and_other_generators_are_left_alone() -> None:
    before = torch.random.get_rng_state()
    codes = rqvae_codes(VECTORS, CONFIG)
    assert torch.equal(before, torch.random.get_rng_state())
    assert codes.shape == (400, 3)
    assert codes.max() < 16
    assert np.array_equal(codes, rqvae_codes(VECTORS, CONFIG))
    assert not np.array_equal(codes, rqvae_codes(VECTORS, CONFIG.model_copy(update={"seed": 1})))


def test_first_codes_tell_the_groups_apart_and_books_stay_alive() -> None:
    codes = rqvae_codes(VECTORS, CONFIG)
    owners = [np.bincount(GROUP[codes[:, 0] == code], minlength=8) for code in np.unique(codes[:, 0])]
    assert sum(count.max() for count in owners) > 380
    assert all(len(np.unique(codes[:, level])) >= 8 for level in range(3))


def test_every_level_lessens_what_is_left() -> None:
    torch.manual_seed(0)
    model = RqVae(12, CONFIG, restart_after=4)
    x = torch.from_numpy(VECTORS)
    model.start_codebooks(x, torch.Generator().manual_seed(0))
    codes, left = model.codes(x), model.encoder(x).detach()
    sizes = [float(left.square().mean())]
    for book, code in zip(model.books, codes.T, strict=True):
        assert torch.equal(code, torch.cdist(left, book.codebook).argmin(1))
        left = left - book.codebook[code]
        sizes.append(float(left.square().mean()))
    assert sizes == sorted(sizes, reverse=True)


def test_straight_through_reaches_the_encoder() -> None:
    model = RqVae(12, CONFIG, restart_after=4)
    model(torch.from_numpy(VECTORS)).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in model.parameters())


def test_colliding_codes_get_one_more_level() -> None:
    twice = np.repeat(VECTORS[:50], 2, axis=0)
    config = IndexConfig(source="semantic", method="rqvae", width=8, depth=2, epochs=2)
    index = build_index(Ids(tuple(range(100))), config, twice)
    assert index.sources == ("semantic", "semantic", "extra")
    assert index.sizes[:2] == (8, 8)
    assert np.array_equal(index.codes[::2, :2], index.codes[1::2, :2])
    assert index.metrics["collision_items"] == 100


def test_one_item_is_enough_and_bad_vectors_are_refused() -> None:
    assert rqvae_codes(VECTORS[:1], CONFIG.model_copy(update={"epochs": 1})).shape == (1, 3)
    with pytest.raises(UserError, match="semantic vectors: row 0"):
        rqvae_codes(np.full((2, 3), np.nan), CONFIG, "semantic vectors")
