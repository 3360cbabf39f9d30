"""What a run has done is kept until something better stands, and a refused one leaves nothing."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.recipe.evaluated import recorded
from forwhy.recipe.runner import RunFolder, run
from forwhy.recipe.schema import default_recipe
from forwhy.systems.next_item import NextItemSystem


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    rows = [(f"u{user}", f"i{(3 * user + step) % 12}", step) for user in range(8) for step in range(5)]
    took = pl.DataFrame(rows, ["user_id", "item_id", "timestamp"], orient="row")
    split = pl.Series("split", ["train", "train", "train", "valid", "test"] * 8)
    make_dataset("town", {"interactions": took.with_columns(split)}).save(tmp_path / "town")
    run(default_recipe("popularity", tmp_path / "town"), tmp_path / "run")
    return tmp_path / "run"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(it.relative_to(folder)): it.read_bytes() for it in folder.rglob("*") if it.is_file()}


def test_an_evaluation_that_cannot_be_made_again_stays(finished: Path) -> None:
    before = tree(finished)
    shutil.move(finished.parent / "town", finished.parent / "gone")
    with pytest.raises(UserError, match="town: no such folder"):
        recorded(RunFolder.open(finished), again=True)
    assert tree(finished) == before


def test_what_stops_in_the_middle_keeps_the_old_evaluation(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(finished)

    def stops(*_: object) -> None:
        raise UserError("no; never")

    monkeypatch.setattr(NextItemSystem, "rank", stops)
    with pytest.raises(UserError, match="no; never"):
        recorded(RunFolder.open(finished), again=True)
    assert tree(finished) == before


def test_measured_again_it_is_written_anew(finished: Path) -> None:
    document = finished / "evaluation.json"
    old = document.stat().st_ino
    assert recorded(RunFolder.open(finished), again=True)["ranking"]
    assert document.stat().st_ino != old
    new = document.stat().st_ino
    recorded(RunFolder.open(finished), again=False)
    assert document.stat().st_ino == new


def test_a_refused_run_leaves_no_folder(finished: Path, tmp_path: Path) -> None:
    town = Dataset.load(finished.parent / "town")
    bare = {**town.tables, "interactions": town.tables["interactions"].drop("timestamp")}
    town.derive(bare, {}).save(tmp_path / "bare")
    with pytest.raises(UserError, match="no timestamp"):
        run(default_recipe("sasrec", tmp_path / "bare"), tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
    before = tree(finished)
    with pytest.raises(UserError, match="no timestamp"):
        run(default_recipe("item-knn", tmp_path / "bare"), finished)
    assert tree(finished) == before


@pytest.mark.parametrize(
    "content", ["", "null", "[]", "{", '{"stages": null}', '{"stages": {"a": {"inputs": 1}}}', "[" * 9000]
)
@pytest.mark.parametrize("name", ["state.json", "evaluation.json"])
def test_what_is_damaged_is_named_with_a_remedy(finished: Path, name: str, content: str) -> None:
    (finished / name).write_text(content)
    before = tree(finished)
    with pytest.raises(UserError, match=rf"{name}: .*;"):
        recorded(RunFolder.open(finished), again=False)
    assert tree(finished) == before
