"""The quantizer against brute force, an independent implementation, and its own laws."""

from itertools import permutations

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Ids
from forwhy.errors import UserError
from forwhy.vocabulary.clusters import even_codes
from forwhy.vocabulary.index import IndexConfig
from forwhy.vocabulary.indexing import build_index
from forwhy.vocabulary.quantizer import (
    Quantizer,
    RqVae,
    RqVaeConfig,
    collaborative_loss,
    diversity_loss,
    drawn_partners,
    kmeans,
    nearest,
    parted_codes,
    rqvae_codes,
)


def points(count: int = 200, dim: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_the_nearest() -> None:
    x, book = points(), points(9, seed=1)
    np.testing.assert_array_equal(nearest(x, book, block=7), torch.cdist(x, book).argmin(1))


def test_losses_and_codes_equal_the_reference_implementation() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    ours = Quantizer(16, 4, commitment=0.5)
    theirs = library.VectorQuantize(dim=4, codebook_size=16, commitment_weight=0.5)
    ours.codebook.copy_(points(16, seed=1))
    theirs._codebook.embed.data.copy_(points(16, seed=1)[None])
    theirs._codebook.initted.fill_(True)
    x = points()
    theirs.eval()
    out = ours.eval()(x)
    vectors, codes, _ = theirs(x)
    torch.testing.assert_close(out.vectors, vectors)
    assert (out.codes == codes).all()
    torch.testing.assert_close(out.loss, 0.5 * (x - vectors).square().mean())


def test_ema_follows_the_reference_implementation() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    ours = Quantizer(8, 4, decay=0.9)
    theirs = library.VectorQuantize(dim=4, codebook_size=8, decay=0.9, eps=1e-12, threshold_ema_dead_code=0)
    start = points(8, seed=1)
    ours.codebook.copy_(start)
    ours.sums.copy_(start)
    theirs._codebook.embed.data.copy_(start[None])
    theirs._codebook.embed_avg.data.copy_(start[None] * 25)
    theirs._codebook.cluster_size.data.fill_(25.0)
    theirs._codebook.initted.fill_(True)
    ours.train(), theirs.train()
    for seed in range(5):
        x = points(seed=seed + 5)
        ours(x), theirs(x)
    torch.testing.assert_close(ours.codebook, theirs._codebook.embed[0], atol=1e-4, rtol=1e-3)


def test_straight_through_copies_the_gradient() -> None:
    quantizer = Quantizer(8, 4)
    quantizer.codebook.copy_(points(8, seed=1))
    x, probe = points().requires_grad_(), points(seed=3)
    (quantizer(x).vectors * probe).sum().backward()
    torch.testing.assert_close(x.grad, probe)


def test_rotation_gives_the_codeword_and_a_rotated_gradient() -> None:
    quantizer = Quantizer(8, 4, estimator="rotation")
    quantizer.codebook.copy_(points(8, seed=1))
    x, probe = points().requires_grad_(), points(seed=3)
    out = quantizer.eval()(x)
    torch.testing.assert_close(out.vectors, quantizer.codebook[out.codes], atol=1e-4, rtol=1e-4)
    (out.vectors * probe).sum().backward()
    # A rotation keeps lengths; the scale is |codeword| / |x|.
    scale = quantizer.codebook[out.codes].norm(dim=1) / x.detach().norm(dim=1)
    torch.testing.assert_close(x.grad.norm(dim=1), probe.norm(dim=1) * scale, atol=1e-4, rtol=1e-4)


def test_gradient_codebooks_learn_from_their_loss() -> None:
    quantizer = Quantizer(4, 4, update="gradient")
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.05)
    x = points()
    before = float(quantizer(x).loss.detach())
    for _ in range(200):
        optimizer.zero_grad()
        quantizer(x).loss.backward()
        optimizer.step()
    assert float(quantizer(x).loss) < 0.7 * before


def test_told_not_to_learn_a_codebook_stays() -> None:
    quantizer = Quantizer(8, 4, restart_after=1)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(points(50), learn=False)
    for name, value in quantizer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_dead_codes_come_back() -> None:
    quantizer = Quantizer(16, 4, restart_after=3).train()
    quantizer.codebook.fill_(100.0)
    quantizer.codebook[0] = 0.0
    quantizer.sums.copy_(quantizer.codebook)
    for seed in range(8):
        out = quantizer(points(seed=seed))
    assert len(out.codes.unique()) > 8


def test_kmeans_finds_separated_groups() -> None:
    centres = torch.eye(4) * 20
    x = centres.repeat(30, 1) + points(120) * 0.1
    found = torch.cat([kmeans(x, 8, torch.Generator().manual_seed(seed)) for seed in range(3)])
    assert float(torch.cdist(centres, found).min(1).values.max()) < 0.5


def test_kmeans_with_fewer_points_than_codes() -> None:
    assert kmeans(points(3), 8, torch.Generator().manual_seed(0)).shape == (8, 4)


# --- The RQ-VAE learns what its vectors hold, level by level, and its codes make a whole index.


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
    assert not np.array_equal(codes, rqvae_codes(VECTORS, CONFIG._replace(seed=1)))


def test_first_codes_tell_the_groups_apart_and_books_stay_alive() -> None:
    codes = rqvae_codes(VECTORS, CONFIG)
    owners = [np.bincount(GROUP[codes[:, 0] == code], minlength=8) for code in np.unique(codes[:, 0])]
    assert sum(count.max() for count in owners) > 380
    assert all(len(np.unique(codes[:, level])) >= 8 for level in range(3))


def test_every_level_lessens_what_is_left() -> None:
    torch.manual_seed(0)
    model = RqVae(12, CONFIG, restart_after=4)
    x = torch.from_numpy(VECTORS)
    started = model.codes(x, start=torch.Generator().manual_seed(0))
    codes, left = model.codes(x), model.encoder(x).detach()
    assert torch.equal(started, codes)
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
    assert rqvae_codes(VECTORS[:1], CONFIG._replace(epochs=1)).shape == (1, 3)
    with pytest.raises(UserError, match="semantic vectors: row 0"):
        rqvae_codes(np.full((2, 3), np.nan), CONFIG, "semantic vectors")


def test_the_loss_is_of_the_decoded_sum_of_the_named_codewords() -> None:
    torch.manual_seed(0)
    model = RqVae(12, CONFIG, restart_after=4)
    x_ND = torch.randn(200, 12)
    codes_NL = model.codes(x_ND, start=torch.Generator().manual_seed(0))
    model.eval()
    with torch.no_grad():
        left_NM = model.encoder(x_ND)
        words = [book.codebook[codes] for book, codes in zip(model.books, codes_NL.T, strict=True)]
        expected = torch.nn.functional.mse_loss(model.decoder(sum(words)), x_ND)
        for word_NM in words:  # what each level quantises is what those above leave
            expected = expected + 0.25 * torch.nn.functional.mse_loss(left_NM, word_NM)
            left_NM = left_NM - word_NM
        torch.testing.assert_close(model(x_ND), expected)


# --- LC-Rec's uniform mapping and LETTER's terms.


def test_codewords_are_shared_out_evenly_and_near_ones_first() -> None:
    centres = np.eye(4, dtype=np.float32) * 5
    x = (centres[np.arange(42) % 4] + RANDOM.normal(size=(42, 4)) * 0.1).astype(np.float32)
    found = even_codes(x, centres, np.random.default_rng(0))
    assert sorted(np.bincount(found, minlength=4)) == [10, 10, 11, 11], (
        "columns hold N/K points, rows one centre"
    )
    assert (found == np.arange(42) % 4).all()
    crowd = even_codes(x[np.arange(42) % 4 == 0], centres, np.random.default_rng(0))
    assert sorted(np.bincount(crowd, minlength=4)) == [2, 3, 3, 3], "also where all are near one"


def test_shared_names_are_parted_at_the_least_cost() -> None:
    centres, x = RANDOM.normal(size=(4, 3)), RANDOM.normal(size=(7, 3))
    codes = np.array([[0, 1], [0, 1], [0, 2], [1, 3], [1, 0], [2, 2], [2, 2]])
    found = parted_codes(codes, x, centres)
    assert len(np.unique(found, axis=0)) == 7
    assert (found[3:5] == codes[3:5]).all(), "a group without collisions stays"
    far = ((x[:3, None] - centres) ** 2).sum(2)
    best = min(sum(far[row, code] for row, code in enumerate(way)) for way in permutations(range(4), 3))
    assert far[np.arange(3), found[:3, 1]].sum() == pytest.approx(best)
    crowd = np.zeros((5, 2), int)
    assert (parted_codes(crowd, x[:5], centres) == crowd).all(), "five items, four codewords"


def test_with_uniform_mapping_no_two_items_share_a_name() -> None:
    twice = np.repeat(VECTORS[:50], 2, axis=0)
    config = IndexConfig(source="semantic", method="uniform", width=32, depth=3, epochs=5)
    index = build_index(Ids(tuple(range(100))), config, twice)
    assert index.sizes == (32, 32, 32)
    assert "collision_items" not in index.metrics
    plain = build_index(Ids(tuple(range(100))), config.model_copy(update={"method": "rqvae"}), twice)
    assert plain.metrics["collision_items"] >= 100


def test_the_contrast_with_behaviour_in_closed_form() -> None:
    names, taken = points(3), points(3, seed=1)
    scores = (names @ taken.T).double().numpy()
    expected = -np.mean([scores[i, i] - np.log(np.exp(scores[i]).sum()) for i in range(3)])
    assert float(collaborative_loss(names, taken)) == pytest.approx(expected, rel=1e-5)
    same = torch.ones(5, 4)
    assert float(collaborative_loss(same, same)) == pytest.approx(np.log(5)), "nothing tells them apart"


def test_the_spread_of_codewords_in_closed_form() -> None:
    book, partners = points(5), torch.tensor([1, 0, 3, 4, 2])
    terms = []
    for code in (4, 0, 4):
        scores = {k: float(book[code] @ book[k]) for k in range(5) if k != code}
        terms.append(np.log(sum(map(np.exp, scores.values()))) - scores[int(partners[code])])
    found = diversity_loss(torch.tensor([4, 0, 4]), book, partners)
    assert float(found) == pytest.approx(np.mean(terms), rel=1e-4)


@pytest.mark.parametrize("width", [2, 3, 7, 40])
def test_a_codewords_partner_is_another_of_its_cluster(width: int) -> None:
    groups = torch.eye(4)[torch.arange(40) % 4] * 9 + points(40) * 0.1
    for seed in range(3):
        partners = drawn_partners(groups[:width], np.random.default_rng(seed))
        assert (partners != torch.arange(width)).all()
        assert sorted(partners.tolist()) == list(range(width)), "each is a partner once"
    if width == 40:  # ten clusters of four, inside the four groups of ten: mostly
        assert float((partners % 4 == torch.arange(40) % 4).float().mean()) > 0.7


def test_the_contrast_draws_names_to_what_behaviour_tells_apart() -> None:
    side = RANDOM.integers(0, 2, 400)
    x = np.column_stack([VECTORS, 0.4 * (2 * side - 1)])
    taken = np.column_stack([3.0 * (2 * side - 1), np.zeros(400)])
    config = CONFIG._replace(epochs=60, depth=1)
    told = []
    for weight in (0.0, 5.0):
        codes = rqvae_codes(x, config._replace(collaborative=weight), behaviour_NC=taken)[:, 0]
        told.append(sum(np.bincount(side[codes == code], minlength=2).max() for code in range(16)) / 400)
    assert told[1] > told[0] + 0.1


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("method", ["uniform", "letter"])
def test_a_few_items_get_names(method: str, count: int) -> None:
    config = IndexConfig.model_validate({"source": "semantic", "method": method, "width": 4, "epochs": 2})
    index = build_index(Ids(tuple(range(count))), config, VECTORS[:count], VECTORS[:count, :3])
    assert len(index) == count


def test_letter_needs_behaviour_and_a_fixed_source() -> None:
    config = IndexConfig(source="semantic", method="letter", epochs=1)
    with pytest.raises(UserError, match="needs behaviour vectors"):
        build_index(Ids(tuple(range(400))), config, VECTORS)
    for source, method in (("unit", "letter"), ("semantic", "spectral"), ("file", "uniform")):
        with pytest.raises(ValueError, match=f'method = "{method}"'):
            IndexConfig.model_validate(
                {"source": source, "method": method, "file": source == "file" and "x" or None}
            )
