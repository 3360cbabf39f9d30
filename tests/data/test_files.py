"""Rows of long files: plain and gzip read the same, and whatever cannot be read is named by row."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from forwhy.data.sources.files import LONGEST_LINE, BadRows, RowFile, clean_text, json_object
from forwhy.errors import UserError

GOOD = [json.dumps({"k": k}).encode() for k in range(1, 7)]


def read(path: Path, skip: bool = True) -> tuple[list[tuple[int, int]], BadRows]:
    bad = BadRows(skip)
    return [(row, found["k"]) for row, found in RowFile(path, json_object).rows(bad)], bad


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_plain_and_gzip_read_the_same_whatever_they_are_called(tmp_path: Path, newline: bytes) -> None:
    content = b"\xef\xbb\xbf" + newline.join([*GOOD[:2], b"", b"  ", *GOOD[2:]]) + newline + newline
    (tmp_path / "plain.gz").write_bytes(content)
    (tmp_path / "packed.jsonl").write_bytes(gzip.compress(content[:20]) + gzip.compress(content[20:]))
    wanted = [(1, 1), (2, 2), (5, 3), (6, 4), (7, 5), (8, 6)]
    for name in ("plain.gz", "packed.jsonl"):
        rows, bad = read(tmp_path / name, skip=False)
        assert rows == wanted
        assert bad.count == 0


DIRTY = {
    "bad json": (b'{"k": 2', r"row 2: truncated or not JSON"),
    "no object": (b"[2]", r"row 2: not a JSON object but list"),
    "not utf-8": (b'{"k": "\xff\xfe"}', r"row 2: not UTF-8 text; convert the file"),
    "utf-16": ('{"k": 2}'.encode("utf-16"), r"row 2: not UTF-8 text"),
    "10 MB": (b'{"k": "' + b"x" * 10_000_000 + b'"}', rf"row 2: longer than {LONGEST_LINE:,} bytes"),
    "deep": (b"[" * 100_000, r"row 2: truncated or not JSON"),
    "long number": (b'{"k": ' + b"9" * 5000 + b"}", r"row 2: truncated or not JSON"),
}


@pytest.mark.parametrize("kind", DIRTY)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_row_is_named_or_counted_and_the_rest_is_read(tmp_path: Path, kind: str, packed: bool) -> None:
    line, message = DIRTY[kind]
    content = b"\n".join([GOOD[0], line, *GOOD[2:]])
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match=message) as caught:
        read(path, skip=False)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert str(caught.value).endswith("or leave bad rows out with --skip-bad")
    rows, bad = read(path)
    assert rows == [(1, 1), (3, 3), (4, 4), (5, 5), (6, 6)]
    assert bad.count == 1
    assert bad.shown[0].startswith(f"{path}: row 2")
    assert sum(bad.reasons.values()) == 1


def test_a_gzip_stream_that_is_cut_short_gives_its_whole_rows(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = [json.dumps({"k": k, "noise": random.bytes(50).hex()}).encode() for k in range(1, 2001)]
    packed = gzip.compress(b"\n".join(lines))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        UserError, match=r"cut\.jsonl\.gz: row \d+: the packed stream is cut short here; copy"
    ):
        read(path, skip=False)
    rows, bad = read(path)
    assert 800 < len(rows) < 1200
    assert rows == [(k, k) for k in range(1, len(rows) + 1)]
    assert bad.shown == [f"{path}: row {len(rows) + 1}: the packed stream is cut short here"]
    path.write_bytes(packed[:5])
    assert read(path)[1].count == 1
    path.write_bytes(packed[:40] + bytes(1000) + packed[1040:])
    assert "broken packed stream" in read(path)[1].shown[0]


def test_only_the_first_few_bad_rows_are_named_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"no\n" * 5000 + b"[]\n")
    _, bad = read(path)
    assert bad.count == 5001
    assert len(bad.shown) == 5
    assert bad.document()["reasons"] == {
        "bad.jsonl: truncated or not JSON": 5000,
        "bad.jsonl: not a JSON object but list": 1,
    }


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, message in ((".", "is a folder"), ("none", "no such file"), ("empty", "row 0: empty file")):
        with pytest.raises(UserError, match=message):
            read(tmp_path / name, skip=False)
    rows, bad = read(tmp_path / "empty")
    assert (rows, bad.count) == ([], 1)


def test_picking_reads_the_same_rows_and_notices_a_changed_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([GOOD[0], b"no", *GOOD[2:]]))
    file = RowFile(path, json_object)
    assert [row["k"] for row in file.pick(np.array([1, 4, 6]))] == [1, 4, 6]
    assert list(file.pick(np.array([], dtype=np.int64))) == []
    for gone in (2, 7):
        with pytest.raises(UserError, match="changed while it was being read"):
            list(file.pick(np.array([1, gone])))


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
