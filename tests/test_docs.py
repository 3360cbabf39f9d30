"""Every block of every page is run as it is printed, or says why not; what a page shows is what comes out."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tomli_w

from documents import DOCUMENTS, ROOT, Block, Shell, blocks_of
from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.models import cache_folder
from forwhy.recipe import load_recipe, run
from forwhy.systems import find_system

USERS, ITEMS = 40, 30
FIRST_ITEM = 210  # so that item 233 of the pages is there
REASONS = (
    "a GPU",
    "a server",
    "a second machine",
    "an account",
    "hours",
    "raw reviews",
    "part of a file",
    "test_third_party",
    "test_readme",
)
"""What a block that is not run may need."""
EVENING = ROOT / "docs" / "evening.md"
SMALL: Mapping[str, Any] = {
    "encoder": {"name": "hash"},
    "vocabulary": {"codes": 64, "slot_dim": 2, "text_dims": 4, "epochs": 1, "batch_size": 256, "text_batch": 16},
    "collaborative": {"dims": 8, "epochs": 1},
    "explainer": {
        "epochs": 1,
        "train_pairs": 16,
        "validation_pairs": 4,
        "evaluate_every": 0,
        "batch_size": 8,
        "describe": 4,
        "prompt": {"instruction": "Say why.", "task_tokens": 2},
        "generation": {"max_new_tokens": 8, "max_words": 8},
    },
    "behaviour": {"dims": 8, "epochs": 1},
    "index": {"width": 4},
    "recommender": {
        "epochs": 1,
        "dims": 8,
        "layers": 1,
        "heads": 2,
        "beam": 8,
        "batch_size": 64,
        "backbone": {"layers": 1, "dims": 32, "heads": 2, "feedforward": 32, "text_tokens": 300},
        "annealing": {"epochs": 1},
    },
    "evaluation": {"pairs": 4, "generate": 4, "shuffled_users": 4},
}
"""What recipes are made of here: small models, and one look at the data."""


def shrunk(section: Mapping[str, Any], small: Mapping[str, Any], fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """A section with the small values that it knows."""
    found = dict(section)
    for key, value in small.items():
        below = getattr(fields.get(key), "annotation", None)
        if isinstance(value, dict):
            inner = getattr(below, "model_fields", {})
            if inner and not isinstance(found.get(key), str):
                found[key] = shrunk(found.get(key, {}), value, inner)
        elif key in fields:
            found[key] = value
    return found


def small_recipe(values: dict[str, Any], model: Path) -> dict[str, Any]:
    """A recipe, or a table of them, whose trainings take seconds."""
    if "rows" in values:
        for row in values["rows"].values():
            if "model" in row.get("explainer", {}):
                row["explainer"]["model"] = str(model)
            if "system" in row:
                fields = find_system(row["system"]).model_fields
                own = {key: SMALL[key] for key in row if key in SMALL}
                row |= shrunk(row, own, fields)
        return values
    fields = find_system(values.get("system", "beat")).model_fields
    values = shrunk(values, SMALL, fields)
    if "explainer" in values:
        values["explainer"]["model"] = str(model)
    return values
