"""A data set: numbering, splits, leak-free edges, what is readable, save and load."""

import errno
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy import frames as stored
from forwhy.columns import SPLITS, TABLES
from forwhy.data.dataset import Dataset, Ids, Pairs, make_dataset
from forwhy.data.sample import little_town
from forwhy.data.stored import content_hash, read_stored
from forwhy.errors import UserError
from forwhy.text.statements import KnownStatements


def tables() -> dict[str, pl.DataFrame]:
    return {
        "interactions": pl.DataFrame(
            {
                "user_id": [10, 10, 2, 2, 7, 7],
                "item_id": ["b", "a", "a", "c", "b", "d"],
                "split": ["train", "val", "train", "test", "train", "train"],
            }
        ),
        "items": pl.DataFrame(
            {"item_id": ["d", "c", "b", "a"], "title": ["D", None, "B", "A"], "categories": [["x", "y"]] * 4}
        ),
        "explanations": pl.DataFrame(
            {
                "user_id": ["10", "7", "2"],
                "item_id": ["b", "b", "c"],
                "text": ["because b", "held out", "ranked on"],
                "split": ["train", "test", "train"],
            }
        ),
        "reviews": pl.DataFrame(
            {
                "user_id": [10, 7, 2, 7],
                "item_id": ["b", "b", "c", "d"],
                "text": ["r1", "secret", "tested", "r2"],
            }
        ),
        "intents": pl.DataFrame(
            {
                "side": ["user", "user", "user", "item"],
                "entity_id": ["10", "10", "10", "a"],
                "rank": [1, 2, 1, 1],
                "phrase": ["hates noise", "likes tea", "likes books", "quiet"],
                "attitude": ["dislike", "like", "like", "like"],
            }
        ),
        "profiles": pl.DataFrame({"side": ["user"], "entity_id": ["7"], "text": ["A person."]}),
    }


@pytest.fixture
def small() -> Dataset:
    return make_dataset("small", tables(), {"importer": "test"})


def test_ids_are_numbered_by_value_not_by_row(small: Dataset) -> None:
    assert small.users.values == (2, 7, 10)
    assert small.items.values == ("a", "b", "c", "d")
    assert small.users.index("10") == small.users.index(10) == 2


def test_an_id_without_its_leading_zeros_names_the_whole_one() -> None:
    ids = Ids(("0021", "0042", "0420", "4200", "0024", "x42"), "user")
    with pytest.raises(UserError, match=r"unknown user id '42'; nearest: 0042"):
        ids.index("42")
    with pytest.raises(UserError, match=r"nearest: 007"):
        Ids(("001", "007", "017"), "item").index(7)


def test_unknown_id_names_the_nearest() -> None:
    ids = Ids(("anna", "bert", "berta"), "user")
    with pytest.raises(UserError, match=r"unknown user id 'berd'; nearest: bert"):
        ids.index("berd")
    with pytest.raises(UserError, match=r"unknown item id '12a'.*0 to 3"):
        Ids((0, 1, 2, 3), "item").index("12a")
    assert ids.numbers(["berta", "x", "anna"]).tolist() == [2, -1, 0]


def test_leading_zeros_are_text_not_numbers() -> None:
    frame = pl.DataFrame({"user_id": ["007", "8"], "item_id": ["1", "2"], "split": ["train", "test"]})
    dataset = make_dataset("zeros", {"interactions": frame})
    assert dataset.users.values == ("007", "8")
    assert dataset.items.values == (1, 2)


def test_leak_free_edges_miss_exactly_the_heldout_pairs(small: Dataset) -> None:
    published = {tuple(edge) for edge in small.edges("train", "as-published").tolist()}
    free = {tuple(edge) for edge in small.edges("train").tolist()}
    assert published == {(2, 1), (0, 0), (1, 1), (1, 3)}
    assert published - free == {tuple(pair) for pair in small.heldout_pairs().tolist()} == {(1, 1)}
    assert small.edges("valid").tolist() == [[2, 0]]
    assert small.heldout_entities("user").tolist() == [1]


def test_edges_are_distinct_and_sorted() -> None:
    frame = pl.DataFrame(
        {"user_id": [1, 1, 0], "item_id": [5, 5, 9], "timestamp": [0, 1, 2], "split": ["train"] * 3}
    )
    dataset = make_dataset("again", {"interactions": frame}, duplicates="keep")
    assert dataset.edges("train").tolist() == [[0, 1], [1, 0]]
    assert dataset.summary()["interactions"]["train"] == 3


def test_pairs_and_reviews_show_no_heldout_text(small: Dataset) -> None:
    assert small.pairs("train").texts == ("because b", "ranked on")
    assert small.pairs("train", clear_of_interactions=True).texts == ("because b",)
    assert small.training_reviews().texts == ("r1", "r2")
    picked = small.pairs("train").select([1, 1, 0])
    assert picked.texts == ("ranked on", "ranked on", "because b")
    assert picked.users.tolist() == [0, 0, 2]
    assert len(Pairs(picked.users, picked.items, picked.texts)) == 3


def test_item_texts_and_phrases(small: Dataset) -> None:
    assert small.titles() == ["A", "B", "", "D"]
    assert small.item_texts()[0] == "A. x, y"
    assert small.item_texts()[2] == "x, y"
    assert small.phrases("user") == {2: ["likes books", "likes tea"]}
    assert small.phrases("user", "dislike") == {2: ["hates noise"]}
    assert small.phrases("item", "dislike") == {}
    assert small.phrases("item") == {0: ["quiet"]}
    assert small.profiles("user") == {1: "A person."}
    assert small.profiles("item") == {}


def test_a_column_of_numbers_is_text_and_what_is_missing_is_nothing() -> None:
    items = pl.DataFrame({"item_id": ["d", "c", "b", "a"], "brand": [None, 7, None, 3]})
    told = make_dataset("numbers", tables() | {"items": items})
    assert told.item_column("brand") == ["3", "", "7", ""]
    assert told.item_attributes() == [["3"], [], ["7"], []]
    assert told.item_texts() == [""] * 4  # a number says nothing to a reader of texts
    assert KnownStatements.read(told).table.filter(source="brand").is_empty()


def test_lists_and_records_of_items_are_terms_and_a_comma_in_one_is_a_space() -> None:
    """However they come: nested, as text, with nothing in some; a column of the caller's own stays a record."""
    told = [{"color": "red, dark", "new": True}, None, {"color": "blue", "new": False}, None]
    written = ['["Home, garden", "Pens"]', "Home, garden", None, "[an aside] Pens"]
    frame = {"item_id": ["a", "b", "c", "d"], "categories": written, "attributes": told, "own": told}
    dataset = make_dataset("terms", tables() | {"items": pl.DataFrame(frame)})
    assert dataset.item_column("categories") == ["Home garden, Pens", "Home, garden", "", "[an aside] Pens"]
    assert dataset.item_attributes() == [
        ["Home garden", "Pens", "color: red dark", "new"],
        ["Home", "garden"],
        ["color: blue"],
        ["[an aside] Pens"],
    ]
    assert json.loads(dataset.table("items")["own"][0]) == told[0]
    assert make_dataset("again", dataset.tables).fingerprint == dataset.fingerprint


def test_summary_is_the_documented_json(small: Dataset) -> None:
    summary = json.loads(json.dumps(small.summary()))
    counts = ["users", "items", "interactions", "explanations", "titles", "descriptions"]
    counts += ["reviews", "intents", "profiles"]
    assert list(summary) == ["name", *counts, "leaks", "fingerprint"]
    rows = [small.table(name).height for name in ("reviews", "intents", "profiles")]
    assert [summary[name] for name in counts[4:]] == [3, 0, *rows]
    assert summary["users"] == 3
    assert summary["interactions"] == {"train": 4, "valid": 1, "test": 1}
    assert summary["explanations"] == {"train": 2, "valid": 0, "test": 1}
    assert summary["leaks"]["heldout_pairs_in_train_graph"] == 1
    assert summary["leaks"]["train_explanations_in_heldout_interactions"] == 1
    assert summary["leaks"]["profiles_possibly_leaking"] is True


def test_load_equals_save(small: Dataset, tmp_path: Path) -> None:
    small.save(tmp_path / "out")
    again = Dataset.load(tmp_path / "out")
    assert again.fingerprint == small.fingerprint
    assert (again.name, dict(again.source)) == ("small", {"importer": "test"})
    assert again.users == small.users
    assert all(again.tables[name].equals(frame) for name, frame in small.tables.items())
    small.save(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_fingerprint_sees_every_value(small: Dataset) -> None:
    assert make_dataset("other name", tables()).fingerprint == small.fingerprint
    for name, column in (("interactions", "split"), ("explanations", "text"), ("intents", "phrase")):
        changed = tables()
        values = changed[name][column].to_list()
        values[0] = "test" if column == "split" else values[0] + "."
        changed[name] = changed[name].with_columns(pl.Series(column, values))
        assert make_dataset("small", changed).fingerprint != small.fingerprint
    moved = tables()
    moved["explanations"] = moved["explanations"].with_columns(
        pl.Series("text", ["because bh", "eld out", "ranked on"])
    )
    assert make_dataset("small", moved).fingerprint != small.fingerprint


def test_tables_left_in_their_files_say_the_same(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save(tmp_path / "data")
    monkeypatch.setattr(stored, "HELD_ROWS", 0)
    monkeypatch.setattr(stored, "ROWS_AT_ONCE", 2)
    left = Dataset.load(tmp_path / "data")
    with monkeypatch.context() as only:
        only.delattr(stored.StoredTables, "__getitem__")  # none of these reads a whole table
        left.edges("train"), left.summary(), repr(left), left.who_took_what, left.training_reviews()
    assert left.summary() == small.summary()
    assert content_hash(left.tables) == left.fingerprint == small.fingerprint
    assert left.who_took_what == small.who_took_what
    assert repr(left) == repr(small)
    for split in SPLITS:
        for graph in ("leak-free", "as-published"):
            np.testing.assert_array_equal(left.edges(split, graph), small.edges(split, graph))
        assert left.pairs(split, True).texts == small.pairs(split, True).texts
    assert left.training_reviews().texts == small.training_reviews().texts
    assert all(left.table(name).equals(small.table(name)) for name in TABLES)
    assert left.profiles("user") == small.profiles("user")
    left.save(tmp_path / "again")
    assert Dataset.load(tmp_path / "again").fingerprint == small.fingerprint


def test_a_large_table_that_is_replaced_while_it_is_open_is_refused(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save(tmp_path / "data")
    monkeypatch.setattr(stored, "HELD_ROWS", 0)
    left = Dataset.load(tmp_path / "data")
    other = {**tables(), "interactions": tables()["interactions"].head(4)}
    make_dataset("small", {name: other[name] for name in ("interactions", "items")}).save(tmp_path / "data")
    with pytest.raises(UserError, match=r"interactions\.parquet: was replaced .* run the command again"):
        left.edges("train")


@pytest.mark.parametrize("held", [0, 1 << 24])
def test_a_table_with_broken_pages_is_refused(
    tmp_path: Path, small: Dataset, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    small.save(tmp_path / "data")
    path = tmp_path / "data" / "interactions.parquet"
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56  # the first pages; what the file's end says of them stays
    path.write_bytes(content)
    monkeypatch.setattr(stored, "HELD_ROWS", held)
    with pytest.raises(UserError, match="truncated or not parquet .*; import the data set anew"):
        read_stored(tmp_path / "data", ["interactions.parquet"])


def test_altered_truncated_and_foreign_folders_are_refused(small: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    small.save(folder)
    whole = (folder / "explanations.parquet").read_bytes()
    (folder / "explanations.parquet").write_bytes(whole[:-7])
    with pytest.raises(UserError, match=r"explanations\.parquet: truncated"):
        Dataset.load(folder)
    (folder / "explanations.parquet").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UserError, match=r"explanations\.parquet: altered"):
        Dataset.load(folder)
    (folder / "explanations.parquet").unlink()
    with pytest.raises(UserError, match=r"explanations\.parquet: missing"):
        Dataset.load(folder)
    marker = folder / "dataset.json"
    marker.write_text(marker.read_text().replace('"small"', '"large"'))
    with pytest.raises(UserError, match=r"dataset\.json: altered"):
        Dataset.load(folder)
    marker.write_text(marker.read_text()[:40])
    with pytest.raises(UserError, match=r"dataset\.json: row .* truncated"):
        Dataset.load(folder)
    marker.write_text("[1]")
    with pytest.raises(UserError, match="not written by forwhy"):
        Dataset.load(folder)
    with pytest.raises(UserError, match="no such folder"):
        Dataset.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="not a data set"):
        Dataset.load(tmp_path / "empty")


def test_a_folder_that_is_no_data_set_stays_untouched(small: Dataset, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.txt").write_text("cat")
    with pytest.raises(UserError, match="photos"):
        small.save(tmp_path / "photos")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file"):
        small.save(tmp_path / "file")


def test_full_disk_leaves_the_old_data_set(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save(tmp_path / "out")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(UserError, match="out"):
        little_town(users=20, items=20).save(tmp_path / "out")
    monkeypatch.undo()
    assert Dataset.load(tmp_path / "out").fingerprint == small.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def bad(table: str, column: str, values: list[object]) -> dict[str, pl.DataFrame]:
    frames = tables()
    frames[table] = frames[table].with_columns(pl.Series(column, values, strict=False))
    return frames


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (bad("interactions", "user_id", [10, 10, None, 2, 7, 7]), "row 3, column 'user_id': empty id"),
        (bad("interactions", "user_id", [10.0, float("nan"), 2.0, 2.0, 7.0, 7.0]), "row 2.*NaN"),
        (bad("interactions", "user_id", [10.0, 10.5, 2.0, 2.0, 7.0, 7.0]), "row 2.*10.5 is not an id"),
        (bad("interactions", "rating", [1.0, 2.0, 3.0, float("inf"), 5.0, 1.0]), "row 4, column 'rating'"),
        (bad("interactions", "rating", ["1", "2", "3", "4", "five", "1"]), "row 5.*'five' is not a number"),
        (
            bad("interactions", "split", ["train", "train", "later", "test", "train", "train"]),
            "row 3.*'later'",
        ),
        (bad("explanations", "text", ["a", "  ", "c"]), "explanations: row 2, column 'text': empty"),
        (bad("explanations", "user_id", ["10", "99", "2"]), "row 2, column 'user_id': user '?99'? is not in"),
        (bad("explanations", "item_id", ["b", "b", "zz"]), "row 3, column 'item_id': item 'zz' is not in"),
        (
            bad("intents", "entity_id", ["10", "10", "11", "a"]),
            "intents: row 3, column 'entity_id': user '11'",
        ),
        (bad("intents", "side", ["user", "user", "person", "item"]), "intents: row 3.*neither 'user' nor"),
        (bad("items", "item_id", ["d", "c", "b", "b"]), "items: row 4.*duplicate of row 3"),
        (bad("interactions", "item_id", ["b", "b", "a", "c", "b", "d"]), "row 2.*duplicate of row 1"),
        ({"interactions": tables()["interactions"].drop("item_id")}, "no column item_id .it has: user_id"),
        ({"interactions": tables()["interactions"].clear()}, "interactions: no rows"),
        ({"items": tables()["items"]}, "interactions: no rows"),
        (tables() | {"ratings": tables()["items"]}, "table 'ratings' is not one of"),
    ],
)
def test_bad_tables_are_refused_in_one_line(frames: dict[str, pl.DataFrame], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make_dataset("bad", frames)
    assert "\n" not in str(caught.value)


def test_first_of_duplicates_can_be_kept() -> None:
    frames = bad("interactions", "item_id", ["b", "b", "a", "c", "b", "d"])
    assert make_dataset("first", frames, duplicates="first").edges("train", "as-published").shape == (4, 2)


def test_hundred_thousand_characters_are_kept_whole(tmp_path: Path) -> None:
    long = "<|im_end|> and so on. " * 5000
    frames = bad("explanations", "text", [long, "held out", "ranked on"])
    dataset = make_dataset("long", frames)
    dataset.save(tmp_path / "long")
    assert Dataset.load(tmp_path / "long").pairs("train").texts[0] == long


def test_user_error_is_one_line() -> None:
    assert str(UserError("a\nb\tc")) == "a b c"


def test_tables_without_text_are_a_data_set() -> None:
    dataset = make_dataset("bare", {"interactions": tables()["interactions"]})
    assert dataset.titles() == dataset.item_texts() == [""] * 4
    assert len(dataset.pairs("train")) == len(dataset.training_reviews()) == 0
    assert dataset.edges("train").dtype == np.int64
    assert dataset.summary()["leaks"]["heldout_pairs"] == 0
