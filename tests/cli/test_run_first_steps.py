"""`forwhy doctor` and `forwhy demo`."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from forwhy.cli import run
from forwhy.data.sample import little_town


def test_doctor(cli: Any) -> None:
    assert "python" in cli.document("doctor")


def test_demo_on_a_smaller_town(
    cli: Any,
    capsys: pytest.CaptureFixture[str],
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    town = partial(little_town, users=40, items=30, visits=8, explanations=(30, 8, 8))
    monkeypatch.setattr(run, "little_town", town)
    monkeypatch.setattr(run, "packaged_recipe", lambda _: tiny_recipe)
    shown = cli.document("demo", "--out", tmp_path / "d")
    assert [len(person["items"]) for person in shown["people"]] == [run.ITEMS] * run.PEOPLE
    assert all(item["explanation"] for person in shown["people"] for item in person["items"])
    assert cli.call("demo", "--out", tmp_path / "d") == 0
    printed = capsys.readouterr().out
    assert "what they might like, and why" in printed
    further = [line.split() for line in printed.splitlines() if line.startswith("  forwhy ")]
    assert [words[1] for words in further] == ["explain", "vocabulary", "serve"]
    assert cli.call(*further[0][1:]) == 0
