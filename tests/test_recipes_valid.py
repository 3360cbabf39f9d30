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


def test_a_recipe_that_is_not_here_is_the_one_that_came_with_forwhy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in the documentation, for somebody who has no source tree."""
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO"):
        assert load_recipe("recipes/popularity.toml", ["data.path=x"]).system == "popularity"
    assert (
        "recipes/popularity.toml: not here, so the recipe of this name that came with forwhy" in caplog.text
    )
    assert load_grid("beat-ablations.toml") is not None, "and the base beside it"
    (tmp_path / "popularity.toml").write_text('name = "mine"\nsystem = "item-knn"\n[data]\npath = "x"\n')
    assert load_recipe("popularity.toml").name == "mine"
