"""Every recipe that ships is one that loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwhy.recipe import load_grid, load_recipe, packaged_recipe

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_recipe_loads_and_says_what_it_is(path: Path) -> None:
    grid = load_grid(path)
    assert grid.rows if grid else load_recipe(path)
    assert path.read_text().startswith("# ")


def test_the_named_recipes_are_there() -> None:
    assert {"demo", "shop", "xrec-yelp", "imdb", "beat-ablations"} <= {path.stem for path in RECIPES}


def test_packaged_recipe_is_found() -> None:
    assert packaged_recipe("demo.toml").read_text() == RECIPES[0].parent.joinpath("demo.toml").read_text()
