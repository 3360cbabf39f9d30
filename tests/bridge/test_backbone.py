"""Linear layers in oneDNN's own layout."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from forwhy.bridge.backbone import PackedLinears


@pytest.mark.parametrize("rows", [1, 4, 16, 200])
def test_packed_layers_compute_the_same_and_leave_no_trace(rows: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=False), nn.ReLU(), nn.Linear(40, 10))
    packed, inputs = PackedLinears(model), torch.randn(rows, 3, 24)
    with torch.no_grad():
        expected = model(inputs)
        with packed.used(rows):
            assert ("forward" in model[0].__dict__) == (rows >= 4)
            torch.testing.assert_close(model(inputs), expected)
            torch.testing.assert_close(model(inputs[:1, :1]), expected[:1, :1])
    assert "forward" not in model[0].__dict__
    model(inputs).sum().backward()
    assert model[0].weight.grad is not None


def test_packed_layers_of_other_kinds_are_left_alone() -> None:
    with PackedLinears(nn.Linear(8, 8).to(torch.bfloat16)).used(16):
        pass
    layer = nn.Linear(8, 8)
    layer.forward = lambda inputs: inputs  # type: ignore[method-assign]
    with PackedLinears(layer).used(16):
        assert layer.forward(torch.ones(1)) == 1
