"""LC-Rec's trio: the last item is the test, repeats stay, and broken files are named."""

import json
from pathlib import Path

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.sources import import_lcrec
from forwhy.data.sources.papers import export_lcrec
from forwhy.errors import UserError


def lcrec(folder: Path, histories: object, items: object = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Toys.inter.json").write_text(json.dumps(histories))
    if items is not None:
        (folder / "Toys.item.json").write_text(json.dumps(items))
    return folder


def test_last_is_test_and_repeats_stay(tmp_path: Path) -> None:
    facts = {
        str(item): {"title": f"Toy {item}", "description": "['a <b>big</b> one', 'two']"} for item in range(5)
    }
    dataset = import_lcrec(lcrec(tmp_path / "toys", {"0": [3, 1, 3, 2], "1": [0, 4], "2": []}, facts))
    rows = dataset.tables["interactions"].select("user_id", "item_id", "timestamp", "split").rows()
    assert rows == [
        (0, 3, 0, "train"),
        (0, 1, 1, "train"),
        (0, 3, 2, "valid"),
        (0, 2, 3, "test"),
        (1, 0, 0, "train"),
        (1, 4, 1, "train"),
    ]
    assert dataset.name == "Toys"
    assert dataset.item_texts()[0] == "Toy 0. a big one two"


def test_terms_of_every_shape_are_attributes_and_words_of_them_texts(tmp_path: Path) -> None:
    facts = {
        "0": {"title": "A", "attributes": [173, 1]},
        "1": {
            "title": "B",
            "attributes": ["soft", "red, dark"],
            "brand": "Nut, Inc.",
            "categories": "Pens, Ink",
        },
        "2": {"title": "C", "attributes": {"color": "blue", "size": 3}},
        "3": {"title": "D", "attributes": 7, "categories": []},
        "4": {"title": "E", "attributes": None},
    }
    dataset = import_lcrec(lcrec(tmp_path, {"0": [0, 1, 2, 3, 4]}, facts))
    assert dataset.item_attributes() == [
        ["173", "1"], ["Nut, Inc.", "Pens", "Ink", "soft", "red dark"], ["color: blue", "size: 3"], ["7"], [],
    ]  # fmt: skip
    assert dataset.item_texts() == [
        "A",
        "B. Nut, Inc., Pens, Ink, soft, red dark",
        "C. color: blue, size: 3",
        "D",
        "E",
    ]


@pytest.mark.parametrize(
    ("histories", "items", "message"),
    [
        ([1, 2], None, r"Toys\.inter\.json: not an object"),
        ({"0": [1], "1": 5}, None, r"row 2, user '1': not a list"),
        ({"0": [1], "1": [None]}, None, r"row 2, user '1'"),
        ({"0": [1, 2]}, {"1": {"title": "x"}}, r"inter\.json: row 1, column 'item_id': item 2 is not in"),
        ({"0": [1]}, {"1": "x"}, r"item\.json: row 1, item '1': not a JSON dict"),
    ],
)
def test_bad_trios(tmp_path: Path, histories: object, items: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_lcrec(lcrec(tmp_path, histories, items))


def test_broken_json_names_the_place(tmp_path: Path) -> None:
    folder = lcrec(tmp_path, {"0": [1, 2, 3]})
    (folder / "Toys.inter.json").write_text('{"0": [1,\n2, ')
    with pytest.raises(UserError, match=r"Toys\.inter\.json: row 2, column \d+: truncated"):
        import_lcrec(folder)
    (folder / "Toys.inter.json").unlink()
    with pytest.raises(UserError, match="found none"):
        import_lcrec(folder)


def test_export_then_import_changes_nothing(tmp_path: Path) -> None:
    facts = {
        str(item): {"title": f"Töy {item}", "description": f'a "big" one,\n{item}', "brand": ""}
        for item in range(5)
    }
    folder = lcrec(tmp_path / "raw", {"0": [3, 1, 3, 2], "1": [0, 4], "7": [4, 4, 1]}, facts)
    codes = {str(item): [f"<a_{item}>", f"<b_{item % 2}>"] for item in range(5)}
    (folder / "Toys.index.json").write_text(json.dumps(codes))
    dataset = import_lcrec(folder)
    export_lcrec(dataset, tmp_path / "Toys")
    again = import_lcrec(tmp_path / "Toys")
    assert again.fingerprint == dataset.fingerprint
    assert json.loads((tmp_path / "Toys" / "Toys.inter.json").read_text())["0"] == [3, 1, 3, 2]
    assert json.loads((tmp_path / "Toys" / "Toys.index.json").read_text()) == codes
    export_lcrec(again, tmp_path / "Toys")  # an earlier export is replaced


def log(*rows: tuple[str, str, int, str]) -> Dataset:
    columns = ["user_id", "item_id", "timestamp", "split"]
    return make_dataset("x", {"interactions": pl.DataFrame(list(rows), schema=columns, orient="row")})


def test_what_the_format_cannot_hold_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = log(
        ("ann", "b", 5, "valid"), ("ann", "a", 3, "train"), ("ann", "c", 9, "test"), ("bob", "a", 1, "train")
    )
    export_lcrec(kept, tmp_path / "it")
    assert not caplog.records
    assert json.loads((tmp_path / "it" / "it.inter.json").read_text()) == {
        "ann": ["a", "b", "c"],
        "bob": ["a"],
    }
    assert not (tmp_path / "it" / "it.item.json").exists()
    back = import_lcrec(tmp_path / "it").tables["interactions"].select("user_id", "item_id", "split")
    assert back.sort("user_id", "item_id").equals(
        kept.tables["interactions"].select("user_id", "item_id", "split").sort("user_id", "item_id")
    )
    other = log(("ann", "a", 3, "train"), ("ann", "b", 5, "train"), ("ann", "c", 9, "test"))
    export_lcrec(other, tmp_path / "other")
    assert "1 users have other items left out" in caplog.text
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files that forwhy did not write"):
        export_lcrec(kept, tmp_path / "notes")
