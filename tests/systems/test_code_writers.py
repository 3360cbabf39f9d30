"""LETTER, LC-Rec and P5-CID as whole runs: stages, small catalogues, no texts."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.recipe import load_recipe, run
from forwhy.vocabulary.index import ItemIndex

from ..test_next_item_run import ITEMS, ring, told, written

WRITERS = {
    "letter": (
        "[index]\nwidth = 4\ndepth = 2\nepochs = 2\n",
        ["behaviour", "index", "recommender", "evaluation"],
    ),
    "lc-rec": ("[index]\nwidth = 4\ndepth = 2\nepochs = 2\n", ["index", "recommender", "evaluation"]),
    "p5-cid": ("[index]\ndepth = 2\n", ["index", "recommender", "evaluation"]),
}
BACKBONE = (
    "window = 4\nstride = 4\n[recommender.backbone]\nlayers = 1\ndims = 16\nheads = 2\nfeedforward = 16\n"
)
NETWORKS = {
    "letter": "layers = 1\ndims = 16\nheads = 2\nhead_dims = 8\nfeedforward = 16\n",
    "lc-rec": f"{BACKBONE}text_tokens = 300\n",
    "p5-cid": BACKBONE,
}


def writer(system: str, folder: Path, data: Dataset) -> Path:
    behaviour = "[behaviour]\ndims = 8\nepochs = 1\n" if system == "letter" else ""
    begun = f'name = "w"\nsystem = "{system}"\n[data]\npath = "{{data}}"\n[encoder]\nname = "hash"\n'
    trained = f"[recommender]\nepochs = 1\nbeam = 6\n{NETWORKS[system]}[evaluation]\nks = [1]\n"
    return written(folder, f"{begun}{behaviour}{WRITERS[system][0]}{trained}", data)


@pytest.mark.parametrize("items", [ITEMS, 1, 3])
@pytest.mark.parametrize("system", list(WRITERS))
def test_baselines_that_write_codes_run_and_load(system: str, items: int, tmp_path: Path) -> None:
    path = writer(system, tmp_path, ring(items))
    reports = run(load_recipe(path), tmp_path / "run")
    assert [report.stage for report in reports] == WRITERS[system][1]
    first = told("recommend", tmp_path / "run", "--history", "i00", "--with-seen", "-k", 3)
    assert len(first["items"]) == min(items, 3)  # type: ignore[arg-type]
    assert told("recommend", tmp_path / "run", "--history", "i00", "--with-seen", "-k", 3) == first


def test_without_texts_codes_of_text_are_refused_and_those_of_behaviour_are_not(tmp_path: Path) -> None:
    for system in WRITERS:
        (tmp_path / system).mkdir()
        path = writer(system, tmp_path / system, ring(titles=False))
        if system == "p5-cid":
            run(load_recipe(path), tmp_path / system / "run", until="index")
            continue
        with pytest.raises(UserError, match="no item has any text; use behaviour or random indices"):
            run(load_recipe(path), tmp_path / system / "run", until="index")


def test_what_is_known_of_items_beside_texts_is_read_too(tmp_path: Path) -> None:
    data = ring(titles=False)
    terms = [[f"brand {number % 2}", "thing"] for number in range(ITEMS)]
    told_of = pl.DataFrame({"item_id": [f"i{number:02}" for number in range(ITEMS)], "attributes": terms})
    known = make_dataset("known", {**data.tables, "items": told_of}, duplicates="keep")
    run(load_recipe(writer("lc-rec", tmp_path, known)), tmp_path / "run", until="index")
    index = ItemIndex.from_pretrained(tmp_path / "run" / "index")
    assert (index.codes[:, 0][::2] != index.codes[:, 0][1::2]).all(), "brands alone tell them apart"
