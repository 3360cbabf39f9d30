"""Batches are cut into shards, whatever their form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from forwhy.training.task import Task, count


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
