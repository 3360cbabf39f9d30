"""Rows of table files: every packing and separator reads the same, and what cannot be read is named."""

import csv
import gzip
import io
import zipfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.columns import ROW
from forwhy.data.bad_rows import BadRows
from forwhy.data.sources import rows
from forwhy.data.sources.rows import blocks, read_rows
from forwhy.errors import UserError

PLAIN = 'a,b\n1,"x, ""y""\nz"\n\n2,\n'


def pack(folder: Path, kind: str, text: str = PLAIN) -> Path:
    path = folder / {"gz": "t.csv.gz", "zip": "t.zip"}.get(kind, "t.csv")
    if kind == "gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("folder/t.csv", text)
            archive.writestr("__MACOSX/._t.csv", "no")
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["csv", "gz", "zip"])
def test_packed_files_read_as_plain_ones(tmp_path: Path, kind: str) -> None:
    frame = read_rows(pack(tmp_path, kind))
    assert frame.select("a", "b", ROW).rows() == [("1", 'x, "y"\nz', 1), ("2", None, 3)]


CELL = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(CELL, CELL.filter(bool)), min_size=1, max_size=30),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[str, str]], separator: str, encoding: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([("a", "b"), *cells])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    assert read_rows(path).select("a", "b").rows() == [(a or None, b) for a, b in cells]


def test_blocks_are_small_and_numbered_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", 7)
    frame = pl.DataFrame({"a": range(1, 51), "b": ["x"] * 50})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_ndjson(tmp_path / "t.jsonl")
    frame.write_parquet(tmp_path / "t.parquet")
    for kind in ("csv", "jsonl", "parquet"):
        found = list(blocks(tmp_path / f"t.{kind}", BadRows()))
        assert max(block.height for block in found) <= 70
        whole = pl.concat(found)
        assert whole[ROW].to_list() == whole["a"].cast(pl.Int64).to_list() == list(range(1, 51))


def test_windows_letters_are_told_from_a_broken_byte(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\nä,5 €\n".encode("cp1252"))
    assert read_rows(path)["b"].to_list() == ["5 €"]
    path.write_bytes("a,b\näöü,ß\n".encode() + b"\xff,1\nx,2\n")
    bad = BadRows(skip=True)
    assert pl.concat(blocks(path, bad))["a"].to_list() == ["äöü", "x"]
    assert bad.shown == [f"{path}: row 2: not UTF-8 text"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3,4,5\n", r"row 2: 3 values in a file of 2 columns; quote the text that holds a ','"),
        (b'a,b\n1,2\n3,"x\n5,6\n', r"row 2: a quote that opens here is not closed"),
        (b'a,b\n1,2\n3,"x"y\n', r"row 2: text after a closing quote"),
        (b"a,b,a\n1,2,3\n", r"two columns are called 'a'"),
        (b"a,b\n", r"no rows"),
        (b"\0\1\2", r"no text in its first lines"),
        (b"\n\n", r"no text in its first lines"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"t\.csv: {message}"):
        read_rows(path)


def test_packing_that_is_broken_or_holds_several_files(tmp_path: Path) -> None:
    path = pack(tmp_path, "gz", "a,b\n" + "".join(f"{k},{k * 7919 % 1009}\n" for k in range(5000)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"t\.csv\.gz: broken or cut short .*; copy it again"):
        read_rows(path)
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "a\n")
        archive.writestr("b.csv", "b\n")
    with pytest.raises(UserError, match=r"two\.zip: holds a\.csv, b\.csv, not one file; unpack it"):
        read_rows(tmp_path / "two.zip")


def test_excels_own_hint_and_trailing_separators(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sep=;\na;b\n1;2;;\n;;;\n3\n")
    assert read_rows(path).select("a", "b").rows() == [("1", "2"), ("3", None)]
