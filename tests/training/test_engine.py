"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from forwhy.errors import UserError
from forwhy.training.engine import resolve_device


@pytest.mark.parametrize("device", ["gpuu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here .*use auto or cpu"):
        resolve_device(device)
