"""Tuning: what is tried, that a kill changes nothing, that test rows take no part, and what is refused."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.recipe import RunFolder, default_recipe, load_recipe, run
from forwhy.recipe import tuning as module
from forwhy.recipe.tuning import Space, tune
from forwhy.systems import names
from forwhy.training.loop import Diverged

pytest.importorskip("optuna")

KNN = 'name = "knn <b>"\nsystem = "item-knn"\n[data]\npath = "{data}"\n[evaluation]\nshuffled_users = 0\n'
SASREC = """
name = "sas"
system = "sasrec"
[data]
path = "{data}"
[recommender]
epochs = 1
dims = 8
batch_size = 8
device = "cpu"
"""
TRIES = """
[tries]
recommender.dims = [8, 16]
recommender.learning_rate = { low = 1e-3, high = 1e-2, log = true }
"""


def toys(last: int = 0) -> Dataset:
    """Twelve histories around a ring of nine items; `last` moves every test item."""
    rows = [
        {"user_id": user, "item_id": (user + step + last * (step == 5)) % 9, "timestamp": step,
         "split": {4: "valid", 5: "test"}.get(step, "train")}
        for user in range(12) for step in range(6)
    ]  # fmt: skip
    return make_dataset("toys", {"interactions": pl.DataFrame(rows)})


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def recipe(text: str, dataset: Dataset | None = None, name: str = "toys") -> Path:
        (dataset or toys()).save(tmp_path / name)
        (tmp_path / f"{name}.toml").write_text(text.format(data=tmp_path / name))
        return tmp_path / f"{name}.toml"

    return recipe


def spaced(folder: Path, text: str) -> Path:
    (folder / "space.toml").write_text(text)
    return folder / "space.toml"


def values(found: module.Tuned) -> list[tuple[str, dict[str, object], float | None]]:
    return [(it.folder, it.options, it.value) for it in found.tried]


def test_the_recipe_comes_first_and_the_best_is_kept(write: Write, tmp_path: Path) -> None:
    recipe, out = write(KNN), tmp_path / "out"
    found = tune(recipe, out, 4)
    assert found.tried[0].options == {
        "recommender.neighbours": 100,
        "recommender.decay": 0.8,
        "recommender.shrink": 0.0,
    }
    best = max(found.tried, key=lambda it: it.value or 0.0)
    assert found.best == best == found.ranked[0]
    kept = load_recipe(out / "best.toml")
    assert kept.recommender.model_dump() | {k.split(".")[1]: v for k, v in best.options.items()} == (  # type: ignore[attr-defined]
        kept.recommender.model_dump()  # type: ignore[attr-defined]
    )
    assert kept.evaluation.split == "test"  # type: ignore[attr-defined]
    measured = RunFolder(out / "trials" / best.folder)
    assert measured.recipe.evaluation.split == "valid"  # type: ignore[attr-defined]
    assert measured.evaluation()["ranking"]["ndcg@10"] == best.value
    page = (out / "tuning.html").read_text()
    assert f"{best.value:.4f}" in page
    assert "knn &lt;b&gt;" in page
    assert "<b>" not in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page)
    assert page.count("<svg ") == 4


def test_test_rows_take_no_part(write: Write, tmp_path: Path) -> None:
    """Data that differ in test rows alone are tuned alike."""
    space = spaced(tmp_path, TRIES)
    one = tune(write(SASREC), tmp_path / "one", 2, space=space)
    other = tune(write(SASREC, toys(last=3), "moved"), tmp_path / "other", 2, space=space)
    assert values(one) == values(other)
    assert not (tmp_path / "one" / "trials" / "000" / "evaluation.json").exists()


def test_a_killed_trial_is_run_again_and_counts_once(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is killed and when, the trials are those of a tuning that was not."""
    recipe, space = write(SASREC), spaced(tmp_path, TRIES)
    whole = values(tune(recipe, tmp_path / "whole", 3, space=space))

    class Killed(BaseException):
        """As a kill, nothing of ours handles it."""

    calls = []

    def dying(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) in (2, 4):
            raise Killed
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", dying)
    for _ in range(2):
        with pytest.raises(Killed):
            tune(recipe, tmp_path / "killed", 3, space=space)
    assert values(tune(recipe, tmp_path / "killed", 3, space=space)) == whole
    assert sorted(it.name for it in (tmp_path / "killed" / "trials").iterdir()) == ["000", "001", "002"]
    assert values(tune(recipe, tmp_path / "killed", 3, space=space)) == whole  # nothing is left to do
    assert len(calls) == 5


def test_trials_share_what_is_equal(write: Write, tmp_path: Path) -> None:
    space = spaced(tmp_path, "[tries]\nrecommender.dims = [8]\n")
    tune(write(SASREC), tmp_path / "out", 2, space=space)
    states = [
        json.loads((tmp_path / "out" / "trials" / it / "state.json").read_text()) for it in ("000", "001")
    ]
    assert states[0]["stages"]["recommender"]["inputs"] == states[1]["stages"]["recommender"]["inputs"]
    assert states[0]["stages"]["recommender"]["seconds"] == states[1]["stages"]["recommender"]["seconds"]


def test_a_trial_that_diverges_is_a_result(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, calls = write(KNN), []

    def diverging(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 1:
            raise Diverged("the loss is nan")
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "run", diverging)
    found = tune(recipe, tmp_path / "out", 2)
    assert [it.value is None for it in found.tried] == [True, False]
    assert found.tried[0].why == "the loss is nan"
    assert "failed: the loss is nan" in (tmp_path / "out" / "tuning.html").read_text()
    calls.clear()
    with pytest.raises(UserError, match="no trial succeeded; the first: the loss is nan"):
        tune(recipe, tmp_path / "other", 1)
    assert not (tmp_path / "other" / "best.toml").exists()


def test_a_full_disk_is_no_result(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(recipe: object, place: Path, *_: object) -> object:
        place.mkdir(parents=True)
        raise UserError("the disk is full")

    monkeypatch.setattr(module, "run", full)
    with pytest.raises(UserError, match="the disk is full"):
        tune(write(KNN), tmp_path / "out", 1)
    monkeypatch.setattr(module, "run", run)
    assert [it.folder for it in tune(tmp_path / "toys.toml", tmp_path / "out", 1).tried] == ["000"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("[tries]\nrecommender.dimz = [1]\n", r"'recommender\.dimz'.*did you mean 'recommender\.dims'"),
        ("[tries]\nrecommender.dims = 4\n", r"space\.toml: 'recommender\.dims': write choices as \[32, 64\]"),
        ("tries = 4\n", r"'tries': write choices"),
        ("tries = {}\n", "at least 1 item"),
        (
            "[tries]\nrecommender.dropout = { low = 0.5, high = 0.1 }\n",
            r"recommender\.dropout'.*low is below high",
        ),
        (
            "[tries]\nrecommender.dropout = { low = 0.0, high = 0.1, log = true }\n",
            "where log is true, above 0",
        ),
        ('stage = "explainer"\n', "has recommender, evaluation"),
        ('metric = "ndcg@99"\n', r"no ndcg@99 to go by \(it has: ndcg@10"),
        ("[tries\n", r"space\.toml: not TOML"),
        ("tires = 1\n", "did you mean 'tries'"),
    ],
)
def test_bad_spaces(write: Write, tmp_path: Path, space: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tune(write(SASREC), tmp_path / "out", 1, space=spaced(tmp_path, space))
    assert not (tmp_path / "out" / "best.toml").exists()


def test_bad_folders(write: Write, tmp_path: Path) -> None:
    recipe = write(KNN)
    tune(recipe, tmp_path / "out", 1)
    with pytest.raises(UserError, match="tunes another recipe, data set or space"):
        tune(recipe, tmp_path / "out", 1, ["seed=7"])
    with pytest.raises(UserError, match="holds something that is no tuning"):
        tune(recipe, tmp_path, 1)
    with pytest.raises(UserError, match="system 'popularity': no options to try by default"):
        tune(recipe, tmp_path / "pop", 1, ["system=popularity"])


def test_every_system_with_options_has_a_space() -> None:
    """Its keys and both ends are of the system's own options, and its first trial is the default recipe."""
    own = tomllib.loads((Path(module.__file__).parent / "spaces.toml").read_text())
    assert set(own) == set(names()) - {"popularity"}
    for system in own:
        space = Space.read(system, None)
        base = default_recipe(system, Path("data"))
        assert space.stage in [step.name for step in base.plan()]
        for key, it in space.tries.items():
            for value in (it.low, it.high) if isinstance(it, module.Span) else it:
                default_recipe(system, Path("data"), [f"{key}={json.dumps(value)}"])
        assert set(module.own_values(base, space)) == set(space.tries)
