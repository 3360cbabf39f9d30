"""Small catalogues and histories, and recommenders that train in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.recommend.options import LlmBsConfig, TigerConfig
from forwhy.vocabulary.indices.build import build_index
from forwhy.vocabulary.indices.index import IndexConfig, ItemIndex


def dataset(histories: Sequence[Sequence[int]], titles: Sequence[str] = ()) -> Dataset:
    """Items i0, i1, …; the last item of a history of three or more is test, the one before valid."""
    rows = [
        (f"u{user}", f"i{item:02}", time, _split(time, len(history)))
        for user, history in enumerate(histories)
        for time, item in enumerate(history)
    ]
    schema = ["user_id", "item_id", "timestamp", "split"]
    tables = {"interactions": pl.DataFrame(rows, schema=schema, orient="row")}
    if titles:
        names = [f"i{number:02}" for number in range(len(titles))]
        tables["items"] = pl.DataFrame({"item_id": names, "title": list(titles)})
    return make_dataset("small", tables, duplicates="keep")


def index_of(data: Dataset, width: int = 4, depth: int = 2, seed: int = 0) -> ItemIndex:
    """Random codes."""
    return build_index(data.items, IndexConfig(source="random", width=width, depth=depth, seed=seed))


def ring(users: int, items: int, length: int) -> list[list[int]]:
    """Histories in which item i + 1 follows item i."""
    starts = np.random.default_rng(0).integers(0, items, users)
    return [[(int(start) + step) % items for step in range(length)] for start in starts]


def tiny_llmbs(**changes: Any) -> LlmBsConfig:  # noqa: ANN401
    """Options of a decoder that trains in a moment."""
    backbone = {"layers": 1, "dims": 32, "heads": 2, "feedforward": 64, "dropout": 0.0, "text_tokens": 300}
    given: dict[str, Any] = {
        "backbone": backbone | changes.pop("backbone", {}),
        "contrast": {"semantic": 0.0, "behaviour": 0.0},
        "epochs": 1, "patience": 0, "batch_size": 16, "learning_rate": 1e-2, "beam": 5, "device": "cpu",
    }  # fmt: skip
    return LlmBsConfig.model_validate(given | changes)


def tiny_tiger(**changes: Any) -> TigerConfig:  # noqa: ANN401
    """Options of a network that trains in a moment."""
    given: dict[str, Any] = {
        "layers": 1, "dims": 32, "heads": 2, "head_dims": 12, "feedforward": 48, "dropout": 0.0,
        "targets": 0, "epochs": 1, "patience": 0, "batch_size": 32, "learning_rate": 1e-2, "beam": 5, "device": "cpu",
    }  # fmt: skip
    return TigerConfig.model_validate(given | changes)


def _split(time: int, length: int) -> str:
    if length < 3 or time < length - 2:
        return "train"
    return "valid" if time == length - 2 else "test"
