"""Explainers with words of their own as whole runs: stages, commands and table, on the little town."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import forwhy
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.recipe import RunFolder, load_grid, load_recipe, run
from forwhy.recipe.pushing import write_push
from small_words import SMALL

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = """
name = "tiny"
system = "{system}"

[data]
path = "{data}"

[encoder]
name = "hash"

[collaborative]
dims = 8
epochs = 1

[explainer]
epochs = 1
train_pairs = 16
validation_pairs = 4
device = "cpu"

[evaluation]
pairs = 6
generate = 6
"""


@pytest.fixture(scope="module")
def told(tiny_town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The little town with profiles and ratings."""
    rows = [("item", str(item), "has quiet jazz") for item in tiny_town.items.values]
    profiles = pl.DataFrame(rows, schema=["side", "entity_id", "text"], orient="row")
    taken = tiny_town.table("interactions")
    taken = taken.with_columns(rating=pl.Series([row % 5 + 1.0 for row in range(taken.height)]))
    tables = {**tiny_town.tables, "profiles": profiles, "interactions": taken}
    folder = tmp_path_factory.mktemp("town") / "told"
    make_dataset("town", tables, tiny_town.source).save(folder)
    return folder


@pytest.mark.parametrize("system", list(SMALL))
def test_a_run_recommends_explains_and_measures(system: str, told: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.format(system=system, data=told))
    settings = [f"explainer.{key}={value}" for key, value in SMALL[system].items()]
    run(load_recipe(tmp_path / "tiny.toml", settings), tmp_path / "run")
    document = RunFolder.open(tmp_path / "run").evaluation()
    assert document["ranking"]["recall@20"] > 0
    assert set(document["information_gain"]) >= {"user", "item", "both"}
    assert document["text"]["bleu1"] >= 0
    protocol = document["protocol"]
    assert (protocol["model"], protocol["prompt_tokens"]) == (None, None)
    assert protocol["profiles_shown"] == (system == "peter-plus")
    opened = forwhy.open(tmp_path / "run")
    user = RunFolder.open(tmp_path / "run").dataset().users.values[0]
    item = opened.recommend(user, k=1)["item_id"][0]
    assert opened.explain((user, item)).text
    with pytest.raises(UserError, match="knows users by number alone"):
        opened.explain(history=[item], item=item)
    write_push(RunFolder.open(tmp_path / "run"), tmp_path / "pushed", "me/model")
    assert "base_model" not in (tmp_path / "pushed" / "README.md").read_text()


def test_profiles_that_a_protocol_takes_away_are_not_read(told: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY.format(system="peter-plus", data=told))
    settings = ["data.protocol=zero-shot", "data.zero_shot_items=0.5", "explainer.epochs=0"]
    run(load_recipe(tmp_path / "tiny.toml", settings), tmp_path / "run", until="explainer")
    read = forwhy.PeterPlusExplainer.from_pretrained(tmp_path / "run" / "explainer").profiles["item"]
    seen = RunFolder.open(tmp_path / "run").dataset()
    tested = set(seen.pairs("test").items.tolist())
    assert tested
    assert 0 < len(read) < len(seen.items)


def test_the_table_of_explainers_spends_alike() -> None:
    grid = load_grid(RECIPES / "explainers.toml")
    assert grid is not None
    assert {"att2seq", "nrt", "peter", "peter-plus"} <= set(grid.rows)
    assert {recipe.explainer.train_pairs for recipe in grid.rows.values()} == {2400}  # type: ignore[attr-defined]
