"""XRec's folders: splits, edges from neighbour lists, and everything that can be wrong with them."""

import pickle
from pathlib import Path

import numpy as np
import pandas
import polars as pl
import pytest

from forwhy.data.sources import import_xrec
from forwhy.errors import UserError

pandas.set_option("mode.string_storage", "python")  # as in published files; pyarrow's arrays are refused


def frame(rows: int = 40) -> "pandas.DataFrame":
    return pandas.DataFrame(
        {
            "uid": np.arange(rows) % 8,
            "iid": np.arange(rows) // 8,
            "title": [f"Title {number // 8}" for number in range(rows)],
            "user_summary": [f"Likes {number % 8}" for number in range(rows)],
            "item_summary": [f"Has {number // 8}" for number in range(rows)],
            "explanation": [f"Because {number}." for number in range(rows)],
        }
    )


def xrec(folder: Path, parts: tuple[str, ...] = ("tst",)) -> Path:
    folder.mkdir()
    pairs = [(user, item) for user in range(8) for item in range(10)]
    for part, rows in (("trn", pairs[:60]), ("val", pairs[60:70]), ("tst", pairs[70:])):
        lines = "".join(f"{user},{item}\n" for user, item in rows)
        (folder / f"total_{part}.csv").write_text("user,item\n" + lines)
    size = 40 // len(parts)
    for number, part in enumerate(parts):
        frame()[number * size : (number + 1) * size].to_pickle(folder / f"{part}.pkl")
    return folder


def test_one_pickle_is_split_with_the_seed(tmp_path: Path) -> None:
    folder = xrec(tmp_path / "x")
    dataset = import_xrec(folder)
    assert dataset.summary()["explanations"] == {"train": 32, "valid": 4, "test": 4}
    assert dataset.name == "x"
    assert import_xrec(folder).fingerprint == dataset.fingerprint
    assert import_xrec(folder, seed=1).fingerprint != dataset.fingerprint
    assert dataset.profiles("user")[3] == "Likes 3"


def test_published_splits_are_kept(tmp_path: Path) -> None:
    three = import_xrec(xrec(tmp_path / "three", ("trn", "val", "tst"))).summary()["explanations"]
    assert three == {"train": 13, "valid": 13, "test": 13}
    two = import_xrec(xrec(tmp_path / "two", ("trn", "tst"))).summary()["explanations"]
    assert two == {"train": 18, "valid": 2, "test": 20}


def test_missing_edges_come_from_the_neighbour_lists(tmp_path: Path) -> None:
    plain = import_xrec(xrec(tmp_path / "plain"))
    folder = xrec(tmp_path / "lists")
    edges = pl.read_csv(folder / "total_trn.csv").group_by("user", maintain_order=True).agg("item")
    lists = [[] for _ in range(8)]
    for user, items in edges.iter_rows():
        lists[user] = items
    (folder / "total_trn.csv").unlink()
    with pytest.raises(UserError, match=r"total_trn\.csv: no such file"):
        import_xrec(folder)
    (folder / "para_dict.pickle").write_bytes(pickle.dumps({"trn_user_nb": lists, "user_num": 8}))
    assert import_xrec(folder).fingerprint == plain.fingerprint
    (folder / "para_dict.pickle").write_bytes(pickle.dumps({"trn_user_nb": [["x"]]}))
    with pytest.raises(UserError, match="para_dict"):
        import_xrec(folder)


def test_bad_xrec_folders(tmp_path: Path) -> None:
    folder = xrec(tmp_path / "x")
    with pytest.raises(UserError, match="no such folder"):
        import_xrec(tmp_path / "none")
    frame().drop(columns="title").to_pickle(folder / "tst.pkl")
    with pytest.raises(UserError, match=r"tst\.pkl: no column 'title'"):
        import_xrec(folder)
    frame().assign(uid=99).head(1).to_pickle(folder / "tst.pkl")
    with pytest.raises(UserError, match=r"tst\.pkl: row 1, column 'uid': user 99 is not in .*total_trn\.csv"):
        import_xrec(folder)
    (folder / "tst.pkl").write_bytes(pickle.dumps(["a"]))
    with pytest.raises(UserError, match="holds list, not a table"):
        import_xrec(folder)
    (folder / "total_val.csv").write_text("")
    with pytest.raises(UserError, match=r"total_val\.csv: empty file"):
        import_xrec(folder)
    (folder / "tst.pkl").unlink()
    (folder / "total_val.csv").write_text("u,i\n1,2\n")
    with pytest.raises(UserError, match="no column 'user'"):
        import_xrec(folder)
