"""Ids, pairs and tables of pandas, polars and plain Python; what is large is shown by counts."""

import sys

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Dataset, Ids, Pairs
from forwhy.data.histories import Catalogue
from forwhy.errors import UserError
from forwhy.explain.evidence import Evidence, Explanation
from forwhy.frames import Shown, Table, ids_of, pairs_of
from forwhy.recommend.base import PopularityRecommender

IDS = [3, 1, 2]


@pytest.mark.parametrize(
    "given",
    [
        IDS,
        tuple(IDS),
        iter(IDS),
        np.array(IDS),
        [np.int64(3), 1.0, 2],
        pl.Series(IDS),
        pl.DataFrame({"user_id": IDS, "other": "x"}),
        pl.LazyFrame({"user_id": IDS}),
    ],
    ids=lambda given: type(given).__name__,
)
def test_ids_of_any_library(given: object) -> None:
    found = ids_of(given, "user_id")
    assert found == IDS
    assert {type(one) for one in found} == {int}


def test_ids_of_a_pandas_column_that_a_gap_made_decimals() -> None:
    frame = pytest.importorskip("pandas").DataFrame({"user_id": [*IDS, None]}).dropna()
    assert frame["user_id"].dtype == float
    for given in (frame, frame["user_id"]):
        assert str(ids_of(given, "user_id")) == str(IDS)


def test_one_id_is_a_list_of_one() -> None:
    assert ids_of("ann", "user_id") == ["ann"]
    assert ids_of(np.int64(7), "user_id") == ids_of(7, "user_id") == [7]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pl.DataFrame({"user": [1]}), "no column 'user_id'; it has user"),
        ([1, None], "row 2: None is no user_id"),
        ([float("nan")], "row 1: nan is no user_id"),
        ([1.5], "row 1: 1.5 is no user_id"),
    ],
)
def test_what_is_no_id(given: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        ids_of(given, "user_id")


def test_pairs_of_any_library() -> None:
    wanted = [("ann", 3), ("ben", 1)]
    frame = pl.DataFrame(wanted, schema=["user_id", "item_id"], orient="row").with_columns(score=1.0)
    assert pairs_of(frame) == pairs_of(wanted) == pairs_of([list(pair) for pair in wanted]) == wanted
    assert pairs_of([("ann", np.int64(3))]) == [("ann", 3)]
    with pytest.raises(UserError, match=r"row 1: 'ann' is no pair; give \(user, item\)"):
        pairs_of(["ann", "ben"])


def test_a_table_becomes_a_pandas_frame() -> None:
    pytest.importorskip("pyarrow")
    found = Table({"user_id": ["ann"], "score": [1.0]}).to_pandas()
    assert found.to_dict("list") == {"user_id": ["ann"], "score": [1.0]}


def test_without_pyarrow_the_remedy_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwhy.errors.find_spec", lambda name: None if name == "pyarrow" else sys)
    with pytest.raises(
        UserError, match=r"^pyarrow is not installed; `pip install 'forwhy\[pandas\]'` brings it$"
    ):
        Table({"a": [1]}).to_pandas()


def test_a_notebook_shows_titles_as_text() -> None:
    assert "<script>" not in Table({"title": ["<script>x</script>"]})._repr_html_()


def test_what_is_large_is_shown_by_counts(tiny_town: Dataset) -> None:
    """And a text that somebody wrote is text, in a notebook too."""
    many = Ids(tuple(range(1_000_000)), "item")
    assert repr(many) == "<Ids: 1,000,000 entries>"
    assert repr(Pairs(np.arange(2), np.arange(2), ("a", "b"))) == "<Pairs: 2 entries>"
    edges = tiny_town.edges("train")
    known = f"40 users, 30 items, {len(edges)} training pairs"
    assert repr(Catalogue.of(tiny_town, edges)) == f"<Catalogue: {known}>"
    assert repr(PopularityRecommender.fit(tiny_town)) == f"<PopularityRecommender: {known}>"
    assert repr(tiny_town).startswith("<Dataset: name ")
    assert f"{tiny_town.table('interactions').height} interactions" in repr(tiny_town)
    told = Explanation("<b>so</b>", [], Evidence())
    assert repr(told) == "<Explanation: text '<b>so</b>', 0 tokens, 0 statements, 0 claims>"
    assert "<td>&lt;b&gt;so&lt;/b&gt;</td>" in told._repr_html_()
    assert "<th>entries</th><td>1,000,000</td>" in many._repr_html_()
    assert repr(Shown()) == "<Shown>"
