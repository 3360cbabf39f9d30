"""Every block of every page is run as it is printed, or says why not; what a page shows is what comes out."""

from __future__ import annotations

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
from pydantic import BaseModel

from documents import DOCUMENTS, ROOT, Block, Shell, blocks_of
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sample import little_town
from forwhy.options import inner_model
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


def shrunk(kind: type[BaseModel], section: Mapping[str, Any], small: Mapping[str, Any]) -> dict[str, Any]:
    """A section with the small values of what its model has."""
    found = dict(section)
    for key, value in small.items():
        field = kind.model_fields.get(key)
        if field is None:
            continue
        below = inner_model(field.annotation, found.get(key, {}))
        if below is None:
            found[key] = value
        elif isinstance(value, dict):
            found[key] = shrunk(below, found.get(key, {}), value)
    return found


def small_recipe(values: dict[str, Any], model: Path) -> dict[str, Any]:
    """A recipe, or a table of them, whose trainings take a second."""
    if "rows" in values:
        for name, row in values["rows"].items():
            kind = find_system(row.get("system", "beat"))
            own = {key: SMALL[key] for key in row if key in SMALL}
            row = values["rows"][name] = shrunk(kind, row, own)
            if "model" in row.get("explainer", {}):
                row["explainer"]["model"] = str(model)
        return values
    values = shrunk(find_system(values.get("system", "beat")), values, SMALL)
    if "explainer" in values:
        values["explainer"]["model"] = str(model)
    return values


def write_lcrec(folder: Path, dataset: Dataset) -> None:
    """A trio of LC-Rec's layout, under the path at which the pages expect the published one."""
    folder.mkdir(parents=True)
    histories = {
        str(user): [int(item) % ITEMS for item in rows["item_id"]]
        for (user,), rows in dataset.tables["interactions"].group_by("user_id", maintain_order=True)
    }
    facts = {str(item): {"title": f"Soap {item}", "description": "It smells of oranges"} for item in range(60)}
    histories["0"] += list(range(60))
    (folder / "Beauty.inter.json").write_text(json.dumps(histories))
    (folder / "Beauty.item.json").write_text(json.dumps(facts))


def write_tables(folder: Path, town: Dataset) -> None:
    """The files that the pages call a reader's own."""
    taken, items = town.tables["interactions"], town.tables["items"]
    taken.select(customer="user_id", product="item_id").unique(maintain_order=True).write_csv(folder / "ratings.csv")
    items.select(sku="item_id", name="title").write_ndjson(folder / "products.jsonl")
    town.tables["explanations"].select("user_id", "item_id", "text").write_csv(folder / "reasons.csv")
    texts = town.tables["explanations"].filter(pl.col("split") == "test")
    theirs = texts.select("user_id", "item_id", prediction="text", reference="text")
    theirs.write_csv(folder / "theirs.csv")
    for name in ("tst_pred", "tst_ref"):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(texts["text"].to_list()))


def numbered(town: Dataset) -> Dataset:
    """The town with whole numbers as ids: people from 0, places from 210."""
    users = {name: number for number, name in enumerate(town.users.values)}
    items = {name: FIRST_ITEM + number for number, name in enumerate(town.items.values)}
    tables = {}
    for name, table in town.tables.items():
        columns = {
            column: pl.col(column).replace_strict(ids, return_dtype=pl.Int64)
            for column, ids in (("user_id", users), ("item_id", items))
            if column in table.columns
        }
        if "entity_id" in table.columns:
            both = {**users, **items}
            columns["entity_id"] = pl.col("entity_id").replace_strict(both, return_dtype=pl.Int64)
        tables[name] = table.with_columns(**columns)
    return make_dataset("mine", tables)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """What a reader of the pages has: own files, recipes with small models, a data set and a run of it."""
    folder = tmp_path_factory.mktemp("docs") / "world"
    town = numbered(little_town(users=USERS, items=ITEMS, visits=8, explanations=(60, 10, 10)))
    town.save(folder / "out" / "mine")
    write_tables(folder, town)
    write_lcrec(folder.parent / "shared" / "data" / "amazon-beauty", town)
    (folder / "recipes").mkdir()
    for recipe in sorted((ROOT / "recipes").glob("*.toml")):
        values = small_recipe(tomllib.loads(recipe.read_text(encoding="utf-8")), tiny_model)
        (folder / "recipes" / recipe.name).write_text(tomli_w.dumps(values))
    return folder


def world_page(page: Path, world: Path, folder: Path) -> Shell:
    """A shell for one page in a copy of the world."""
    shutil.copytree(world, folder / "world")
    shutil.copytree(world.parent / "shared", folder / "shared")
    return Shell(folder / "world", {})
