"""A tiny model and a whole tiny run, made once per session: no network, no real weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

import tiny_models
from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.recipe import load_recipe, run

settings.register_profile("busy", deadline=None)  # machines are shared: a slow example is no wrong one
settings.load_profile("busy")

TINY_RECIPE = """
name = "tiny"
seed = 3

[data]
path = "{data}"

[encoder]
name = "hash"

[vocabulary]
codes = 8
slot_dim = 2
text_dims = 4
epochs = 1
batch_size = 256
text_batch = 16

[explainer]
model = "{model}"
epochs = 1
train_pairs = 16
validation_pairs = 4
batch_size = 8
device = "cpu"
prompt = {{ instruction = "Say why.", task_tokens = 2 }}
generation = {{ max_new_tokens = 8, max_words = 8, end_bias = -5.0 }}

[evaluation]
pairs = 4
generate = 4
"""


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama's folder."""
    return tiny_models.save(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture(scope="session")
def tiny_town() -> Dataset:
    """A little town of 40 people."""
    return little_town(users=40, items=30, visits=8, explanations=(30, 8, 8))


@pytest.fixture(scope="session")
def tiny_recipe(tiny_model: Path, tiny_town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of seconds, beside the saved town."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_town.save(folder / "town")
    recipe = folder / "tiny.toml"
    recipe.write_text(TINY_RECIPE.format(data=folder / "town", model=tiny_model))
    return recipe


@pytest.fixture(scope="session")
def tiny_run(tiny_recipe: Path) -> Path:
    """A finished run; tests do not change it."""
    folder = tiny_recipe.parent / "run"
    run(load_recipe(tiny_recipe), folder)
    return folder
