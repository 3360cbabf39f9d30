"""`forwhy run`: a table of runs."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

Capture = pytest.CaptureFixture[str]


def test_a_table_of_runs(cli: Any, capsys: Capture, tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_recipe.read_text())
    table = tmp_path / "table.toml"
    table.write_text('name = "t"\nbase = "tiny.toml"\n[rows.one]\n[rows.other]\nvocabulary.micro = false\n')
    asked = "run", table, "--out", tmp_path / "runs", "--until", "vocabulary"
    shown = cli.document(*asked)
    assert {row: stages["vocabulary"]["action"] for row, stages in shown["stages"].items()} == {
        "one": "done",
        "other": "done",
    }
    assert cli.call(*asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("one: vocabulary skipped")
    assert lines[2].startswith("one, other: ")
    capsys.readouterr()
    assert cli.call(*asked[:-2]) == 0
    shown = capsys.readouterr().out
    for words in ("Explanations and, below each, its controls", "gain: both", "Full ranking on test"):
        assert words in shown
    assert shown.splitlines()[-1] == lines[2]
    whole = cli.document(*asked[:-2])
    assert set(whole["evaluation"]["runs"]) == {"one", "other"}
