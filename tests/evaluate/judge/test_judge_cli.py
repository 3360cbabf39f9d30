"""The judge on the command line: its grades stand beside the other metrics, its votes outlive the command."""

# ruff: noqa: ANN401 - the fake server's types are those of tests/fake_llm.py, passed as a fixture
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.cli import main


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Eight texts, half of them right."""
    right = [f"the user would enjoy the quiet garden of place number {n}" for n in range(8)]
    texts = [text if n % 2 else "loud" for n, text in enumerate(right)]
    path = tmp_path / "outputs.csv"
    pl.DataFrame({"prediction": texts, "reference": right}).write_csv(path)
    return path


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["evaluate", *map(str, arguments)])
    return int(leaving.value.code or 0)


def test_grades_stand_in_the_table_and_are_not_bought_twice(
    outputs: Path, server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (
        "--outputs", outputs, "--encoder", "none", "--judge", "fake", "--judge-url", server.url,
        "--judge-votes", tmp_path / "votes.jsonl", "--judge-prices", "1,2", "--judge-budget", "1",
    )  # fmt: skip
    report = tmp_path / "report.html"
    assert call(*asked, "--json", "--report", report) == 0
    document = json.loads(capsys.readouterr().out)["runs"]["outputs"]
    assert document["text"]["gptscore"] > document["controls"]["dealt"]["gptscore"]
    assert document["judge"]["check"] is not None
    assert document["judge"]["bought"]["cost"] > 0
    wording = f"{document['judge']['prompt']} ({document['judge']['prompt_sha256'][:12]})"
    assert document["protocol"]["texts"]["measures"] == [f"gptscore: fake, {wording}"]
    assert "gptscore" in report.read_text(encoding="utf-8")
    calls = len(server.pairs)
    assert call(*asked) == 0
    assert "gptscore" in capsys.readouterr().out
    assert len(server.pairs) == calls


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--judge-budget", "3"], "need --judge MODEL"),
        (["--judge", "fake", "--judge-prices", "3"], "expected IN,OUT"),
        (["--judge", "fake", "--judge-prices", "a,b"], "input-price"),
        (["--judge", "fake", "--judge-budget", "-1"], "budget"),
    ],
)
def test_bad_options_are_refused_in_one_line(
    outputs: Path, server: Any, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert call("--outputs", outputs, "--encoder", "none", *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert server.pairs == []
