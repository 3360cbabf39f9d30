"""Losses against direct formulas, and the lazy Adam against torch's two."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from forwhy.graph.bipartite import Bipartite
from forwhy.vocabulary.network import (
    LazyAdam,
    MaskedIntents,
    TokenizerNetwork,
    draw_mask,
    info_nce,
    reconstruction_rmse,
    reconstruction_softmax,
)
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.phrases import PhraseBook


def test_info_nce_equals_equation_6() -> None:
    text, words = torch.randn(5, 3), torch.randn(5, 3)
    cosines = torch.cosine_similarity(text[:, None], words[None], dim=2)
    exps = cosines.exp()
    expected = -(exps.diagonal() / exps.sum(1)).log()
    torch.testing.assert_close(info_nce(text, words, 1.0, "sum"), expected.sum())
    torch.testing.assert_close(info_nce(text, words, 1.0), expected.mean())


def test_rmse_equals_equation_5() -> None:
    positive, negative = torch.tensor([0.5, 1.0]), torch.tensor([0.0, 0.2])
    expected = np.sqrt((0.25 + 0 + 0 + 0.04) / 4)
    np.testing.assert_allclose(float(reconstruction_rmse(positive, negative, False)), expected, rtol=1e-6)


def test_min_max_scaling_survives_equal_scores() -> None:
    same = torch.ones(3, requires_grad=True)
    loss = reconstruction_rmse(same, same, True)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(same.grad).all()


def test_in_batch_softmax_is_the_corrected_cross_entropy() -> None:
    q_users, q_items = torch.randn(4, 3), torch.randn(4, 3)
    items, frequency = torch.tensor([7, 3, 7, 1]), torch.tensor([0.5, 0.1, 0.5, 0.2]).log()
    scores = 2.0 * q_users @ q_items.T - frequency
    expected = []
    for row in range(4):
        others = [column for column in range(4) if column == row or items[column] != items[row]]
        expected.append(torch.logsumexp(scores[row, others], 0) - scores[row, row])
    loss = reconstruction_softmax(q_users, q_items, items, frequency, torch.tensor(2.0))
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def test_masks_hide_present_phrases_only_at_random_places() -> None:
    torch.manual_seed(0)
    present = torch.tensor([[True] * 10, [True] * 3 + [False] * 7]).repeat(50, 1)
    masks = torch.stack([draw_mask(present, 0.2) for _ in range(20)])
    assert not (masks & ~present).any()
    assert (masks[:, ::2].sum(2) == 2).all()
    assert (masks[:, 1::2].sum(2) == 1).all()
    assert masks[:, 0].any(0).sum() >= 9  # not always the same place


def test_micro_supervision_reads_the_words_and_trains_its_mask() -> None:
    torch.manual_seed(0)
    module = MaskedIntents(8, 0.3)
    words = torch.randn(6, 5, 8, requires_grad=True)
    module(words, torch.randn(6, 4, 8), torch.ones(6, 4, dtype=torch.bool)).backward()
    assert float(words.grad.abs().sum()) > 0
    assert float(module.mask_token.grad.abs().sum()) > 0


def test_the_released_codes_distance_is_less_by_the_width() -> None:
    words, intents, present = torch.randn(6, 5, 8), torch.randn(6, 4, 8), torch.ones(6, 4, dtype=torch.bool)
    found = []
    for distance in ("sum", "mean"):
        torch.manual_seed(0)
        found.append(float(MaskedIntents(8, 0.3, distance)(words, intents, present).detach()))
    assert found[0] == pytest.approx(8 * found[1])


@pytest.mark.parametrize("sparse", [True, False])
def test_the_lazy_adam_equals_torchs(sparse: bool) -> None:
    start = torch.randn(9, 3)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    reference = torch.optim.SparseAdam if sparse else torch.optim.Adam
    optimizers = LazyAdam([ours], lr=0.1), reference([theirs], lr=0.1)
    for step in range(6):
        rows = torch.tensor([step, 2, 2, 7])
        for table, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (
                F.embedding(rows, table, sparse=sparse) * torch.arange(12.0).view(4, 3)
            ).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_untouched_rows_stay() -> None:
    table = torch.nn.Parameter(torch.randn(5, 2))
    before = table.detach().clone()
    optimizer = LazyAdam([table], lr=0.1)
    for rows in ([1, 3], [3, 3]):
        optimizer.zero_grad()
        F.embedding(torch.tensor(rows), table, sparse=True).sum().backward()
        optimizer.step()
    assert (table.detach() != before).any(1).tolist() == [False, True, False, True, False]


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_a_scale_is_found_on_more_edges_than_float32_can_count() -> None:
    edges = np.array([[0, 0], [0, 1], [1, 1], [2, 0], [2, 2]])
    none = np.full((3, 12), -1, np.int64)
    book = PhraseBook((), np.zeros((0, 384), np.float32), {"user": none, "item": none})
    config = TokenizerConfig(text_weight=0.0, codes=2)
    network = TokenizerNetwork(Bipartite(edges, 3, 3), config, book)
    network._start_scale(np.broadcast_to(edges[:1], (2**24 + 4, 2)))
    assert torch.isfinite(network.log_scale)
