"""Through how many files a reader follows a command; the budgets not yet met are held where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.route import BUDGETS, TOWN, explaining_routes, recommending_route, ring_run

from forwhy.data.dataset import Dataset

HELD = BUDGETS | {"run to the first explanation": 58, "recommend --history": 39, "evaluation": 79}
"""docs/results.md says what the budgets are and what is above them."""


@pytest.mark.slow
def test_routes_are_no_longer_than_they_were(tiny_town: Dataset, tiny_model: Path, tmp_path: Path) -> None:
    tiny_town.save(tmp_path / "town")
    recipe = tmp_path / "town.toml"
    recipe.write_text(TOWN.format(folder=tmp_path, model=tiny_model))
    routes = explaining_routes(recipe, tmp_path) | recommending_route(ring_run(tmp_path), "0,1,2")
    assert routes.keys() == HELD.keys()
    for name, files in routes.items():
        assert len(files) <= HELD[name], (name, files)
    assert routes["BEAT's equations"][-3:] == [
        "systems/beat.py",
        "vocabulary/tokenizer.py",
        "vocabulary/network.py",
    ]
