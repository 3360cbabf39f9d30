"""The command line: documents on stdout, one line for a mistake, nothing heavy for nothing."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forwhy.cli import COMMANDS
from forwhy.data.dataset import Dataset

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", ["evaluate", "vocabulary", "recommend", "explain", "show", "doctor"])
def test_tables_for_readers_are_plain_text(
    cli: Any, capsys: Capture, tiny_run: Path, tiny_town: Dataset, command: str
) -> None:
    pair = ["--user", tiny_town.users.values[0], "--item", tiny_town.items.values[0]]
    arguments: dict[str, list[object]] = {
        "evaluate": [tiny_run],
        "vocabulary": [tiny_run],
        "recommend": [tiny_run, *pair[:2]],
        "explain": [tiny_run, *pair],
        "show": [tiny_run.parent / "town"],
        "doctor": [],
    }
    capsys.readouterr()
    assert cli.call(*(["data"] if command == "show" else []), command, *arguments[command]) == 0
    printed = capsys.readouterr().out
    assert printed.strip()
    assert "\\[" not in printed
    assert "[bold]" not in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dance"], "No such command 'dance'"),
        (["run", "x.toml"], "Missing option '--out'"),
        (
            ["run", "no.toml", "--out", "x"],
            "no.toml: no such recipe; write one with `forwhy init DATA`, or name one of ",
        ),
        (["run", "popularity", "--out", "x"], ", popularity.toml, "),
        (
            ["fit", "recommender", "item-knn", "my data", "--out", "x"],
            "system 'item-knn' has no recommender to fit; use `forwhy run recipes/popularity.toml "
            "--set system=item-knn --set data.path='my data' --out x`",
        ),
        (["evaluate", "nowhere"], "nowhere: not a run folder"),
        (["data", "show", "nowhere"], "nowhere: no such folder"),
        (["data", "import", "xrec", "nowhere", "--out", "x"], "nowhere"),
        (["data", "import", "tables", "--interactions", "no.csv", "--out", "x"], "no.csv"),
        (["recommend", "x", "--user", "1", "-k", "0"], "'-k'"),
        (
            ["data", "import", "tables", "--interactions", "a", "--out", "x", "--map", "b"],
            "--map b: expected",
        ),
    ],
)
def test_one_line_and_status_2(
    cli: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in cli.refusal(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_help_lists_every_command(cli: Any, capsys: Capture) -> None:
    assert cli.call("--help") == 0
    shown = capsys.readouterr().out
    assert "Recommendations with a because." in shown
    for name in COMMANDS:
        assert cli.call(name, "--help") == 0
        assert f"  {name} " in shown


@pytest.mark.parametrize("group", [[], ["data"], ["data", "import"], ["fit"], ["answers"]])
def test_a_group_alone_is_a_question_for_its_help(cli: Any, capsys: Capture, group: list[str]) -> None:
    assert cli.call(*group, "--help") == 0
    wanted = capsys.readouterr().out
    assert cli.call(*group) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == wanted
    assert "..." not in wanted.partition("Commands:")[2]


def test_what_is_needed_first_stands_first(cli: Any, capsys: Capture) -> None:
    order = list(COMMANDS)
    assert order.index("data") < order.index("run") < order.index("recommend") < order.index("evaluate")
    for group in ("data", "answers"):
        assert cli.call(group, "--help") == 0
        assert capsys.readouterr().out.split("Commands:")[1].split()[0] == "import"
