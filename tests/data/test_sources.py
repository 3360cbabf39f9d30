"""Importers: what others publish, and everything that can be wrong with it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sources import SOURCES, import_lcrec, import_tables, import_xrec

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
    assert dataset.source["notes"]["items in interactions only, kept without facts"] == 251


def test_sources_are_registered() -> None:
    assert set(SOURCES) == {"amazon", "yelp", "google", "recbole", "xrec", "nlg4rs", "lcrec", "tables", "sql"}
