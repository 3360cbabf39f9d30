"""Read other people's pickles without running anything that is in them.

A pickle is a program. This reader runs it on Python's own interpreter of the format, but every name is looked up in a
fixed list of stand-ins that only remember what they were given. The frame or array is then rebuilt from what they hold.

A few bytes can stand for what fills any memory: one part may be shared by many, and each of these by many more. So what
is made is counted while the program runs, and measured, shared parts as often as they stand, before it is rebuilt.
"""

import io
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, TypeGuard

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.data.bad_rows import short
from forwhy.data.sources.files import require_file
from forwhy.errors import UserError

NAMES = {
    "frame": ("pandas.core.frame.DataFrame", "pandas.DataFrame"),
    "manager": ("pandas.core.internals.managers.BlockManager", "pandas.core.internals.BlockManager"),
    "block": ("pandas._libs.internals._unpickle_block",),
    "index": (
        "pandas.core.indexes.base._new_Index", "pandas.core.indexes.base.Index", "pandas.Index",
        "pandas.core.indexes.numeric.Int64Index", "pandas.core.indexes.range.RangeIndex", "pandas.RangeIndex",
    ),
    "text": (
        "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked", "pandas.core.arrays.string_.StringArray",
        "pandas.arrays.StringArray",
    ),
    "type of text": ("pandas.core.arrays.string_.StringDtype", "pandas.StringDtype"),
    "array": ("numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
    "buffer": ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"),
    "scalar": ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    "dtype": ("numpy.dtype",),
    "slice": ("builtins.slice", "__builtin__.slice"),
    "bytes": ("_codecs.encode",),
}  # fmt: skip
"""What a frame, an array or a list needs, by what it is; anything else is refused by name."""

LARGEST_FILE = 1 << 31
"""Bytes of a pickle."""
MADE = 24_000_000
"""Lists, tables, tuples, objects and remembered things that it may make: some 70 bytes each."""
UNFOLDED = 1 << 30
"""What it may hold when nothing is shared: letters and bytes, and `EACH` for every value."""
EACH = 24
MOST_EMPTY = 1 << 16
"""Rows or columns of an array without values, which may claim any number of them."""
LONGEST_DTYPE = 16
"""Letters such as `datetime64[ns]` has."""
DEEPEST = 100
"""Lists inside lists, and so on."""
PLAIN_KEY = (1 << 60) - 1
"""The hash of larger numbers is not the number: any of them may have the same, and then a table takes for ever."""


class _StandIn:
    """Remembers what the pickle would have passed to the real class."""

    kind: ClassVar[str]

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - what the pickle held
        self.args = args
        self.state: Any = None


class _RefusedError(pickle.UnpicklingError):
    """The pickle wants more than a table needs."""


Step = Callable[[Any], None]


def _after(first: Step, then: Step) -> Step:
    def both(reader: Any) -> None:  # noqa: ANN401 - a `_Reader`
        first(reader)
        then(reader)

    return both


def _plain_key(key: object) -> None:
    if not (isinstance(key, str | bytes | NoneType) or (isinstance(key, int) and abs(key) <= PLAIN_KEY)):
        raise _RefusedError("has a table whose keys are neither names nor usual numbers")


class _Reader(pickle._Unpickler):
    """The interpreter in Python: its memo is a dict, so a claimed size cannot take the memory."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the base class's signature
        wanted = f"{module}.{name}"
        for kind, names in NAMES.items():
            if wanted in names:
                return type(kind, (_StandIn,), {"kind": kind})
        raise _RefusedError(f"asks for {short(wanted)}")

    def _made(self) -> None:
        """Counts what the next instruction makes."""
        self.made = getattr(self, "made", 0) + 1
        if self.made > MADE:
            raise _RefusedError(f"makes more than {MADE:,} things")

    def _keys(self) -> None:
        """Refuses keys that would have to be walked through, or compared with all others."""
        for key in self.stack[::2]:  # type: ignore[attr-defined]
            _plain_key(key)

    def _one_key(self) -> None:
        _plain_key(self.stack[-2])  # type: ignore[attr-defined]

    def _reduce(self) -> None:
        args, kind = self.stack.pop(), self.stack.pop()  # type: ignore[attr-defined]
        if not (isinstance(kind, type) and issubclass(kind, _StandIn) and isinstance(args, tuple)):
            raise _RefusedError("calls something that is not a class it may use")
        made = kind(*args)
        value = made.args[0].encode("latin1") if kind.kind == "bytes" else made
        self.stack.append(value)  # type: ignore[attr-defined]

    def _build(self) -> None:
        state = self.stack.pop()  # type: ignore[attr-defined]
        target = self.stack[-1]  # type: ignore[attr-defined]
        if not isinstance(target, _StandIn):
            raise _RefusedError("sets the state of something that is not a table")
        target.state = state

    def _bytearray(self) -> None:
        """Read before allocating: the claimed length may be a lie."""
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        data = self.read(min(length, sys.maxsize))  # type: ignore[attr-defined]
        if len(data) != length:
            raise pickle.UnpicklingError("pickle data was truncated")
        self.stack.append(data)  # type: ignore[attr-defined]

    def _refuse(self) -> None:
        raise _RefusedError("uses an instruction beyond tables")

    _refused = pickle.EXT1 + pickle.EXT2 + pickle.EXT4 + pickle.INST + pickle.OBJ + pickle.PERSID
    _refused += pickle.BINPERSID + pickle.NEWOBJ_EX + pickle.NEXT_BUFFER
    _refused += pickle.EMPTY_SET + pickle.ADDITEMS + pickle.FROZENSET
    dispatch |= dict.fromkeys(_refused, _refuse)
    dispatch |= dict.fromkeys(pickle.REDUCE + pickle.NEWOBJ, _reduce)
    dispatch |= {pickle.BYTEARRAY8[0]: _bytearray, pickle.BUILD[0]: _build}


_MAKING = pickle.MARK + pickle.EMPTY_LIST + pickle.EMPTY_DICT + pickle.MEMOIZE + pickle.BINPUT + pickle.PUT
_MAKING += pickle.LONG_BINPUT + pickle.TUPLE1 + pickle.TUPLE2 + pickle.TUPLE3 + pickle.REDUCE + pickle.NEWOBJ
_CHECKED = (
    (_MAKING, _Reader._made),
    (pickle.SETITEMS + pickle.DICT, _Reader._keys),
    (pickle.SETITEM, _Reader._one_key),
)
"""Instructions, and what is done before each of them."""


def _checking(content: bytes) -> _Reader:
    """A reader that counts and looks at keys before it goes on."""
    reader = _Reader(io.BytesIO(content), encoding="latin1")
    checks = {code: _after(first, _Reader.dispatch[code]) for codes, first in _CHECKED for code in codes}
    reader.dispatch = _Reader.dispatch | checks  # type: ignore[misc]
    return reader


def load(path: Path) -> Any:  # noqa: ANN401 - a pickle may hold any of several kinds
    """A pickled pandas frame as a polars frame, an array as numpy, plain containers as they are.

    A second per million objects. Containers are not searched: what lies deeper may be a stand-in, so check types.
    A file that is broken, asks for anything beyond `NAMES` or would unfold to more than `UNFOLDED` is refused.
    """
    require_file(path)
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise UserError(f"{path}: {size:,} bytes, and a pickle may have {LARGEST_FILE:,}; save it as parquet")
    try:
        found = _checking(path.read_bytes()).load()
        _unfolded(found, {}, DEEPEST)
    except _RefusedError as error:
        wrong = f"refused: it {error}, which no table needs; nothing was executed"
        raise UserError(f"{path}: {wrong}; save it as CSV") from error
    except Exception as error:
        reason = short(f"{type(error).__name__}: {error}", 100)
        raise UserError(f"{path}: truncated or altered pickle ({reason}); copy it again") from error
    try:
        return _frame(found) if _is(found, "frame") else _array(found) if _is(found) else found
    except Exception as error:
        wrong = f"a frame this reader cannot rebuild ({short(f'{type(error).__name__}: {error}', 100)})"
        raise UserError(f"{path}: {wrong}; save it as CSV or parquet instead") from error


def _unfolded(value: object, known: dict[int, int], deeper: int) -> int:
    """What a value takes, a shared part as often as it stands; refused where that is too much, or too deep."""
    if isinstance(value, str | bytes):
        return EACH + len(value)
    name = id(value)
    if isinstance(value, _StandIn):
        value = (value.args, value.state)
    elif not isinstance(value, list | tuple | dict):
        return EACH
    if (found := known.get(name)) is None:
        if not deeper:
            raise _RefusedError(f"holds lists inside lists on more than {DEEPEST} levels")
        parts = (*value, *value.values()) if isinstance(value, dict) else value
        found = EACH + sum(_unfolded(part, known, deeper - 1) for part in parts)
        if found > UNFOLDED:
            raise _RefusedError(f"unfolds to more than {UNFOLDED >> 20:,} MiB")
        known[name] = found
    return found


def _is(found: object, *kinds: str) -> TypeGuard[_StandIn]:
    """Whether this is a stand-in, of one of these kinds when some are given."""
    return isinstance(found, _StandIn) and (not kinds or found.kind in kinds)


def _frame(frame: _StandIn) -> pl.DataFrame:
    state = frame.state if isinstance(frame.state, dict) else {}
    manager = state.get("_mgr", state.get("_data", frame.args[0] if frame.args else None))
    if not _is(manager, "manager"):
        raise ValueError("no block manager in it")
    axes, blocks = _parts(manager)
    names = [_name(name) for name in _array(axes[0].args[1]["data"]).tolist()]
    columns: dict[int, pl.Series] = {}
    for values, places in blocks:
        rows = values if values.ndim == 2 else values[None, :]
        for row, place in zip(rows, _places(places, len(names)), strict=True):
            columns[int(place)] = _series(names[int(place)], row)
    return pl.DataFrame([columns[place] for place in range(len(names))])


def _name(name: object) -> str:
    if not isinstance(name, str | int | float):
        raise TypeError(f"a column is called by {type(name).__name__}")
    return str(name)


def _parts(manager: _StandIn) -> tuple[Any, list[tuple[NDArray[Any], Any]]]:
    """Axes and (values, places) blocks: constructor arguments today, a state tuple before pandas 1.3."""
    if len(manager.args) >= 2:
        blocks, axes = manager.args[:2]
        return axes, [(_array(block.args[0]), block.args[1]) for block in blocks]
    state = manager.state[3]["0.14.1"]
    return state["axes"], [(_array(block["values"]), block["mgr_locs"]) for block in state["blocks"]]


def _places(places: Any, n: int) -> list[int]:  # noqa: ANN401 - slice or array stand-in
    if _is(places, "slice"):
        return list(range(n))[slice(*places.args)]
    return [int(place) for place in _array(places)]


def _series(name: str, values: NDArray[Any]) -> pl.Series:
    if values.dtype != object:
        return pl.Series(name, np.ascontiguousarray(values))
    plain = [None if isinstance(value, float) and value != value else value for value in values]
    if all(value is None or isinstance(value, str) for value in plain):
        return pl.Series(name, plain, dtype=pl.String)
    if any(map(_is, plain)):
        raise ValueError(f"column {name!r} holds objects")
    return pl.Series(name, plain, strict=False)


def _array(value: Any) -> NDArray[Any]:  # noqa: ANN401 - what the pickle held
    if _is(value, "buffer"):
        data, kind, shape, layout = value.args
        return _shaped(np.frombuffer(data, dtype=_dtype(kind)), shape, layout)
    if _is(value, "text"):
        held = value.state if value.state is not None else value.args
        return _array(next(part for part in _flat(held) if _is(part, "array", "buffer")))
    if not _is(value, "array"):
        raise ValueError(f"no array but {type(value).__name__}")
    _, shape, kind, fortran, data = value.state
    order: Literal["F", "C"] = "F" if fortran else "C"
    dtype = _dtype(kind)
    if not dtype.hasobject:
        return _shaped(np.frombuffer(data, dtype=dtype), shape, order)
    if not isinstance(data, list):
        raise TypeError(f"an array of objects made from {type(data).__name__}")
    flat = np.empty(len(data), dtype=object)
    flat[:] = data
    return _shaped(flat, shape, order)


def _shaped(flat: NDArray[Any], shape: tuple[int, ...], order: Literal["F", "C"]) -> NDArray[Any]:
    if not flat.size and max(shape, default=0) > MOST_EMPTY:
        raise ValueError(f"an array without values has {max(shape):,} rows or columns")
    return flat.reshape(shape, order=order)


def _flat(held: object) -> list[object]:
    if isinstance(held, tuple | list):
        return [part for inner in held for part in _flat(inner)]
    return [part for inner in held.values() for part in _flat(inner)] if isinstance(held, dict) else [held]


def _dtype(kind: Any) -> np.dtype[Any]:  # noqa: ANN401 - a dtype stand-in
    code = kind.args[0]
    if not isinstance(code, str) or len(code) > LONGEST_DTYPE:
        raise TypeError("its type has no short name")
    if code.lstrip("|<>=").startswith("O"):
        return np.dtype(object)
    order = str(kind.state[1]) if kind.state else "="
    return np.dtype(code).newbyteorder(">" if order == ">" else "<" if order == "<" else "=")
