"""LC-Rec's trio: the last item is the test, repeats stay, and broken files are named."""

import json
from pathlib import Path

import pytest

from forwhy.data.sources import import_lcrec
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
