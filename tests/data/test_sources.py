"""Importers: what others publish, and everything that can be wrong with it."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sources import SOURCES, import_lcrec, import_tables, import_xrec, safe_pickle
from forwhy.data.sources.files import clean_text
from forwhy.errors import UserError

SHARED = Path(os.environ.get("FORWHY_SHARED", Path(__file__).parents[3] / "shared")) / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}")
pandas = pytest.importorskip("pandas")

IMDB = {
    "interactions.user_id": "user",
    "interactions.item_id": "movie",
    "items.item_id": "movie",
    "items.categories": "genres",
    "items.description": "plot",
    "intents.entity_id": "id",
}


def imdb() -> Dataset:
    folder = SHARED / "imdb"
    return import_tables(
        folder / "interactions.csv",
        items=folder / "movies.jsonl",
        intents=folder / "preferences.jsonl",
        columns=IMDB,
        unknown_ids="allow",
    )


@real
@pytest.mark.parametrize(
    ("read", "counts"),
    [
        (lambda: import_xrec(SHARED / "xrec-yelp"), (15962, 14085, 393680, 3000)),
        (lambda: import_xrec(SHARED / "xrec-amazon"), (15349, 15247, 360839, 3000)),
        (lambda: import_lcrec(SHARED / "amazon-beauty"), (22363, 12101, 198502, 0)),
        (lambda: import_lcrec(SHARED / "amazon-instruments"), (24772, 9922, 206153, 0)),
        (lambda: import_lcrec(SHARED / "amazon-industrial"), (3285, 3686, 22174, 0)),
        (imdb, (791, 1155, 14613, 0)),
    ],
    ids=["yelp", "amazon", "beauty", "instruments", "industrial", "imdb"],
)
def test_real_folders_have_their_published_counts(
    read: Callable[[], Dataset], counts: tuple[int, ...]
) -> None:
    dataset = read()
    summary = dataset.summary()
    totals = (sum(summary["interactions"].values()), sum(summary["explanations"].values()))
    assert (summary["users"], summary["items"], *totals) == counts
    assert all(summary["interactions"].values())


@real
def test_yelp_leaks_as_measured_and_texts_are_untouched() -> None:
    dataset = import_xrec(SHARED / "xrec-yelp")
    theirs = pandas.read_pickle(SHARED / "xrec-yelp" / "tst.pkl")
    ours = {
        (user, item): text
        for split in ("train", "valid", "test")
        for pairs in [dataset.pairs(split)]
        for user, item, text in zip(pairs.users.tolist(), pairs.items.tolist(), pairs.texts, strict=True)
    }
    assert ours == {(row.uid, row.iid): row.explanation for row in theirs.itertuples()}
    graph = {tuple(edge) for edge in dataset.edges("train", "as-published").tolist()}
    assert round(sum(pair in graph for pair in ours) / len(ours), 3) == 0.811
    free = {tuple(edge) for edge in dataset.edges("train").tolist()}
    assert not free & {tuple(pair) for pair in dataset.heldout_pairs().tolist()}
    assert dataset.titles()[int(theirs.iid.iloc[0])] == theirs.title.iloc[0]


@real
def test_imdb_phrases_of_both_sides() -> None:
    dataset = imdb()
    first = dataset.users.index("u0000")
    assert dataset.phrases("user")[first][0] == "Enjoys unexpected twists and turns"
    assert len(dataset.phrases("item")) == 1153
    assert dataset.source["unknown_ids"]["items in interactions only, kept without facts"] == 251


# --- pickles ---


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


class Sly:
    """Asks for eval."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1",)


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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", ["str", object])
def test_frames_come_back_as_pandas_reads_them(tmp_path: Path, protocol: int, dtype: object) -> None:
    made = frame().astype({"title": dtype})
    made["score"] = np.linspace(0, 1, 40)
    made["flag"] = made["uid"] > 3
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(made, protocol=protocol))
    ours = safe_pickle.load(path)
    assert ours.columns == list(made.columns)
    assert ours.rows() == [tuple(row) for row in made.itertuples(index=False)]
    path.write_bytes(pickle.dumps(made.iloc[::-2], protocol=protocol))
    assert safe_pickle.load(path).rows() == [tuple(row) for row in made.iloc[::-2].itertuples(index=False)]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [Evil, lambda _: Sly(), lambda trace: [1, {"a": Evil(trace)}]])
def test_malicious_pickle_is_refused_and_runs_nothing(
    tmp_path: Path, wrap: Callable[[Path], object], protocol: int
) -> None:
    path, trace = tmp_path / "tst.pkl", tmp_path / "was-here"
    path.write_bytes(pickle.dumps(wrap(trace), protocol=protocol))
    with pytest.raises(UserError, match=r"tst\.pkl: refused: .*nothing was executed"):
        safe_pickle.load(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"cnumpy\nndarray\n(dS'__setstate__'\ncnumpy\ndtype\nsb.",  # sets an attribute of a class
        b"cnumpy.core.multiarray\n_reconstruct\n\x8c\x01xR.",
        b"(I1\nios\nsystem\n.",
        b"\x80\x02\x82\x01.",
        b"Pabc\n.",
        b"\x80\x04]\x94r\xff\xff\xff\xff\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"cnumpy\ndtype.__class__\n.",
    ],
)
def test_crafted_programs_are_refused(tmp_path: Path, program: bytes) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(program)
    with pytest.raises(UserError, match=r"x\.pkl"):
        safe_pickle.load(path)


def test_truncated_pickle_is_named_at_every_length(tmp_path: Path) -> None:
    whole = pickle.dumps(frame(6))
    path = tmp_path / "tst.pkl"
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"tst\.pkl: (truncated|empty)"):
            safe_pickle.load(path)


# --- XRec ---


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


# --- LC-Rec ---


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


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("<p>One&nbsp;&amp; two</p><script>alert(1)</script>", "One & two"),
        ("['a', \"b's\"]", "a b's"),
        ("[not a list]", "[not a list]"),
        ("2 < 3 and 5 > 4", "2 < 3 and 5 > 4"),
        (None, ""),
        (["x", "y"], "x y"),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
    ],
)
def test_item_text_is_cleaned(dirty: object, clean: str) -> None:
    assert clean_text(dirty) == clean


def test_sources_are_registered() -> None:
    assert set(SOURCES) == {"amazon", "yelp", "google", "recbole", "xrec", "lcrec", "tables"}
