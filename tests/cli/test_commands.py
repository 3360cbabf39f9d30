"""The command line: documents on stdout, one line for a mistake, exit statuses, nothing heavy for nothing."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from forwhy.cli import COMMANDS, main
from forwhy.cli.console import plain
from forwhy.cli.guard import guarded
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError

Capture = pytest.CaptureFixture[str]


def call(*arguments: object) -> int:
    """The exit status of a command."""
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


def document(capsys: Capture, *arguments: object) -> Any:  # noqa: ANN401 - JSON is any of its types
    """The one JSON document of a command that succeeds."""
    capsys.readouterr()
    assert call(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys: Capture, *arguments: object) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert call(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("forwhy: ")
    return printed.err


# --- results


def test_data_show(capsys: Capture, tiny_recipe: Path, tiny_town: Dataset) -> None:
    shown = document(capsys, "data", "show", tiny_recipe.parent / "town")
    assert set(shown) == {"name", "users", "items", "interactions", "explanations", "leaks", "fingerprint"}
    assert shown == tiny_town.summary()


def test_import_tables_with_anyones_names(capsys: Capture, tmp_path: Path) -> None:
    ratings = tmp_path / "ratings.csv"
    rows = [f"{user},{item}" for user in "abcd" for item in range(12)]
    ratings.write_text("\n".join(["who,what", *rows]))
    mapping = ["--map", "interactions.user_id=who", "--map", "interactions.item_id=what"]
    shown = document(
        capsys, "data", "import", "tables", "--interactions", ratings, *mapping, "--out", tmp_path / "d"
    )
    assert (shown["users"], shown["items"], sum(shown["interactions"].values())) == (4, 12, 48)
    assert document(capsys, "data", "show", tmp_path / "d") == shown


def test_recommend(capsys: Capture, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[0]
    shown = document(capsys, "recommend", tiny_run, "--user", user, "-k", 4)
    assert shown["user"] == user
    assert [row["rank"] for row in shown["items"]] == [1, 2, 3, 4]
    assert all(set(row) == {"item_id", "score", "rank", "title"} for row in shown["items"])
    assert [token["token"][:3] for token in shown["tokens"]] == ["<u."] * 6


def test_recommend_explains_as_explain_does(capsys: Capture, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[1]
    row = document(capsys, "recommend", tiny_run, "--user", user, "-k", 1, "--explain")["items"][0]
    shown = document(capsys, "explain", tiny_run, "--user", user, "--item", row["item_id"])
    assert shown["text"] == row["explanation"]
    assert shown["title"] == row["title"]
    assert len(shown["tokens"]) == 12
    assert all(isinstance(token["contribution"], float) for token in shown["tokens"])


def test_somebody_new_with_a_history(capsys: Capture, tiny_run: Path, tiny_town: Dataset) -> None:
    items = tiny_town.items.values[:2]
    history = [argument for item in items for argument in ("--history", item)]
    shown = document(capsys, "recommend", tiny_run, *history, "-k", 2)
    assert shown["user"] is None
    assert not set(items) & {row["item_id"] for row in shown["items"]}
    why = document(capsys, "explain", tiny_run, *history, "--item", shown["items"][0]["item_id"])
    assert len(why["tokens"]) == 12


def test_vocabulary(capsys: Capture, tiny_run: Path) -> None:
    shown = document(capsys, "vocabulary", tiny_run)
    assert set(shown["health"]) == {"user_macro", "user_micro", "item_macro", "item_micro"}
    word = shown["words"][0]
    assert document(capsys, "vocabulary", tiny_run, "--token", word["token"]) == word
    assert {"token", "usage", "gloss", "nearest"} <= set(word)


def test_a_table_of_runs(capsys: Capture, tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_recipe.read_text())
    table = tmp_path / "table.toml"
    table.write_text('name = "t"\nbase = "tiny.toml"\n[rows.one]\n[rows.other]\nvocabulary.micro = false\n')
    asked = "run", table, "--out", tmp_path / "runs", "--until", "vocabulary"
    shown = document(capsys, *asked)
    assert {row: stages["vocabulary"]["action"] for row, stages in shown["stages"].items()} == {
        "one": "done",
        "other": "done",
    }
    assert call(*asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("one: vocabulary skipped")
    assert lines[2].startswith("one, other: ")
    capsys.readouterr()
    assert call(*asked[:-2]) == 0
    shown = capsys.readouterr().out
    for words in ("Explanations and, below each, its controls", "gain: both", "Full ranking on test"):
        assert words in shown
    assert shown.splitlines()[-1] == lines[2]
    whole = document(capsys, *asked[:-2])
    assert set(whole["evaluation"]["runs"]) == {"one", "other"}


def test_evaluate(capsys: Capture, tiny_run: Path) -> None:
    shown = document(capsys, "evaluate", tiny_run)
    assert {"recall@20", "ndcg@20", "hr@20"} <= set(shown["ranking"])
    assert set(shown["health"]["user_macro"]) == {"perplexity", "used"}
    assert {"user", "item", "both"} <= set(shown["information_gain"])
    assert {"text", "controls", "nll"} <= set(shown)
    assert shown == document(capsys, "run", tiny_run / "recipe.toml", "--out", tiny_run)["evaluation"]


def test_evaluate_measures_the_vocabulary_alone(capsys: Capture, tiny_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(folder / "explainer")
    (folder / "evaluation.json").unlink()
    shown = document(capsys, "evaluate", folder)
    assert shown["ranking"]["recall@20"] >= 0
    assert shown["nll"] is None
    assert not (folder / "evaluation.json").exists()


def test_doctor(capsys: Capture) -> None:
    assert "python" in document(capsys, "doctor")


@pytest.mark.parametrize("command", ["evaluate", "vocabulary", "recommend", "explain", "show", "doctor"])
def test_tables_for_readers_are_plain_text(
    capsys: Capture, tiny_run: Path, tiny_town: Dataset, command: str
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
    assert call(*(["data"] if command == "show" else []), command, *arguments[command]) == 0
    printed = capsys.readouterr().out
    assert printed.strip()
    assert "\\[" not in printed
    assert "[bold]" not in printed


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert plain("caf\x1b[2Jé\r\x07\n日本") == "caf [2Jé  \n日本"


# --- mistakes


def test_unknown_ids_and_tokens(capsys: Capture, tiny_run: Path, tiny_town: Dataset) -> None:
    user = tiny_town.users.values[0]
    assert "nobody-at-all" in refusal(capsys, "recommend", tiny_run, "--user", "nobody-at-all")
    assert "nowhere" in refusal(capsys, "explain", tiny_run, "--user", user, "--item", "nowhere")
    assert "<u.macro_99999>" in refusal(capsys, "vocabulary", tiny_run, "--token", "<u.macro_99999>")


@pytest.mark.parametrize("options", [[], ["--user", "a", "--history", "b"]])
def test_one_person_must_be_named(capsys: Capture, tiny_run: Path, options: list[str]) -> None:
    assert "give one of --user, --history" in refusal(capsys, "recommend", tiny_run, *options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dance"], "No such command 'dance'"),
        (["run", "x.toml"], "Missing option '--out'"),
        (["run", "no.toml", "--out", "x"], "no.toml: no such recipe"),
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
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refusal(capsys, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_altered_artifact_is_named(
    capsys: Capture, tiny_run: Path, tiny_town: Dataset, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    weights = folder / "vocabulary" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    said = refusal(capsys, "recommend", folder, "--user", tiny_town.users.values[0])
    assert "model.safetensors" in said


def _raise(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("a.csv: row 3: empty id;\nfill it"), 2, "a.csv: row 3: empty id; fill it"),
        (OSError(errno.ENOSPC, "No space left on device", "/full/x"), 2, "/full/x: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 2, "/root/x: Permission denied"),
        (typer.BadParameter("no"), 2, "no"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (ValueError("boom"), 1, "internal error: ValueError: boom"),
        (typer.Exit(0), 0, ""),
    ],
)
def test_guard_is_the_one_place(capsys: Capture, error: BaseException, status: int, said: str) -> None:
    assert guarded(_raise(error)) == status
    last = (capsys.readouterr().err.splitlines() or [""])[-1]
    assert said in last


def test_reader_that_leaves_is_no_error(tiny_run: Path) -> None:
    command = [sys.executable, "-m", "forwhy", "vocabulary", str(tiny_run), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr.read() == b""
    process.stderr.close()


def test_help_lists_every_command(capsys: Capture) -> None:
    assert call("--help") == 0
    shown = capsys.readouterr().out
    assert "Recommendations with a because." in shown
    for name in COMMANDS:
        assert call(name, "--help") == 0
        assert f"  {name} " in shown
