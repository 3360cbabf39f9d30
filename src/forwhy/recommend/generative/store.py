"""What the folders of generative recommenders have in common: their own index, what people took, the card's table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import forwhy.artifact as artifact
from forwhy.data.sequences import Histories
from forwhy.errors import UserError
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["index_part", "metric_rows", "own_index", "tensors_of", "train_histories"]


@contextmanager
def index_part(index: ItemIndex) -> Iterator[dict[str, Path]]:
    """The index as a part of an artifact; its folder lasts as long as the block, and others may join it."""
    with tempfile.TemporaryDirectory(prefix="forwhy-") as temporary:
        part = Path(temporary) / "index"
        index.save_pretrained(part)
        yield {"index": part}


def own_index(folder: Path, stored: artifact.Artifact) -> ItemIndex:
    """The index that the model was trained on.

    Raises:
        UserError: another one lies there.
    """
    index = ItemIndex.from_pretrained(stored.part("index"))
    if index.fingerprint != stored.config["index"]:
        raise UserError(
            f"{folder}: index and model disagree: trained on index {stored.config['index'][:8]}, found "
            f"{index.fingerprint[:8]}; put its own index back or train again"
        )
    return index


def train_histories(stored: artifact.Artifact) -> Histories:
    """What each user took in training."""
    return Histories(stored.tensors["train.items"], stored.tensors["train.offsets"])


def tensors_of(stored: artifact.Artifact, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without it."""
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in stored.tensors.items()
        if name.startswith(prefix)
    }


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows of the card's table: stage, name, value."""
    return "\n".join(
        f"| {stage} | {name} | {value} |"
        for stage, numbers in metrics.items()
        for name, value in numbers.items()
    )
