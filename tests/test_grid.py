"""A table of runs: rows differ only in what they say, share what is equal, and fail one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forwhy.errors import UserError
from forwhy.recipe import Grid, RunFolder, load_grid, load_recipe, run_grid
from forwhy.recipe import runner as module

GRID = """
name = "parts"
base = "tiny.toml"
[set]
explainer.epochs = 1
explainer.sar.gamma = 1.0
[rows.full]
[rows.without-micro]
vocabulary.micro = false
[rows.without-macro]
vocabulary.macro = false
[rows.without-sar]
explainer.sar.gamma = 0.0
"""


@pytest.fixture
def write(tiny_recipe: Path, tmp_path: Path):  # noqa: ANN201 - a function of text
    def grid(text: str) -> Path:
        (tmp_path / "tiny.toml").write_text(tiny_recipe.read_text())
        (tmp_path / "grid.toml").write_text(text)
        return tmp_path / "grid.toml"

    return grid


def loaded(path: Path, *overrides: str) -> Grid:
    grid = load_grid(path, overrides)
    assert grid is not None
    return grid


def test_a_row_is_its_base_and_its_own_words(write) -> None:  # noqa: ANN001
    path = write(GRID)
    grid = loaded(path, "explainer.epochs=2", "evaluation.pairs=4")
    base = load_recipe(path.parent / "tiny.toml", ["explainer.epochs=2", "evaluation.pairs=4"])
    wanted = {
        "full": ["explainer.sar.gamma=1.0"],
        "without-micro": ["explainer.sar.gamma=1.0", "vocabulary.micro=false"],
        "without-macro": ["explainer.sar.gamma=1.0", "vocabulary.macro=false"],
        "without-sar": ["explainer.sar.gamma=0.0"],
    }
    both = ["explainer.epochs=2", "evaluation.pairs=4"]
    for row, overrides in wanted.items():
        expected = load_recipe(path.parent / "tiny.toml", [*both, *overrides, f"name={row}"])
        assert grid.rows[row] == expected
    assert grid.rows["full"].data == base.data
    (line,) = grid.budget()
    assert line.startswith("full, without-micro, without-macro, without-sar: ")
    assert "2 times" in line


def test_a_recipe_is_no_grid(tiny_recipe: Path) -> None:
    assert load_grid(tiny_recipe) is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('base = "tiny.toml"', "", "'base' is missing"),
        ('base = "tiny.toml"', 'base = "other.toml"', r"other\.toml: no such recipe"),
        ('base = "tiny.toml"', "base = 3", "'base' is a file's name"),
        ("[set]", "[sets]", "unknown key 'sets'"),
        ("vocabulary.micro = false", "evaluation.pairs = 3", "row 'without-micro' sets 'evaluation'"),
        ("vocabulary.micro = false", "seed = 3", "row 'without-micro' sets 'seed'"),
        ("vocabulary.micro = false", "vocabulary.mikro = false", "row 'without-micro': unknown key"),
        ("vocabulary.micro = false", "vocabulary = 3", "row 'without-micro': 'vocabulary'"),
        ("[rows.without-micro]", '[rows."../micro"]', "names a folder"),
    ],
)
def test_a_bad_grid_is_refused_in_one_line(write, old: str, new: str, said: str) -> None:  # noqa: ANN001
    with pytest.raises(UserError, match=said) as caught:
        load_grid(write(GRID.replace(old, new)))
    assert "\n" not in str(caught.value)


def test_rows_share_trainings_and_are_done_once(write, tmp_path: Path) -> None:  # noqa: ANN001
    grid, out = loaded(write(GRID)), tmp_path / "out"
    actions = {row: [report.action for report in reports] for row, reports in run_grid(grid, out).items()}
    assert actions == {
        "full": ["done", "done", "done"],
        "without-micro": ["done", "done", "done"],
        "without-macro": ["done", "done", "done"],
        "without-sar": ["copied", "done", "done"],
    }
    for file in (out / "full" / "vocabulary").iterdir():
        assert (out / "without-sar" / "vocabulary" / file.name).read_bytes() == file.read_bytes()
    assert _stages(out / "without-sar") == {"vocabulary", "explainer"}
    nlls = {row: RunFolder.open(out / row).evaluation()["nll"] for row in grid.rows}
    assert len(set(nlls.values())) == len(nlls)
    again = run_grid(grid, out)
    assert {report.action for reports in again.values() for report in reports} == {"skipped"}


def test_a_row_that_fails_does_not_stop_the_others(
    write,  # noqa: ANN001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def failing(recipe, folder: Path, *_: object, **__: object) -> list:  # noqa: ANN001
        begun.append(folder.name)
        if recipe.name == "without-micro":
            raise UserError("no model")
        return []

    monkeypatch.setattr(module, "run", failing)
    with pytest.raises(UserError, match="1 of 4 rows failed: without-micro: no model"):
        run_grid(loaded(write(GRID)), tmp_path / "out")
    assert begun == ["full", "without-micro", "without-macro", "without-sar"]


def test_a_run_is_not_turned_into_a_table(write, tiny_run: Path) -> None:  # noqa: ANN001
    with pytest.raises(UserError, match="is the folder of a run"):
        run_grid(loaded(write(GRID)), tiny_run)


def _stages(folder: Path) -> set[str]:
    return {json.loads(line)["stage"] for line in (folder / "metrics.jsonl").read_text().splitlines()}
