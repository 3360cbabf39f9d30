"""Outputs from elsewhere: the same rows from every format, and each bad file in one line or one count."""

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from forwhy.errors import UserError
from forwhy.evaluate.reading import COLUMNS, Outputs, read_outputs

ROWS: dict[str, list[Any]] = {
    "user_id": [3, 1, 2],
    "item_id": ["a", "b", "a"],
    "prediction": ["good tea", "loud, very", "a bar"],
    "reference": ["tea", "quiet", "a 'quiet' bar"],
}
WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": lambda frame, path: frame.write_csv(path),
    ".tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
    ".parquet": lambda frame, path: frame.write_parquet(path),
}
SHOWN = [*COLUMNS, "key"]
"""What two readings of the same rows have in common."""
LISTS: dict[str, Callable[[Sequence[Any], Path], object]] = {
    ".pkl": lambda texts, path: path.write_bytes(pickle.dumps(list(texts))),
    ".json": lambda texts, path: path.write_text(json.dumps(list(texts))),
    ".txt": lambda texts, path: path.write_text("".join(f"{text}\n" for text in texts)),
}


def table(path: Path, **columns: Sequence[Any]) -> Path:
    """A file of these columns."""
    WRITERS[path.suffix](pl.DataFrame(columns, strict=False), path)
    return path


def listed(path: Path, texts: Sequence[Any]) -> Path:
    """A list of texts."""
    LISTS[path.suffix](texts, path)
    return path


def refusal(path: Path, references: Path | None = None) -> str:
    """The one line by which a file is refused."""
    with pytest.raises(UserError) as caught:
        read_outputs(path, references)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or str(references) in str(caught.value)
    return str(caught.value)


# --- what is read


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_table_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    found = read_outputs(table(tmp_path / f"outputs{suffix}", **ROWS))
    assert found.pairs == [(2, "a"), (1, "b"), (3, "a")]
    assert found.predictions == ["a bar", "loud, very", "good tea"]
    assert found.references == ["a 'quiet' bar", "quiet", "tea"]
    assert found.keys == [("2", "a"), ("1", "b"), ("3", "a")]
    assert set(found.exclusions.values()) == {0}


@pytest.mark.parametrize("suffix", LISTS)
def test_two_lists_give_the_rows_of_a_table_without_ids(tmp_path: Path, suffix: str) -> None:
    path = listed(tmp_path / f"pred{suffix}", ROWS["prediction"])
    references = listed(tmp_path / f"ref{suffix}", ROWS["reference"])
    found = read_outputs(path, references)
    texts = {name: ROWS[name] for name in ("prediction", "reference")}
    without_ids = read_outputs(table(tmp_path / "t.parquet", **texts))
    assert_frame_equal(found.frame.select(SHOWN), without_ids.frame.select(SHOWN))
    assert found.pairs == [("row", "3"), ("row", "2"), ("row", "1")]
    assert (found.has_references, without_ids.has_references) == (False, True)


def test_references_may_be_a_column_of_another_table(tmp_path: Path) -> None:
    texts = table(tmp_path / "ours.csv", prediction=["a", "b"])
    right = table(tmp_path / "right.csv", reference=["c", "d"], more=["x", "y"])
    assert read_outputs(texts, right).references == ["c", "d"]


def test_a_pickled_frame_and_a_pickled_array_are_read(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.set_option("mode.string_storage", "python")  # as in published files; pyarrow's arrays are refused
    frame, array = tmp_path / "frame.pkl", tmp_path / "array.pkl"
    frame.write_bytes(pickle.dumps(pandas.DataFrame({**ROWS, "item_id": [5, 6, 5]})))
    assert read_outputs(frame).keys == [("2", "5"), ("1", "6"), ("3", "5")]
    array.write_bytes(pickle.dumps(np.array(["x", None], dtype=object)))
    references = listed(tmp_path / "r.json", ["b", "c"])
    assert "1 row left (1 no_prediction)" in refusal(array, references)


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(6)))
def test_the_order_of_rows_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    columns: dict[str, list[Any]] = {
        "user_id": [1, 1, 2, 3, 4, 5],
        "item_id": [1, 2, 1, 1, 1, 1],
        "prediction": ["a", "b", "a", "c", "", "a"],
        "reference": ["x", "x", "y", "x", "y", "x"],
        "features": ["x y", "x", "", "y", "x", "y"],
    }
    folder = tmp_path_factory.mktemp("order")
    as_they_come = read_outputs(table(folder / "a.csv", **columns))
    moved = {name: [values[row] for row in order] for name, values in columns.items()}
    found = read_outputs(table(folder / "b.csv", **moved))
    shown = [*SHOWN, "features"]
    assert_frame_equal(found.frame.select(shown), as_they_come.frame.select(shown))
    assert found.exclusions == as_they_come.exclusions


def test_a_run_and_its_file_are_read_alike(tmp_path: Path) -> None:
    ours = Outputs.of([(3, "a"), (1, "b"), (2, "a")], ROWS["prediction"], ROWS["reference"])
    ours.save(tmp_path / "outputs.parquet")
    theirs = read_outputs(tmp_path / "outputs.parquet")
    assert_frame_equal(ours.frame.select(SHOWN), theirs.frame.select(SHOWN))


def test_features_are_lists_or_words_with_something_between(tmp_path: Path) -> None:
    pairs = {"prediction": ["a", "b", "c"], "reference": ["a", "b", "c"]}
    wanted = [["tea", "wi-fi"], ["bar"], []]
    as_list = table(tmp_path / "a.jsonl", **pairs, features=[["tea", "wi-fi"], ["bar"], []])
    as_text = table(tmp_path / "b.csv", **pairs, features=["tea, wi-fi", "bar", None])
    assert read_outputs(as_list).features == read_outputs(as_text).features == wanted
    wrong = table(tmp_path / "c.csv", **pairs, features=["tea", "it's", "bar"])
    assert "row 2, column 'features': \"it's\" has a feature that is no single word" in refusal(wrong)


# --- what is left out and counted


def test_missing_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    nothing = float("nan")
    path = listed(tmp_path / "pred.pkl", ["a", None, nothing, "b", "", "NaN", "c"])
    references = listed(tmp_path / "ref.pkl", ["1", "2", "3", None, "5", "6", " "])
    found = read_outputs(path, references)
    assert found.predictions == ["a", ""], "an empty prediction stays: it scores 0"
    assert found.exclusions == {"no_prediction": 3, "no_reference": 2, "duplicates": 0}


def test_an_empty_cell_of_text_files_is_an_empty_prediction(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id,prediction,reference\n1,1,,x\n2,1,nan,x\n3,1,,\n4,1,b,y\n")
    found = read_outputs(path)
    assert found.predictions == ["", "b"]
    assert found.exclusions == {"no_prediction": 1, "no_reference": 1, "duplicates": 0}
    rows: dict[str, list[Any]] = {**ROWS, "prediction": [None, "b", "c"]}
    assert read_outputs(table(tmp_path / "b.parquet", **rows)).exclusions["no_prediction"] == 1


def test_equal_rows_count_once(tmp_path: Path) -> None:
    twice = {name: [*values, values[0]] for name, values in ROWS.items()}
    found = read_outputs(table(tmp_path / "a.csv", **twice))
    once = read_outputs(table(tmp_path / "b.csv", **ROWS))
    assert_frame_equal(found.frame.select(SHOWN), once.frame.select(SHOWN))
    assert found.exclusions["duplicates"] == 1


def test_without_ids_equal_rows_may_be_different_pairs(tmp_path: Path) -> None:
    found = read_outputs(table(tmp_path / "a.csv", prediction=["a", "a"], reference=["b", "b"]))
    assert len(found) == len(set(found.keys)) == 2


# --- what is refused


@pytest.mark.parametrize("column", ["prediction", "reference"])
def test_rows_that_contradict_name_both_and_the_pair(tmp_path: Path, column: str) -> None:
    rows = {name: [*values, values[0]] for name, values in ROWS.items()}
    rows[column] = [*ROWS[column], "other"]
    said = refusal(table(tmp_path / "a.csv", **rows))
    assert "row 4: user 3, item 'a' was in row 1" in said


def test_a_missing_column_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", user_id=[1], item_id=[2], predicton=["a"], reference=["b"])
    assert "no column 'prediction' (it has: user_id, item_id, predicton, reference)" in refusal(path)
    assert "did you mean 'predicton'?" in refusal(path)
    assert "--references" in refusal(table(tmp_path / "b.csv", prediction=["a", "b"]))
    half = table(tmp_path / "c.csv", user_id=[1, 2], prediction=["a", "b"], reference=["a", "b"])
    assert "a column 'user_id' but no 'item_id'" in refusal(half)


def test_lists_of_different_length(tmp_path: Path) -> None:
    path, references = listed(tmp_path / "p.txt", ["a", "b"]), listed(tmp_path / "r.txt", ["a", "b", "c"])
    said = refusal(path, references)
    assert "2 rows" in said
    assert "3 references" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "empty file"),
        ("a.txt", b"", "empty file"),
        ("a.json", b"[]", "an empty list"),
        ("a.json", b'["a", ', "truncated or not JSON"),
        ("a.json", b'{"a": 1}', "holds dict, not a list"),
        ("a.json", b'["a", 5]', "row 2: int, not a text"),
        ("a.txt", b"a\n\xff\n", "not UTF-8"),
        ("a.csv", b"prediction,reference\na,\xc3\xa4\nc,\xff\n", "not UTF-8"),
        ("a.csv", b"prediction,reference\na,b\n", "1 row left"),
        ("a.csv", b"prediction,reference\nnan,b\nNaN,c\n", "no row has both"),
        (
            "a.csv",
            b"user_id,item_id,prediction,reference\n1,1,a,b\n,1,a,b\n",
            "row 2, column 'user_id': empty id",
        ),
        ("a.parquet", b"PAR1 and then nothing", "truncated or not parquet"),
        ("a.jsonl", b'{"prediction": "a"', "truncated or not JSON"),
        ("a.docx", b"x", "extension '.docx' is not one of"),
        ("a.pkl", b"", "empty file"),
        ("a.pkl", pickle.dumps(["a", "b"])[:-4], "truncated or altered pickle"),
        ("a.pkl", b"cos\nsystem\n(S'true'\ntR.", "refused: it asks for os.system"),
        ("a.pkl", pickle.dumps({"a": 1}), "holds dict, not a list"),
        ("a.pkl", pickle.dumps([["a"], "b"]), "row 1: list, not a text"),
        ("a.pkl", pickle.dumps(["\ud800", "b"]), "half a character"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path, references = tmp_path / name, listed(tmp_path / "right.txt", ["a", "b"])
    path.write_bytes(content)
    assert said in refusal(path, references)


def test_what_is_not_there(tmp_path: Path) -> None:
    for name in ("no.csv", "no.pkl", "no.txt", "no.json"):
        assert "no such file" in refusal(tmp_path / name)
    assert "no such file" in refusal(listed(tmp_path / "a.txt", ["a", "b"]), tmp_path / "no.txt")
    (tmp_path / "folder.json").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.json")
