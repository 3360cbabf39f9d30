"""Read other people's pickles without running anything that is in them.

A pickle is a program. This reader runs it on Python's own interpreter of the format, but every name is looked up in a
fixed list of stand-ins that only remember what they were given. The frame or array is then rebuilt from what they hold.
"""

import io
import pickle
import struct
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeGuard

import numpy as np
import polars as pl
from numpy.typing import NDArray

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


class _StandIn:
    """Remembers what the pickle would have passed to the real class."""

    kind: ClassVar[str]

    def __init__(self, *args: Any) -> None:  # noqa: ANN401 - what the pickle held
        self.args = args
        self.state: Any = None


class _RefusedError(pickle.UnpicklingError):
    """The pickle wants more than a table needs."""


class _Reader(pickle._Unpickler):
    """The interpreter in Python: its memo is a dict, so a claimed size cannot take the memory."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the base class's signature
        wanted = f"{module}.{name}"
        for kind, names in NAMES.items():
            if wanted in names:
                return type(kind, (_StandIn,), {"kind": kind})
        raise _RefusedError(f"asks for {wanted}")

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
    dispatch |= dict.fromkeys(_refused, _refuse)
    dispatch |= dict.fromkeys(pickle.REDUCE + pickle.NEWOBJ, _reduce)
    dispatch |= {pickle.BYTEARRAY8[0]: _bytearray, pickle.BUILD[0]: _build}


def load(path: Path) -> Any:  # noqa: ANN401 - a pickle may hold any of several kinds
    """A pickled pandas frame as a polars frame, an array as numpy, plain containers as they are.

    A second per million objects. Containers are not searched: what lies deeper may be a stand-in, so check types.
    A file that is broken or asks for anything beyond `NAMES` is refused.
    """
    require_file(path)
    try:
        found = _Reader(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except _RefusedError as error:
        wrong = f"refused: it {error}, which no table needs; nothing was executed"
        raise UserError(f"{path}: {wrong}; save it as CSV") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UserError(f"{path}: truncated or altered pickle ({reason}); copy it again") from error
    try:
        return _frame(found) if _is(found, "frame") else _array(found) if _is(found) else found
    except Exception as error:
        wrong = f"a frame this reader cannot rebuild ({f'{type(error).__name__}: {error}'[:200]})"
        raise UserError(f"{path}: {wrong}; save it as CSV or parquet instead") from error


def _is(found: object, *kinds: str) -> TypeGuard[_StandIn]:
    """Whether this is a stand-in, of one of these kinds when some are given."""
    return isinstance(found, _StandIn) and (not kinds or found.kind in kinds)


def _frame(frame: _StandIn) -> pl.DataFrame:
    state = frame.state if isinstance(frame.state, dict) else {}
    manager = state.get("_mgr", state.get("_data", frame.args[0] if frame.args else None))
    if not _is(manager, "manager"):
        raise ValueError("no block manager in it")
    axes, blocks = _parts(manager)
    names = [str(name) for name in _array(axes[0].args[1]["data"])]
    columns: dict[int, pl.Series] = {}
    for values, places in blocks:
        rows = values if values.ndim == 2 else values[None, :]
        for row, place in zip(rows, _places(places, len(names)), strict=True):
            columns[int(place)] = _series(names[int(place)], row)
    return pl.DataFrame([columns[place] for place in range(len(names))])


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
        return np.frombuffer(data, dtype=_dtype(kind)).reshape(shape, order=layout)
    if _is(value, "text"):
        held = value.state if value.state is not None else value.args
        return _array(next(part for part in _flat(held) if _is(part, "array", "buffer")))
    if not _is(value, "array"):
        raise ValueError(f"no array but {type(value).__name__}")
    _, shape, kind, fortran, data = value.state
    order: Literal["F", "C"] = "F" if fortran else "C"
    dtype = _dtype(kind)
    if dtype.hasobject:
        flat = np.empty(len(data), dtype=object)
        flat[:] = data
        return flat.reshape(shape, order=order)
    return np.frombuffer(data, dtype=dtype).reshape(shape, order=order)


def _flat(held: object) -> list[object]:
    if isinstance(held, tuple | list):
        return [part for inner in held for part in _flat(inner)]
    return [part for inner in held.values() for part in _flat(inner)] if isinstance(held, dict) else [held]


def _dtype(kind: Any) -> np.dtype[Any]:  # noqa: ANN401 - a dtype stand-in
    code = str(kind.args[0])
    if code.lstrip("|<>=").startswith("O"):
        return np.dtype(object)
    order = str(kind.state[1]) if kind.state else "="
    return np.dtype(code).newbyteorder(">" if order == ">" else "<" if order == "<" else "=")
