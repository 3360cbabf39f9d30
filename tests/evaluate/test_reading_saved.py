"""Outputs come back from disk as they were; another file is refused in one line."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate.reading import Outputs

IDS = st.lists(st.text(max_size=5), max_size=6) | st.lists(st.integers(0, 99), max_size=6)


@given(IDS, st.lists(st.text(max_size=20), min_size=6, max_size=6))
def test_outputs_come_back(tmp_path_factory: pytest.TempPathFactory, ids: list, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("outputs") / "outputs.parquet"
    texts = texts[: len(ids)]
    outputs = Outputs.of(list(zip(ids, ids[::-1], strict=True)), texts, texts[::-1])
    outputs.save(path)
    assert Outputs.load(path).frame.equals(outputs.frame)


@pytest.mark.parametrize("kind", ["absent", "text", "columns"])
def test_a_file_that_holds_no_outputs_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "outputs.parquet"
    if kind == "text":
        path.write_text("user_id,item_id\n")
    if kind == "columns":
        pl.DataFrame({"user_id": [1]}).write_parquet(path)
    with pytest.raises(UserError, match=r"outputs\.parquet: not readable.*again") as caught:
        Outputs.load(path)
    assert "\n" not in str(caught.value)
