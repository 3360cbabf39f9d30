"""`forwhy data audit`: one document, one line when strict, and no control character on a terminal."""

import json
from pathlib import Path

import polars as pl
import pytest

from forwhy.cli import main
from forwhy.data.dataset import make_dataset

TEXT = "You like rivers at dawn and this boathouse rents canoes from five \x1b[2J\x07 in the mist."


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    rows = {"user_id": ["u", "v", "u"], "item_id": ["a", "b", "b"], "split": ["train", "train", "test"]}
    pairs = {"user_id": ["u", "v"], "item_id": ["a", "b"], "text": [TEXT, TEXT], "split": ["test", "train"]}
    tables = {"interactions": pl.DataFrame(rows), "explanations": pl.DataFrame(pairs)}
    make_dataset("\x1b[31mred", tables).save(tmp_path / "d")
    return tmp_path / "d"


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


def test_document(capsys: pytest.CaptureFixture[str], leaking: Path) -> None:
    assert call("data", "audit", leaking, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"name", "fingerprint", "counts", "findings"}
    assert document["counts"]["leak"] == 2
    first = document["findings"][0]
    assert first["id"] == "heldout-pairs-in-training-graph"
    assert first["examples"] == [{"user_id": "u", "item_id": "a", "split": "test"}]
    assert set(first) == {"id", "severity", "count", "of", "meaning", "remedy", "examples"}


def test_strict_is_one_line_after_the_report(capsys: pytest.CaptureFixture[str], leaking: Path) -> None:
    assert call("data", "audit", leaking, "--strict", "--json") == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["counts"]["leak"] == 2
    assert len(printed.err.splitlines()) == 1
    assert "heldout-pairs-in-training-graph, heldout-text-in-training" in printed.err


def test_strict_is_silent_without_a_leak(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = {"user_id": ["u", "v"], "item_id": ["a", "a"], "split": ["train", "test"]}
    make_dataset("clean", {"interactions": pl.DataFrame(rows)}).save(tmp_path / "d")
    assert call("data", "audit", tmp_path / "d", "--strict") == 0
    assert capsys.readouterr().err == ""


def test_no_control_character_reaches_a_terminal(capsys: pytest.CaptureFixture[str], leaking: Path) -> None:
    assert call("data", "audit", leaking) == 0
    out = capsys.readouterr().out
    assert "boathouse" in out
    assert {letter for letter in out if not letter.isprintable()} == {"\n"}
