"""`forwhy run`: a table of runs."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from pathlib import Path
from socket import socket
from typing import Any

import pytest

from forwhy.data.dataset import Dataset, make_dataset

Capture = pytest.CaptureFixture[str]


def test_a_table_of_runs(cli: Any, capsys: Capture, tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(tiny_recipe.read_text())
    table = tmp_path / "table.toml"
    table.write_text('name = "t"\nbase = "tiny.toml"\n[rows.one]\n[rows.other]\nvocabulary.micro = false\n')
    asked = "run", table, "--out", tmp_path / "runs", "--until", "vocabulary"
    shown = cli.document(*asked)
    done = {"one": "done", "other": "done"}
    assert {row: it["stages"]["vocabulary"]["action"] for row, it in shown["rows"].items()} == done
    assert shown["rows"]["one"]["run"] == str(tmp_path / "runs" / "one")
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


def test_json_of_a_run_is_the_run(cli: Any, tiny_run: Path) -> None:
    shown = cli.document("run", tiny_run / "recipe.toml", "--out", tiny_run)
    assert list(shown) == ["name", "system", "run", "stages", "seconds"]
    assert {stage: it["action"] for stage, it in shown["stages"].items()} == dict.fromkeys(
        ("vocabulary", "explainer", "evaluation"), "skipped"
    )
    assert shown["run"] == str(tiny_run)
    assert 0 <= shown["seconds"] < 60


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("explainer.model=smolm2", "explainer.model: model 'smolm2': no such folder"),
        ("explainer.model={town}", "explainer.model: {town}: no config.json"),
        ("encoder.name=minilmm", "encoder.name: model 'minilmm'"),
        ("data.path={town}x", "{town}x: no such folder"),
    ],
)
def test_a_wrong_name_is_found_before_the_first_stage(
    cli: Any, tiny_recipe: Path, tmp_path: Path, option: str, said: str
) -> None:
    town = tiny_recipe.parent / "town"
    refusal = cli.refusal("run", tiny_recipe, "--out", tmp_path / "run", "--set", option.format(town=town))
    assert said.format(town=town) in refusal
    assert not (tmp_path / "run").exists()


def test_a_server_that_is_not_there_is_found_before_the_first_stage(
    cli: Any, tiny_recipe: Path, tmp_path: Path
) -> None:
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        words = (
            "explainer.reader=words",
            f"explainer.words.chat={{ model = 'm', url = '{url}', backoff = 0 }}",
        )
        sets = [part for word in words for part in ("--set", word)]
        refusal = cli.refusal("run", tiny_recipe, "--out", tmp_path / "run", *sets)
    assert f"explainer.words.chat: LLM 'm' at {url}" in refusal
    assert not (tmp_path / "run").exists()


def test_what_is_done_needs_no_model(cli: Any, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forwhy.systems.explaining.locate", lambda *_: pytest.fail("looked for a model"))
    assert cli.call("run", tiny_run / "recipe.toml", "--out", tiny_run) == 0


def test_a_remedy_that_was_followed_does_not_come_back(
    cli: Any, tiny_town: Dataset, tiny_recipe: Path, tmp_path: Path
) -> None:
    tables = {name: table for name, table in tiny_town.tables.items() if name != "explanations"}
    make_dataset("untold", tables, {}).save(tmp_path / "untold")
    asked = "run", tiny_recipe, "--set", f"data.path={tmp_path / 'untold'}", "--out", tmp_path / "run"
    assert cli.document(*asked, "--until", "vocabulary")["stages"]["vocabulary"]["action"] == "done"
    refusal = cli.refusal("profile", tmp_path / "run", "--user", tiny_town.users.values[0])
    assert "forwhy run" not in refusal
    assert f"forwhy mine explanations {tmp_path / 'untold'} --llm MODEL" in refusal
