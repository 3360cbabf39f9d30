"""RecBole's atomic files: what is written comes back, and what RecBole writes itself is read."""

import json
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources import import_recbole
from forwhy.data.sources.recbole import export_recbole
from forwhy.data.sources.reviews import ReviewFilters
from forwhy.errors import UserError

COLUMNS = ["user_id", "item_id", "rating", "timestamp", "split"]

HOSTILE = 'A "quoted"\ttitle\nof two lines'


def log(user: str = "u", columns: tuple[str, ...] = ("rating", "timestamp")) -> Dataset:
    """Repeated pairs, fractions, times far apart, and splits that no rule would make."""
    rows = [
        {
            "user_id": f"{user}{k % 5}",
            "item_id": f"{k % 7}-é",
            "rating": k / 3,
            "timestamp": (k * 37) % 41 * 10**10,
            "split": ("train", "test", "train", "valid")[k % 4],
        }
        for k in range(60)
    ]
    frame = pl.DataFrame(rows).drop({"rating", "timestamp"} - set(columns))
    items = pl.DataFrame(
        {"item_id": [f"{k}-é" for k in range(7)], "title": [HOSTILE] * 7, "weight": [1.5, None] * 3 + [2.0]}
    )
    users = pl.DataFrame({"user_id": [f"{user}{k}" for k in range(5)], "member": [True] * 5})
    tables = {"interactions": frame, "items": items, "users": users}
    return make_dataset("log", tables, duplicates="keep")


def interactions(data: Dataset) -> list[tuple[object, ...]]:
    frame = data.tables["interactions"]
    return sorted(frame.select(column for column in COLUMNS if column in frame.columns).iter_rows())


@pytest.mark.parametrize("user", ["u", ""])
@pytest.mark.parametrize("columns", [("rating", "timestamp"), ("rating",), ("timestamp",), ()])
def test_export_then_import_changes_no_interaction_and_no_split(
    tmp_path: Path, user: str, columns: tuple[str, ...]
) -> None:
    data = log(user, columns)
    export_recbole(data, tmp_path / "mine")
    again = import_recbole(tmp_path / "mine")
    assert interactions(again) == interactions(data)
    assert again.name == "mine"
    assert (again.users.values, again.items.values) == (data.users.values, data.items.values)
    export_recbole(again, tmp_path / "mine")
    assert interactions(import_recbole(tmp_path / "mine")) == interactions(data)


def test_files_read_with_pandas_as_recbole_reads_them(tmp_path: Path) -> None:
    data = log()
    export_recbole(data, tmp_path / "mine")
    config = json.loads((tmp_path / "mine" / "mine.yaml").read_text())
    assert config["benchmark_filename"] == ["train", "valid", "test"]
    assert config["load_col"] == {"inter": COLUMNS[:-1]}
    kinds = {"user_id:token": str, "item_id:token": str, "rating:float": float, "timestamp:float": float}
    found = set()
    for split in config["benchmark_filename"]:
        frame = pd.read_csv(
            tmp_path / f"mine/mine.{split}.inter", delimiter="\t", dtype=kinds, engine="python"
        )
        assert list(frame.columns) == list(kinds)
        found |= {(*row, split) for row in frame.itertuples(index=False)}
    assert found == set(interactions(data))
    items = pd.read_csv(tmp_path / "mine/mine.item", delimiter="\t", engine="python")
    assert list(items.columns) == ["item_id:token", "title:token_seq", "weight:float"]
    assert set(items["title:token_seq"]) == {"A 'quoted' title of two lines"}


def test_a_single_file_has_every_row_and_no_split(tmp_path: Path) -> None:
    data = log()
    export_recbole(data, tmp_path / "mine", single=True)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "mine.inter",
        "mine.item",
        "mine.user",
        "mine.yaml",
    ]
    again = import_recbole(tmp_path / "mine", filters=ReviewFilters(duplicates="keep", split="random"))
    assert [row[:4] for row in interactions(again)] == [row[:4] for row in interactions(data)]


def test_training_pairs_with_a_held_out_explanation_are_not_given_to_others(tmp_path: Path) -> None:
    visits = pl.DataFrame(
        {"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"], "split": ["train", "train", "test"]}
    )
    said = pl.DataFrame({"user_id": ["a"], "item_id": ["y"], "text": ["fine"], "split": ["test"]})
    data = make_dataset("x", {"interactions": visits, "explanations": said})
    for graph, train in (("leak-free", [("a", "x")]), ("as-published", [("a", "x"), ("a", "y")])):
        export_recbole(data, tmp_path / "d", graph=graph)  # type: ignore[arg-type]
        rows = import_recbole(tmp_path / "d").tables["interactions"].filter(split="train")
        assert list(rows.select("user_id", "item_id").iter_rows()) == train


def test_what_recbole_cannot_hold_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    visits = pl.DataFrame({"user_id": ["a\tb"], "item_id": ["x"], "split": ["train"]})
    with pytest.raises(UserError, match=r"user_id 'a\\tb': RecBole's files cannot hold"):
        export_recbole(make_dataset("x", {"interactions": visits}), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "own.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that forwhy did not write"):
        export_recbole(log(), tmp_path / "notes")
    assert (tmp_path / "notes" / "own.txt").read_text() == "mine"


ML = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_files_of_others_are_read_with_their_names_mapped(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "yelp",
        yelp__inter="\ufeffreview_id:token\tuser_id:token\tbusiness_id:token\tstars:float\tdate:float\r\n"
        + "".join(f"r{k}\tu{k % 2}\tb{k}\t{k % 5}.0\t{1e9 + k}\r\n" for k in range(8)),
        yelp__item="business_id:token\titem_name:token_seq\tcategories:token_seq\tstars:float\n"
        + "".join(f"b{k}\tBar {k}\tPubs & Bars\t{'' if k else 4.5}\n" for k in range(9)),
    )
    names = {"item_id": "business_id", "rating": "stars", "timestamp": "date", "title": "item_name"}
    data = import_recbole(folder, names=names)
    assert data.tables["interactions"].height == 8
    assert data.tables["interactions"]["timestamp"].min() == 1_000_000_000
    assert data.summary()["interactions"] == {"train": 4, "valid": 2, "test": 2}
    assert data.tables["items"].row(0, named=True) == {
        "item_id": "b0",
        "title": "Bar 0",
        "categories": "Pubs & Bars",
        "rating": 4.5,
    }
    assert "reviews" not in data.tables


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "found none where NAME.inter"),
        ({"a__inter": ML, "b__inter": ML}, "found a.inter, b.inter where"),
        ({"a__train__inter": ML, "a__test__inter": ML}, "found a.test.inter, a.train.inter where"),
        ({"a__inter": ""}, "empty file"),
        ({"a__inter": "user_id,item_id\n1,2\n"}, "row 0: 'user_id,item_id' is no header"),
        ({"a__inter": "user_id:token\tx:token\n"}, "no field 'item_id' .it has: user_id, x.; map it"),
        ({"a__inter": "user_id:token\titem_id_list:token_seq\titem_id:token\n"}, "sequences .item_id_list"),
        ({"a__inter": ML}, "a.inter: no rows that can be read"),
        ({"a__inter": ML + "u\ti\t1\t1\nu\ti\t1\n"}, "row 2: 3 values in a file of 4 fields"),
        ({"a__inter": ML + "u\ti\tx\t1\n"}, "row 1, column 'rating': not a finite number .'x'."),
        ({"a__inter": ML + "u\ti\tinf\t1\n"}, "row 1, column 'rating': not a finite number"),
        ({"a__inter": ML + "u\ti\t1\t1e30\n"}, "row 1, column 'timestamp': no time"),
        ({"a__inter": ML + "\ti\t1\t1\n"}, "row 1, column 'user_id': empty"),
        (
            {"a__inter": ML + "u\ti\t1\t1\n", "a__item": "item_id:token\nj\n"},
            "a.inter: row 1, column 'item_id': no row about this item",
        ),
        (
            {"a__inter": ML + "u\ti\t1\t1\n", "a__user": "user_id:token\tage:float\nu\told\n"},
            "a.user: row 1, column 'age': not a finite number .'old'.",
        ),
        (
            {
                "a__train__inter": ML,
                "a__valid__inter": ML,
                "a__test__inter": "user_id:token\titem_id:token\n",
            },
            "a.test.inter: other fields than .*a.train.inter",
        ),
    ],
)
def test_bad_atomic_files(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        import_recbole(write(tmp_path / "a", **files))
    assert "\n" not in str(caught.value)


def test_what_the_files_cannot_do_is_refused_before_they_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", a__inter="user_id:token\titem_id:token\n1\t2\nbroken\n")
    with pytest.raises(UserError, match="--min-rating: there are no ratings"):
        import_recbole(folder, filters=ReviewFilters(min_rating=3))
    with pytest.raises(UserError, match="there are no times"):
        import_recbole(folder, filters=ReviewFilters(split="leave-one-out"))
    with pytest.raises(UserError, match="no file has a field 'stars' .there are: user_id, item_id."):
        import_recbole(folder, names={"rating": "stars"})
    with pytest.raises(UserError, match="--map age=years: map one of user_id"):
        import_recbole(folder, names={"age": "years"})
    assert import_recbole(folder, skip_bad=True).summary()["interactions"]["train"] == 1


def test_the_documented_sample_can_be_read(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    sample = document.split("### RecBole atomic files")[1].split("```tsv\n")[1].split("```")[0]
    assert len(sample.splitlines()) == 10
    data = import_recbole(write(tmp_path / "ml", ml__inter=sample))
    assert data.summary()["interactions"] == {"train": 3, "valid": 3, "test": 3}
