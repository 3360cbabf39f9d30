"""An index names every item once, is saved and read back; LC-Rec's files are read, refused with a reason, written."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.dataset import Ids
from forwhy.data.sources import import_lcrec
from forwhy.errors import UserError
from forwhy.vocabulary.index import IndexConfig, ItemIndex, from_json, to_json, unique_index
from forwhy.vocabulary.indexing import build_index

SHARED = Path(os.environ.get("FORWHY_SHARED", Path(__file__).parents[3] / "shared")) / "data"
ITEMS = Ids((1, 2, 3, 4), "item")
SHARING = {"4": ["<a_0>", "<b_7>"], "1": ["<a_2>", "<b_7>"], "2": ["<a_2>", "<b_7>"], "3": ["<a_2>", "<b_7>"]}


def small(codes: list[list[int]], sizes: tuple[int, ...] = (3, 2)) -> ItemIndex:
    names = Ids(tuple("pqrs"[: len(codes)]), "item")
    return ItemIndex(np.array(codes, np.int32), sizes, ("semantic",) * len(sizes), names)


def test_tokens_names_and_rows_agree() -> None:
    index = small([[0, 1], [2, 0], [2, 1]])
    assert index.tokens == ["<a_0>", "<a_1>", "<a_2>", "<b_0>", "<b_1>"]
    assert index.names(1) == ["<a_2>", "<b_0>"]
    assert index.text(0) == "<a_0><b_1>"
    assert [[index.tokens[row] for row in rows] for rows in index.token_rows] == [
        index.names(n) for n in range(3)
    ]


@pytest.mark.parametrize(
    ("codes", "sizes", "complaint"),
    [
        ([[0, 1], [2, 0], [0, 1]], (3, 2), "'p' and 'r' share <a_0><b_1>"),
        ([[0, 1], [3, 0]], (3, 2), "item 'q', level 1: code 3 is not in 0 … 2"),
        ([[0, -1]], (3, 2), "code -1"),
        ([[0]], (3, 2), "1 levels; give as many sizes"),
        ([[0] * 53], (1,) * 53, "53 levels, but tokens have letters for 52"),
    ],
)
def test_broken_indices_are_refused(codes: list[list[int]], sizes: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        small(codes, sizes)


def test_rows_must_be_the_items() -> None:
    with pytest.raises(UserError, match="2 rows of codes for 3 items"):
        ItemIndex(np.array([[0], [1]], np.int32), (2,), ("file",), Ids((1, 2, 3)))


# --- LC-Rec's files, and items that share an index.


def written(folder: Path, document: object) -> Path:
    path = folder / "X.index.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_collisions_are_parted_by_one_more_token_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = from_json(written(tmp_path, SHARING), ITEMS)
    assert [index.text(n) for n in range(4)] == [
        "<a_2><b_7><c_0>",
        "<a_2><b_7><c_1>",
        "<a_2><b_7><c_2>",
        "<a_0><b_7><c_0>",
    ]
    assert index.sizes == (3, 8, 3)
    assert index.sources == ("file", "file", "extra")
    assert index.metrics == {"collision_items": 3, "collision_groups": 1}
    assert "3 of 4 items share 1 indices (at most 3 on one), e.g. 1=2=3" in caplog.text


def test_collisions_can_be_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='3 of 4 items share.*1=2=3.*collisions = "extend"'):
        from_json(written(tmp_path, SHARING), ITEMS, "report")
    config = IndexConfig(source="file", file=written(tmp_path, SHARING), collisions="report")
    with pytest.raises(UserError, match="3 of 4 items share"):
        build_index(ITEMS, config)


def test_unique_files_come_back_as_written(tmp_path: Path) -> None:
    unique = {**SHARING, "2": ["<a_0>", "<b_0>"], "3": ["<a_1>", "<b_7>"]}
    index = from_json(written(tmp_path, unique), ITEMS, "report")
    assert index.levels == 2
    to_json(index, tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == unique


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_parted_codes_are_unique_and_keep_what_was(rows: list[tuple[int, int]]) -> None:
    codes = np.array(rows, np.int32)
    items = Ids(tuple(range(len(rows))), "item")
    index = unique_index(items, codes, (3, 3), ("file", "file"), "drawn")
    shared = [row for row in set(rows) if rows.count(row) > 1]
    assert len(np.unique(index.codes, axis=0)) == len(rows)
    assert np.array_equal(index.codes[:, :2], codes)
    assert index.metrics.get("collision_groups", 0) == len(shared)
    assert index.metrics.get("collision_items", 0) == sum(map(rows.count, shared))
    assert index.sizes == (3, 3, *([max(map(rows.count, shared))] if shared else []))


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("{", "truncated or not JSON"),
        ([], "not an object"),
        ({}, "not an object"),
        ({**SHARING, "5": ["<a_0>", "<b_1>"]}, "1 items that the data set does not have, first '5'"),
        ({"1": ["<a_0>"], "2": ["<a_1>"]}, "2 of 4 items are missing, first 3"),
        ({**SHARING, "01": ["<a_0>", "<b_1>"]}, "item 1 is named twice"),
        ({**SHARING, "3": ["<a_0>"]}, "item '3': 1 tokens where the items before have 2"),
        ({**SHARING, "3": ["<a_0>", "<c_0>"]}, "item '3': token 2 is '<c_0>', not <b_NUMBER>"),
        ({**SHARING, "3": ["<a_0>", "<b_01>"]}, "token 2 is '<b_01>'"),
        ({**SHARING, "3": ["<a_0>", "<b_99999999999>"]}, "token 2 is"),
        (
            {**SHARING, "3": ["<a_0>", "<b_999999999>"]},
            "item '3': code 999999999 of level 2, .* below 65,536",
        ),
        ({**SHARING, "3": "<a_0><b_1>"}, "item '3': not a list of tokens"),
        ({**SHARING, "3": [1, 2]}, "item '3': not a list of tokens"),
        ({item: ["<a_0>"] * 53 for item in "1234"}, "53 tokens, but at most 52"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, document: object, complaint: str) -> None:
    path = written(tmp_path, document)
    with pytest.raises(UserError, match=complaint) as refused:
        from_json(path, ITEMS)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "distinct", "sharing", "groups", "largest"),
    [("beauty", 12_088, 24, 11, 3), ("instruments", 9_897, 48, 23, None)],
)
def test_published_indices(
    tmp_path: Path, name: str, distinct: int, sharing: int, groups: int, largest: int | None
) -> None:
    folder = SHARED / f"amazon-{name}"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here; FORWHY_SHARED names the folder of real data")
    items = import_lcrec(folder).items
    path = folder / f"{name.capitalize()}.index.json"
    index = from_json(path, items)
    assert len(np.unique(index.codes[:, :4], axis=0)) == distinct
    assert index.metrics == {"collision_items": sharing, "collision_groups": groups}
    assert largest in (None, index.sizes[4])
    to_json(index, tmp_path / "again.json")
    assert np.array_equal(from_json(tmp_path / "again.json", items, "report").codes, index.codes)
    shortened = {
        item: tokens[:4] for item, tokens in json.loads((tmp_path / "again.json").read_text()).items()
    }
    assert shortened == json.loads(path.read_text())
