"""Pickles of a few hundred bytes that stand for what fills any memory, or takes for ever; each ends within seconds."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.sources import safe_pickle
from forwhy.errors import UserError

pandas.set_option("mode.string_storage", "python")  # as in published files; pyarrow's arrays are refused
MIB = 1 << 20
DTYPE = b"cnumpy\ndtype\n"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(1 << 31) <= value < 1 << 31 else b"I%d\n" % value


def text(value: str) -> bytes:
    told = value.encode()
    return b"X" + struct.pack("<I", len(told)) + told


def doubled(levels: int, wrap: bytes = b"\x86") -> bytes:
    """A pair of a pair of a pair …, of one thing: 2 ** levels leaves in three bytes a level."""
    return b"I1\n" + b"".join(b"q\x00h\x00" + wrap for _ in range(levels))


def array(data: bytes, shape: bytes, dtype: bytes = text("f8")) -> bytes:
    """An array as numpy pickles it, of whatever parts."""
    kind = DTYPE + dtype + b"\x85R"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nI0\n\x85" + text("b") + b"\x87R"
        + b"(I1\n" + shape + kind + b"I00\n" + data + b"tb"
    )  # fmt: skip


def frame(names: bytes, blocks: bytes) -> bytes:
    """A pandas frame as it is pickled: blocks of values, and an array of names."""
    axis = b"cpandas.core.indexes.base\n_new_Index\ncpandas.core.indexes.base\nIndex\n}" + text("data")
    axis += names + b"s\x86R"
    manager = b"cpandas.core.internals.managers\nBlockManager\n" + blocks + axis + b"\x85\x86R"
    return b"cpandas.core.frame\nDataFrame\n" + manager + b"\x85R."


def objects(values: bytes, count: int) -> bytes:
    """An array of objects: a list of this many."""
    return array(values, number(count) + b"\x85", text("O8"))


def block(values: bytes, places: bytes) -> bytes:
    return b"cpandas._libs.internals\n_unpickle_block\n" + values + places + b"I2\n\x87R"


def places(count: int) -> bytes:
    return b"cbuiltins\nslice\nI0\n" + number(count) + b"I1\n\x87R"


ONE_NAME = objects(b"]" + text("a") + b"a", 1)
SHARED_TEXT = objects(b"](" + text("x" * 100_000) + b"q\x05" + b"h\x05" * 20_000 + b"e", 20_001)
SHARED_COLUMN = b"q\x07" + b"".join(b"h\x07" for _ in range(3))

LONG = b"\x8b" + struct.pack("<i", MIB) + b"\x7f" * MIB

BOMBS: dict[str, bytes] = {
    # One part, shared by two, shared by two …: whoever walks it never comes back.
    "pairs of pairs": doubled(40) + b".",
    "lists of lists": b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(60)) + b".",
    "in a type's name": array(b"C\x00", b"I0\n\x85", doubled(40)) + b".",
    "in a buffer's type": b"cnumpy.core.numeric\n_frombuffer\nC\x08" + b"\0" * 8
    + DTYPE + doubled(40) + b"\x85RI1\n\x85" + text("C") + b"tR.".replace(b"tR", b"R"),
    "in a column's name": frame(objects(b"](" + doubled(40) + b"e", 1), b")"),
    "in a text's state": b"cpandas.arrays\nStringArray\n)R" + doubled(40) + b"b.",
    "in a key": b"}" + doubled(40) + b"I1\ns.",
    "in many keys": b"}(" + doubled(40) + b"I1\nu.",
    "in a table's first keys": b"(" + doubled(40) + b"I1\nd.",
    "in a set": b"\x80\x04\x8f(" + doubled(40) + b"\x90.",
    "in a frozen set": b"\x80\x04(" + doubled(40) + b"\x91.",
    "in a place": frame(ONE_NAME, block(array(b"C\x08" + b"\0" * 8, b"I1\nI1\n\x86"), doubled(40)) + b"\x85"),
    "in a shape": array(b"C\x08" + b"\0" * 8, doubled(40)) + b".",
    "in a class's arguments": b"cnumpy\nndarray\n" + doubled(40) + b"\x85R.",
    "a text in a million cells": frame(ONE_NAME, block(SHARED_TEXT, places(1)) + b"\x85"),
    "a text in a list": b"](" + text("x" * MIB) + b"q\x05" + b"h\x05" * 2_000 + b"e.",
    # Shapes.
    "a billion rows of nothing": array(b"C\x00", number(10**9) + b"I0\n\x86") + b".",
    "a billion names of nothing": frame(array(b"C\x00", number(10**9) + b"I0\n\x86"), b")"),
    "a billion columns of nothing": frame(
        ONE_NAME, block(array(b"C\x00", number(10**9) + b"I0\n\x86"), places(10**9)) + b"\x85"
    ),
    "a shape below nothing": array(b"C\x08" + b"\0" * 8, number(-1) + number(10**9) + b"\x86") + b".",
    "a value of a gigabyte": array(b"C\x01a", b"I1\n\x85", text("V1000000000")) + b".",
    "a value of no size": array(b"C\x01a", number(10**9) + b"\x85", text("V0")) + b".",
    "a type of a million parts": array(b"C\x01a", b"I1\n\x85", text("i4," * 200_000)) + b".",
    # Numbers and depth.
    "keys of one hash": b"}(" + b"".join(b"I%d\nN" % (k * ((1 << 61) - 1)) for k in range(60_000)) + b"u.",
    "a number of 100,000 digits": b"I" + b"9" * 100_000 + b"\n.",
    "a long of a megabyte as a name": frame(objects(b"](" + LONG + b"e", 1), b")"),
    "lists inside lists": b"]" + b"]" * 100_000 + b"a" * 100_000 + b".",
    "tuples inside tuples": b"I1\n" + b"\x85" * 200_000 + b".",
    "a list in itself": b"]q\x00h\x00a.",
    "a claim of a gigabyte": b"B" + struct.pack("<I", 1 << 30) + b"a.",
    "a claim of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.",
    "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
    "a module's name of a megabyte": b"c" + b"m" * MIB + b"\nn\n.",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_pickle_stays_small(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(BOMBS[name])
    tracemalloc.start()
    told = f"{path}: "
    try:
        safe_pickle.load(path)  # some are harmless: an array without values, say
    except UserError as error:
        told = str(error)
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert told.startswith(f"{path}: ")
    assert len(told) < 300 + len(str(path))
    assert most < 100 * MIB + 4 * len(BOMBS[name])


def test_what_is_made_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest bombs of lists, tables, marks, tuples and remembered things, with a limit that a test can reach."""
    monkeypatch.setattr(safe_pickle, "MADE", 1000)
    path = tmp_path / "x.pkl"
    for code in (b"]", b"}", b"(", b"I1\n\x85", b"N\x94", b"Nq\x00", b"Np0\n", b"cnumpy\ndtype\n)R"):
        path.write_bytes(b"\x80\x04" + code * 1001 + b"]" + b".")
        with pytest.raises(UserError, match="makes more than 1,000 things"):
            safe_pickle.load(path)
    path.write_bytes(pickle.dumps([["a"]] * 100))
    assert safe_pickle.load(path) == [["a"]] * 100


def test_columns_that_are_shared_count_as_often_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """k columns of one list of n: k + n bytes for k · n cells."""
    monkeypatch.setattr(safe_pickle, "UNFOLDED", 1 << 20)
    names = objects(b"](" + b"".join(text(f"c{k}") for k in range(200)) + b"e", 200)
    column = objects(b"](" + b"N" * 2000 + b"e", 2000)
    one = b"cbuiltins\nslice\n(I0\nI1\nI1\ntR"
    shared = block(column + b"q\x09", one) + b"".join(
        b"cpandas._libs.internals\n_unpickle_block\nh\x09" + one + b"I2\n\x87R" for _ in range(199)
    )
    path = tmp_path / "x.pkl"
    path.write_bytes(frame(names, b"(" + shared + b"t"))
    with pytest.raises(UserError, match="unfolds to more than 1 MiB"):
        safe_pickle.load(path)


def test_honest_sharing_is_read(tmp_path: Path) -> None:
    """What pandas writes shares texts, too: one object in many rows."""
    title, profile = "t" * 50, "p" * 500
    made = pandas.DataFrame({"title": [title] * 5000, "profile": [profile] * 5000}, dtype=object)
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(made))
    assert path.stat().st_size < 100_000
    assert safe_pickle.load(path).rows() == [(title, profile)] * 5000
    empty = pandas.DataFrame({"a": np.array([], int), "b": np.array([], float)})
    path.write_bytes(pickle.dumps(empty))
    assert safe_pickle.load(path).height == 0
    keyed = {7: "a", -3: "b", "c": {b"d": None, True: 1.5}}
    path.write_bytes(pickle.dumps(keyed))
    assert safe_pickle.load(path) == keyed


WHOLE = pickle.dumps({"a": [1, 2.5, "x", None, ("y", [True])], "b": np.arange(6).reshape(2, 3)}, protocol=4)


@settings(max_examples=300, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_altered_byte_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    altered = bytearray(WHOLE)
    for place, value in changes:
        altered[place] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.pkl"
        path.write_bytes(altered)
        with suppress(UserError):
            safe_pickle.load(path)
