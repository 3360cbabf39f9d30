"""`forwhy init`: recipes that run as they stand, and what they are said to take."""

# ruff: noqa: ANN401 - the command line is a fixture of another folder's kind
from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy.cli import main
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.split import split_last
from forwhy.recipe import load_recipe, run, suggest
from forwhy.recipe.suggest import Traits, _of_hybrid, as_toml, chosen, cost_lines, costs, speed

SHOP = Traits(300, 120, 5_000, 400, 400, 0, 0, False)
YELP = Traits(15_000, 14_000, 390_000, 20_000, 0, 75_000, 3_000, False)


def init(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["init", *map(str, arguments)])
    return int(leaving.value.code or 0)


@pytest.fixture(scope="module")
def untexted(tiny_town: Dataset) -> pl.DataFrame:
    """Who took what, without a word about anybody."""
    return tiny_town.table("interactions")


def timed(frame: pl.DataFrame, dataset: Dataset) -> Dataset:
    """The same in random order, the last two items of each person left out."""
    times = np.random.default_rng(0).permutation(len(frame))
    split = split_last(dataset.users.numbers(frame["user_id"]), times)
    return make_dataset(
        "timed", {"interactions": frame.with_columns(pl.Series("timestamp", times), split)}, {}
    )


def test_a_small_shop_gets_few_words_and_many_steps() -> None:
    shop, yelp = chosen(SHOP), chosen(YELP)
    assert (shop["codes"], shop["batch_size"], shop["epochs"]) == (32, 256, 60)
    assert shop["all_steps"] == 60 * 20
    assert (yelp["codes"], yelp["batch_size"], yelp["epochs"]) == (512, 4096, 4)
    assert (yelp["train_pairs"], yelp["reading_epochs"], yelp["reading_steps"]) == (2400, 2, 1200)


@pytest.mark.parametrize("edges", [1, 30, 500, 5_000, 100_000, 10**6, 10**8])
def test_every_size_gets_steps_and_words_within_limits(edges: int) -> None:
    found = chosen(SHOP.grown(edges))
    assert 16 <= found["codes"] <= 512
    assert 256 <= found["batch_size"] <= 4096
    assert 3 <= found["epochs"] <= 60
    assert found["all_steps"] == found["epochs"] * -(-edges // found["batch_size"])
    if edges >= 5_000:
        assert found["all_steps"] >= 280


def test_the_system_follows_from_texts_and_order(tiny_town: Dataset, untexted: pl.DataFrame) -> None:
    assert Traits.of(tiny_town).system == "because"
    assert Traits.of(make_dataset("bare", {"interactions": untexted}, {})).system == "because"
    in_order = timed(untexted, tiny_town)
    assert Traits.of(in_order).in_order
    assert Traits.of(in_order).system == "hybrid"
    told = make_dataset("t", {**in_order.tables, "items": tiny_town.table("items")}, {})
    assert Traits.of(told).system == "because"


def test_costs_grow_with_the_shop_and_shrink_with_the_machine() -> None:
    slow, fast = costs(SHOP, 1e10), costs(SHOP, 1e11)
    assert [one["interactions"] for one in fast] == [5_000, 1_000_000, 5_000_000, 50_000_000]
    for name in ("seconds", "gib", "people"):
        assert sorted(one[name] for one in fast) == [one[name] for one in fast]
    for before, after in zip(slow, fast, strict=True):
        assert before["seconds"] == pytest.approx(10 * after["seconds"], rel=0.02)
    assert len(costs(SHOP.grown(2_000_000), 1e11)) == 3
    assert max(one["items"] for one in fast) == 1_000_000
    assert costs(YELP, 1e11)[0]["seconds"] > costs(YELP.grown(390_000), 2e11)[0]["seconds"]
    assert cost_lines(fast, 1e11)[2].split() == ["5,000", "300", "120", "34", "s", "0.5", "GiB"]


def test_a_large_catalogue_is_learned_by_a_part_of_it() -> None:
    town = Traits(10_000, 20_000, 100_000, 0, 0, 0, 0, True)
    assert "negatives" not in chosen(town)
    city = town.grown(1_000_000)
    by_part = chosen(city)
    assert by_part["negatives"] == 8192
    by_all = {name: value for name, value in by_part.items() if name not in ("negatives", "validation_users")}
    assert _of_hybrid(city, by_part)[0] < _of_hybrid(city, by_all)[0] / 4


def test_speed_is_measured_in_a_moment() -> None:
    assert 1e8 < speed(0.05) < 1e15


@pytest.mark.parametrize("kind", ["town", "bare", "timed", "large"])
def test_the_recipe_runs_as_it_stands(
    kind: str,
    tiny_town: Dataset,
    untexted: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = make_dataset("bare", {"interactions": untexted}, {})
    of_kind = {"town": tiny_town, "bare": bare}
    of_kind.get(kind, timed(untexted, tiny_town)).save(tmp_path / "data")
    if kind == "large":
        monkeypatch.setattr(suggest, "LARGE", 10)
    assert init("data", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    text = (tmp_path / "recipe.toml").read_text()
    assert shown["values"] == tomllib.loads(text)
    assert shown["run"] == "forwhy run recipe.toml --out runs/data"
    lines = [line for line in text.splitlines() if " = " in line and not line.startswith("#")]
    own = [line for line in lines if line.split(" = ")[0] not in ("name", "seed", "path")]
    before = {line: above for above, line in zip(text.splitlines(), text.splitlines()[1:], strict=False)}
    assert all(before[line].startswith("# ") for line in own)
    # The models and sizes of a test; everything else is as it was written.
    smaller = {
        "town": ["encoder.name=hash", "vocabulary.epochs=1"],
        "bare": ["encoder.name=hash", "vocabulary.epochs=1"],
        "timed": ["behaviour.epochs=1"],
        "large": ["behaviour.epochs=1", "behaviour.negatives=10"],
    }
    stage = "mixture" if kind in ("timed", "large") else "vocabulary"
    assert ("negatives = 8192" in text) == (kind == "large")
    (done, *_) = run(load_recipe("recipe.toml", smaller[kind]), "runs/data", until=stage)
    assert done.action == "done"


def test_a_recipe_that_is_there_is_kept(
    tiny_town: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_town.save(tmp_path / "town")
    out = tmp_path / "recipe.toml"
    out.write_text("mine")
    assert init(tmp_path / "town", "--out", out) == 2
    assert f"{out}: is there already; give --force" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert init(tmp_path / "town", "--out", out, "--force") == 0
    assert out.read_text() != "mine"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"forwhy run {out} --out runs/town"
    assert init(tmp_path / "nowhere", "--out", tmp_path / "other.toml") == 2
    assert not (tmp_path / "other.toml").exists()


def test_what_comes_from_data_stays_text() -> None:
    name, path = 'a"b\nsystem = "x"', "out/{fewer}\\n"
    found = tomllib.loads(as_toml(SHOP, name, path, ["{x} shop"]))
    assert (found["name"], found["data"]["path"], found["system"]) == (name, path, "because")


def test_no_torch_for_a_recipe() -> None:
    code = "import sys, forwhy.cli.run, forwhy.recipe.suggest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
