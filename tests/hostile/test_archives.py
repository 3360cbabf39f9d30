"""Files that unfold: gzip, zip and `.npy` of a few kilobytes that say or hold gigabytes, and broken ones."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.sources import files as unpacking
from forwhy.data.sources import import_tables
from forwhy.data.sources.published import import_reviews
from forwhy.errors import UserError
from forwhy.vocabulary.indexing import read_vectors

MIB = 1 << 20
FOLDED = 48
"""Mebibytes that the bombs unfold to: three times what they may."""

ROWS = {
    "csv": (b"user_id,item_id\n", b"a,b\n"),
    "one line": (b"user_id,item_id\n", b"a"),
    "open quote": (b'user_id,item_id\n"', b"a\n"),
    "line breaks": (b"user_id,item_id\n", b"\n"),
    "commas": (b"user_id,item_id\n", b","),
    "nul": (b"user_id,item_id\n", b"\0"),
}


def parts(rows: tuple[bytes, bytes]) -> list[bytes]:
    head, row = rows
    return [head, *[row * (MIB // len(row))] * FOLDED]


def gzipped(chunks: list[bytes]) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(map(packer.compress, chunks)) + packer.flush()


def zipped(chunks: list[bytes], name: str = "r.csv", how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out, entry = io.BytesIO(), zipfile.ZipInfo(name)  # without the time of day: equal chunks are equal bytes
    entry.compress_type = how
    with zipfile.ZipFile(out, "w", how, compresslevel=9) as archive, archive.open(entry, "w") as stream:
        for chunk in chunks:
            stream.write(chunk)
    return out.getvalue()


def refused(read: Callable[[], object], path: Path, most: int = 160 * MIB) -> str:
    """The refusal, which may take so much memory."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as told:
            read()
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    said = str(told.value)
    assert said.startswith(f"{path}: ")
    assert len(said) < 300 + len(str(path))
    return said


@pytest.mark.parametrize("pack", [gzipped, zipped])
@pytest.mark.parametrize("rows", ROWS)
def test_a_table_that_unfolds(rows: str, pack: Callable[[list[bytes]], bytes], tmp_path: Path) -> None:
    path = tmp_path / ("r.csv" if pack is gzipped else "r.zip")
    path.write_bytes(pack(parts(ROWS[rows])))
    assert path.stat().st_size < 2 * MIB
    refused(lambda: import_tables(interactions=path), path)


@pytest.mark.parametrize("line", [b"{}\n", b"a", b"[", b'{"a":1}\n'])
def test_json_lines_that_unfold(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(gzipped(parts((b"", line))))
    refused(lambda: import_reviews("yelp", [path]), path)


def test_gzip_in_gzip_is_not_unfolded_twice(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(gzipped([gzipped(parts(ROWS["csv"]))]))
    refused(lambda: import_tables(interactions=path), path)


def test_a_packed_table_is_still_read(tmp_path: Path) -> None:
    text = b"user_id,item_id\n" + b"".join(b"u%d,i%d\n" % (k, k % 7) for k in range(2000))
    for name, content in (("r.csv.gz", gzip.compress(text)), ("r.zip", zipped([text])), ("r.csv", text)):
        path = tmp_path / name
        path.write_bytes(content)
        assert import_tables(interactions=path).table("interactions").height == 2000


def test_packed_often_is_read_up_to_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest bomb: one byte more than may be."""
    path = tmp_path / "r.csv"
    path.write_bytes(gzip.compress(b"a" * 5000))
    with path.open("rb") as raw:
        monkeypatch.setattr(unpacking, "SMALL", 5000)
        monkeypatch.setattr(unpacking, "UNFOLDS", 1)
        assert len(unpacking.unpacked(raw, path).read()) == 5000
        raw.seek(0)
        monkeypatch.setattr(unpacking, "SMALL", 4999)
        with pytest.raises(UserError, match="unfolds to more than"):
            unpacking.unpacked(raw, path).read()


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_refused(how: int, tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    path.write_bytes(zipped([b"user_id,item_id\na,b\n"], how=how))
    assert "packed in a way" in refused(lambda: import_tables(interactions=path), path)


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    path.write_bytes(zipped([b"user_id,item_id\na,b\n"], name=""))
    assert "extension" in refused(lambda: import_tables(interactions=path), path)


def test_a_dictionary_of_four_gigabytes(tmp_path: Path) -> None:
    """LZMA says how much memory it wants."""
    content = bytearray(zipped([b"user_id,item_id\na,b\n"], how=zipfile.ZIP_LZMA))
    place = content.index(b"r.csv") + 5
    content[place + 5 : place + 9] = b"\xff" * 4
    path = tmp_path / "r.zip"
    path.write_bytes(content)
    refused(lambda: import_tables(interactions=path), path)


WHOLE = {
    "r.zip": zipped([b"user_id,item_id\n" + b"a,b\n" * 50]),
    "r.csv.gz": gzip.compress(b"user_id,item_id\n" + b"a,b\nc,d\n" * 50),
}


@pytest.mark.parametrize("name", WHOLE)
@settings(max_examples=150, derandomize=True)
@given(
    change=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3),
    length=st.integers(1, 10_000),
)
def test_any_altered_archive_is_read_or_refused(
    name: str, change: list[tuple[int, int]], length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    altered = bytearray(WHOLE[name])
    for place, value in change:
        altered[place % len(altered)] = value
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(altered if length > 5000 else altered[: length % len(altered) + 1])
    try:
        import_tables(interactions=path)
    except UserError as error:
        assert str(path) in str(error)  # noqa: PT017 - most are refused, some are read


# --- .npy


def npy(header: bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + size + header + data


def described(shape: str, kind: str = "'<f8'") -> bytes:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()


VECTORS = {
    "4 TiB": npy(described("(549755813888, 1)")),
    "2 ** 62": npy(described("(4611686018427387904, 8)")),
    "2 ** 70": npy(described("(1180591620717411303424, 1)")),
    "less than nothing": npy(described("(-1, -8)"), b"\0" * 64),
    "rows of nothing": npy(described("(1000000000000, 0)")),
    "cut": npy(described("(4, 4)"), b"\0" * 127),
    "three axes": npy(described("(2, 2, 2)"), b"\0" * 64),
    "objects": npy(described("(1, 1)", "'|O'"), b"cos\nsystem\n(S'true'\ntR."),
    "records": npy(described("(1, 1)", "[('a', '<f8')]"), b"\0" * 8),
    "texts": npy(described("(1, 1)", "'<U1000000000'"), b"\0" * 8),
    "no type": npy(described("(1, 1)", "'??'"), b"\0" * 8),
    "brackets": npy(b"(" * 5000 + b"\n"),
    "minus signs": npy(b"-" * 9000 + b"1\n"),
    "a long header": npy(described("(1, 1)") + b" " * (1 << 20), b"\0" * 8, b"\x02\x00"),
    "a header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    "no header": npy(b""),
    "no text": npy(b"\xff\xfe\n"),
    "another version": npy(described("(1, 1)"), b"\0" * 8, b"\x09\x00"),
    "zip": zipped([npy(described("(1, 1)"), b"\0" * 8)], "a.npy"),
    "zip's magic": b"PK\x03\x04" + b"\0" * 100,
    "pickle": b"\x80\x04K\x01.",
    "magic": b"\x93NUMPY",
    "nothing": b"",
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_what_is_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / "v.npy"
    path.write_bytes(VECTORS[name])
    if name == "rows of nothing":
        assert read_vectors(path).nbytes == 0  # and no data set has so many items
        return
    refused(lambda: read_vectors(path), path, 8 * MIB)


def test_vectors_are_read(tmp_path: Path) -> None:
    for table in (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(3, 2))):
        np.save(tmp_path / "v.npy", table)
        assert (read_vectors(tmp_path / "v.npy") == table).all()


def test_lines_of_json_are_counted_before_they_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(json.dumps({"user_id": "a" * (5 * MIB)}).encode())
    assert "longer than" in refused(lambda: import_tables(interactions=path), path)
