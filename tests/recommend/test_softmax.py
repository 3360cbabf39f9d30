"""The chunked cross-entropy equals torch's, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from forwhy.recommend import softmax
from forwhy.recommend.softmax import catalogue_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_equals_torch(smoothing: float, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "CHUNK_LOGITS", chunk)
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
