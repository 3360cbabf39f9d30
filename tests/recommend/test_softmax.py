"""The chunked cross-entropy equals torch's, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from forwhy.recommend import softmax
from forwhy.recommend.softmax import catalogue_cross_entropy, sampled_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_equals_torch(smoothing: float, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "CHUNK_LOGITS", chunk)
    monkeypatch.setattr(softmax, "LEAST_ROWS", 1)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 30, (17,), generator=generator)
    gradients = []
    losses = []
    for ours in (True, False):
        states = torch.randn(
            17, 5, generator=generator.manual_seed(1), dtype=torch.float64, requires_grad=True
        )
        table = torch.randn(
            30, 5, generator=generator.manual_seed(2), dtype=torch.float64, requires_grad=True
        )
        if ours:
            loss = catalogue_cross_entropy(states, table, targets, smoothing)
        else:
            loss = F.cross_entropy(states @ table.T, targets, label_smoothing=smoothing)
        (3 * loss).backward()
        losses.append(loss.detach())
        gradients += [(states.grad, table.grad)]
    torch.testing.assert_close(losses[0], losses[1])
    torch.testing.assert_close(gradients[0][0], gradients[1][0])
    torch.testing.assert_close(gradients[0][1], gradients[1][1])


def test_large_logits_stay_finite() -> None:
    states = torch.full((2, 3), 1e4, requires_grad=True)
    table = torch.eye(3)
    loss = catalogue_cross_entropy(states * table[:2], table, torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(5e3)
    loss.backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()


def test_under_autocast_products_alone_are_rounded() -> None:
    """Against the same in float64, with more items than bfloat16 can count."""
    draws = torch.Generator().manual_seed(0)
    states, table = torch.randn(40, 16, generator=draws), torch.randn(3_000, 16, generator=draws) / 4
    targets = torch.randint(0, 3_000, (40,), generator=draws)
    gradients, losses = [], []
    for wide in (True, False):
        leaves = [it.double() if wide else it.clone() for it in (states, table)]
        for leaf in leaves:
            leaf.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=not wide):
            loss = catalogue_cross_entropy(*leaves, targets, 0.1)
        loss.backward()
        losses.append(loss.item())
        gradients.append([leaf.grad for leaf in leaves])
    assert loss.dtype == torch.float32
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1] != losses[0]
    for exact, rounded in zip(*gradients, strict=True):
        assert exact is not None
        assert rounded is not None
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.01 * exact.norm()


def _drawn(items: int, width: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(3)
    states = torch.randn(6, width, generator=draws, dtype=torch.float64)
    table = torch.randn(items, width, generator=draws, dtype=torch.float64)
    return states, table, torch.tensor([4, 1, 4, 0, items - 1, 7])


@pytest.mark.parametrize("negatives", [0, 15, 16, 1000])
def test_no_negatives_and_all_there_are_are_the_whole_catalogue(negatives: int) -> None:
    states, table, targets = _drawn(20)  # five are targets
    whole = catalogue_cross_entropy(states, table, targets, 0.1)
    assert sampled_cross_entropy(states, table, targets, negatives, 0.1).item() == pytest.approx(whole.item())


@pytest.mark.parametrize("negatives", [1, 3, 14])
def test_a_part_stands_for_the_whole_exactly_where_the_others_are_alike(negatives: int) -> None:
    """So no target is drawn again, none is left out, and the weight is right, whatever is drawn."""
    states, table, targets = _drawn(20)
    others = torch.tensor([item for item in range(20) if item not in targets.tolist()])
    table[others] = table[others[0]].clone()
    leaves = [it.clone().requires_grad_() for it in (states, table, states, table)]
    whole = catalogue_cross_entropy(*leaves[:2], targets)
    part = sampled_cross_entropy(*leaves[2:], targets, negatives)
    whole.backward(), part.backward()
    assert part.item() == pytest.approx(whole.item())
    torch.testing.assert_close(leaves[2].grad, leaves[0].grad)
    torch.testing.assert_close(leaves[3].grad[targets], leaves[1].grad[targets])
    torch.testing.assert_close(leaves[3].grad[others].sum(0), leaves[1].grad[others].sum(0))


def test_the_sum_over_the_catalogue_is_right_on_average() -> None:
    states, table, targets = (it[:1] if n != 1 else it for n, it in enumerate(_drawn(60, width=4)))
    torch.manual_seed(0)
    own = (states @ table[targets[0]]).item()
    sums = [sampled_cross_entropy(states, table, targets, 20).add(own).exp() for _ in range(3000)]
    assert torch.stack(sums).mean().item() == pytest.approx((states @ table.T).exp().sum().item(), rel=0.02)
