"""Outputs come back from disk as they were; another file is refused in one line."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.errors import UserError
from forwhy.evaluate.reading import Outputs, read_outputs

IDS = st.lists(st.text(max_size=5), max_size=6) | st.lists(st.integers(0, 99), max_size=6)


@given(IDS, st.lists(st.text(max_size=20), min_size=6, max_size=6))
def test_outputs_come_back(tmp_path_factory: pytest.TempPathFactory, ids: list, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("outputs") / "outputs.parquet"
    texts = texts[: len(ids)]
    outputs = Outputs.of(list(zip(ids, ids[::-1], strict=True)), texts, texts[::-1])
    outputs.save(path)
    assert Outputs.load(path).frame.equals(outputs.frame)


def test_evidence_comes_back_beside_its_text(tmp_path: Path) -> None:
    outputs = Outputs.of([(1, 2), (1, 1)], ["b", "a"], ["y", "x"], [["warm", "quiet"], []])
    assert (outputs.predictions, outputs.evidence) == (["a", "b"], [[], ["warm", "quiet"]])
    outputs.save(tmp_path / "outputs.parquet")
    assert Outputs.load(tmp_path / "outputs.parquet").take([1]).evidence == [["warm", "quiet"]]
    assert Outputs.of([(1, 2)], ["b"], ["y"], [[]]).evidence is None


def test_evidence_of_a_table_is_a_list_of_texts_or_none(tmp_path: Path) -> None:
    rows = pl.DataFrame({"prediction": ["a", "b"], "reference": ["x", "y"], "evidence": [["warm"], None]})
    rows.write_parquet(tmp_path / "theirs.parquet")
    assert read_outputs(tmp_path / "theirs.parquet").evidence == [["warm"], []]
    rows.with_columns(evidence=pl.lit("warm")).write_parquet(tmp_path / "words.parquet")
    assert read_outputs(tmp_path / "words.parquet").evidence is None


@pytest.mark.parametrize("kind", ["absent", "text", "columns"])
def test_a_file_that_holds_no_outputs_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "outputs.parquet"
    if kind == "text":
        path.write_text("user_id,item_id\n")
    if kind == "columns":
        pl.DataFrame({"user_id": [1]}).write_parquet(path)
    with pytest.raises(
        UserError, match=r"outputs\.parquet: .*; (evaluate the run again|check the path)"
    ) as caught:
        Outputs.load(path)
    assert "\n" not in str(caught.value)
