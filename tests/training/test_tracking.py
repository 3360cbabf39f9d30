"""Trackers get the rows of metrics.jsonl, one run of theirs for one of ours, and never stop a training."""

from __future__ import annotations

import importlib.machinery
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from forwhy.errors import UserError
from forwhy.training import tracking
from forwhy.training.checkpoint import MetricsLog
from forwhy.training.tracking import TRACKERS, Tracked

ROWS: list[dict[str, Any]] = [
    {"task": "words", "step": 10, "train": {"loss": 2.5}},
    {"task": "words", "step": 12, "valid": {"hr@20": 0.25, "gap": float("nan")}, "best": True},
]


def write(run: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """Rows of a stage of a run, as a training writes them."""
    run.mkdir(exist_ok=True)
    (run / "recipe.toml").write_text("")
    file = run / "work" / "words-1" / "metrics.jsonl"
    with MetricsLog(file, 0, writes=True) as log:
        for row in rows:
            log.write(row)
    return file


class Fake(ModuleType):
    """A module with the interface of wandb and of mlflow, that writes down what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.calls: list[Any] = []
        self.broken = False

    def init(self, project: str, name: str) -> None:
        self.calls.append(("open", name))

    def log(self, numbers: dict[str, float]) -> None:
        if self.broken:
            raise RuntimeError("no connection")
        self.calls.append(numbers)

    def finish(self) -> None:
        self.calls.append("end")

    def start_run(self, run_name: str) -> None:
        self.calls.append(("open", run_name))

    def log_metrics(self, numbers: dict[str, float], step: int) -> None:
        self.calls.append((numbers, step))

    end_run = finish


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Fake]:
    def made(name: str) -> Fake:
        module = Fake(name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return made


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_like_wandb(name: str, fake: Callable[[str], Fake], tmp_path: Path) -> None:
    module = fake(name)
    with Tracked(name):
        write(tmp_path / "one")
        write(tmp_path / "two", ROWS[:1])
    first, second = {"words/train/loss": 2.5, "step": 10}, {"words/valid/hr@20": 0.25, "step": 12}
    assert module.calls == [("open", "one"), first, second, "end", ("open", "two"), first, "end"]
    write(tmp_path / "after")
    assert len(module.calls) == 7


def test_mlflow(fake: Callable[[str], Fake], tmp_path: Path) -> None:
    module = fake("mlflow")
    with Tracked("mlflow"):
        write(tmp_path / "one")
    rows = [({"words/train/loss": 2.5}, 10), ({"words/valid/hr_20": 0.25}, 12)]
    assert module.calls == [("open", "one"), *rows, "end"]


def test_a_tracker_that_fails_is_told_of_once(
    fake: Callable[[str], Fake],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = fake("wandb")
    module.broken = True
    with Tracked("wandb"):
        file = write(tmp_path / "one")
    (warning,) = caplog.messages
    assert warning == "wandb failed (RuntimeError: no connection); the run goes on without it"
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [10, 12]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="forwhy[track] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Tracked("tensorboard"):
        write(tmp_path / "one")
    found = EventAccumulator(str(tmp_path / "one" / "tensorboard"))
    found.Reload()
    assert found.Tags()["scalars"] == ["words/train/loss", "words/valid/hr@20"]
    assert [(it.step, it.value) for it in found.Scalars("words/valid/hr@20")] == [(12, 0.25)]


def test_who_is_followed_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Tracked(None):
        assert not tracking.followers
    with pytest.raises(UserError, match="name one of trackio, wandb, mlflow, tensorboard"), Tracked("aim"):
        pass
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for name in TRACKERS:
        with (
            pytest.raises(UserError, match=f"--track {name}: not installed.*pip install {name}"),
            Tracked(name),
        ):
            pass
    assert not tracking.followers
