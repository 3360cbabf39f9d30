"""Where a training runs: devices by name, threads that do not spin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from forwhy.errors import UserError
from forwhy.training.engine import resolve_device


@pytest.mark.parametrize("device", ["gpuu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here .*use auto or cpu"):
        resolve_device(device)


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep_unless_the_caller_says_otherwise(given: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program = "import os, sys, forwhy; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment | given, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [expected, "False"]
