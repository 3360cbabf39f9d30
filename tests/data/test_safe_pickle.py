"""Pickles come back as pandas reads them; whatever a pickle wants to run is refused and not run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from forwhy.data.sources import safe_pickle
from forwhy.errors import UserError

pandas.set_option("mode.string_storage", "python")  # as in published files; pyarrow's arrays are refused


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
