"""Where a training runs: devices by name, threads that do not spin; batches are cut into shards of any form."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from forwhy.errors import UserError
from forwhy.options import LoopConfig
from forwhy.training import engine
from forwhy.training.engine import Task, count, resolve_device


@pytest.mark.parametrize("device", ["gpuu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match=f"device '{device}' cannot be used here .*use auto or cpu"):
        resolve_device(device)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_bf16": False}, True),
        ({"architecture": "x86_64", "amx_bf16": True}, False),
        ({"architecture": "aarch64"}, False),
        ({}, False),
    ],
)
def test_a_processor_without_bf16_is_told(
    known: dict[str, Any], told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "processor", lambda: known)
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters())
    for precision in ("fp32", "bf16"):
        caplog.clear()
        config = LoopConfig(precision=precision)  # type: ignore[arg-type]
        engine.Engine(config, module, lambda _: {}, optimizer, torch.device("cpu"))
        said = "without avx512_bf16 or amx_bf16 bf16 takes up to eleven times as long" in caplog.text
        assert said is (told and precision == "bf16")


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_asleep_unless_the_caller_says_otherwise(given: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program = "import os, sys, forwhy; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment | given, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == [expected, "False"]


class Named(NamedTuple):
    x: Tensor
    y: np.ndarray


@dataclass(frozen=True)
class Grouped:
    x: Tensor
    y: np.ndarray


@pytest.mark.parametrize("form", [lambda x, y: (x, y), Named, Grouped])
def test_batches_of_every_form_are_cut_into_shards(form: Callable[[Tensor, np.ndarray], Any]) -> None:
    x, y = torch.arange(7), np.arange(14).reshape(7, 2)
    batch = form(x, y)
    shards = [Task.shard(None, batch, rank, 3) for rank in range(3)]  # type: ignore[arg-type]
    assert {type(shard) for shard in shards} == {type(batch)}
    assert [count(shard) for shard in shards] == [2, 2, 3]
    xs, ys = zip(
        *(shard if isinstance(shard, tuple) else (shard.x, shard.y) for shard in shards), strict=True
    )
    assert torch.equal(torch.cat(xs), x)
    assert np.array_equal(np.concatenate(ys), y)


def test_lists_and_tensors_are_cut_into_shards() -> None:
    for batch in (list("abcdefg"), torch.arange(7)):
        shards = [Task.shard(None, batch, rank, 3) for rank in range(3)]  # type: ignore[arg-type]
        assert [count(shard) for shard in shards] == [2, 2, 3]
        assert [sample for shard in shards for sample in shard] == list(batch)
