"""The training loop: resume to the bit, early stop, schedules, accumulation, several processes.

Run as a script, this file is the toy training that the tests kill and launch in two processes.
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forwhy.errors import UserError
from forwhy.options import LoopConfig
from forwhy.training.engine import Task, take
from forwhy.training.loop import Diverged, train

Batch = tuple[Tensor, Tensor]


class Toy(Task[Batch]):
    """Regression on 40 samples, with dropout (draws from torch) and noise (draws from numpy)."""

    def __init__(self, size: int = 8, dropout: float = 0.2, delay: float = 0.0, fail_at: int = -1) -> None:
        generator = torch.Generator().manual_seed(5)
        self.x = torch.randn(40, 6, generator=generator)
        self.y = (self.x @ torch.randn(6, 2, generator=generator)).tanh()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.module = nn.Sequential(nn.Linear(6, 12), nn.Dropout(dropout), nn.Tanh(), nn.Linear(12, 2))
        self.size, self.delay, self.fail_at, self.dropout = size, delay, fail_at, dropout
        self.steps = self.evaluations = 0

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.module.parameters(), lr=0.05)

    def batches(self, epoch: int) -> Sequence[Batch]:
        order = np.random.default_rng((3, epoch)).permutation(len(self.x))
        return [(self.x[rows], self.y[rows]) for rows in np.split(order, range(self.size, 40, self.size))]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        time.sleep(self.delay)
        self.steps += 1
        if self.steps == self.fail_at:
            raise InterruptedError
        x, y = batch
        noise = float(np.random.rand()) * 0.01 if self.dropout else 0.0  # noqa: NPY002
        error = ((self.module(x + noise) - y) ** 2).mean()
        return {"loss": error, "rmse": error.sqrt()}

    def evaluate(self) -> dict[str, float]:
        self.evaluations += 1
        return {"error": float(((self.module(self.x) - self.y) ** 2).mean()), "other": 1.0}


class Scripted(Toy):
    """Validation metrics come from a list."""

    def __init__(self, values: list[float], higher: bool = False) -> None:
        super().__init__()
        self.values, self.higher_is_better = values, higher

    def evaluate(self) -> dict[str, float]:
        self.evaluations += 1
        return {"score": self.values[self.evaluations - 1]}


def config(**options: object) -> LoopConfig:
    plain = {"epochs": 6, "checkpoint_seconds": 0.0, "device": "cpu", "log_every": 2}
    return LoopConfig.model_validate(plain | options)


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the seconds."""
    documents = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in documents]


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def weights(task: Toy) -> list[float]:
    return [value for parameter in task.module.parameters() for value in parameter.flatten().tolist()]


def script(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, str(folder), *arguments]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- resume


STYLES: list[dict[str, Any]] = [
    {},
    {"checkpoint_seconds": 0.004, "accumulation": 2},
    {"evaluate_unit": "steps", "evaluate_every": 4, "schedule": "cosine", "warmup": 0.1},
    {"schedule": "plateau", "patience": 0},
]


@pytest.mark.parametrize("fail_at", [1, 2, 5, 6, 13, 29])
@pytest.mark.parametrize("options", STYLES)
def test_a_broken_run_continues_to_the_same_bits(
    tmp_path: Path, fail_at: int, options: dict[str, Any]
) -> None:
    whole = Toy(delay=0.001)
    expected = train(whole, config(**options), tmp_path / "whole", "toy")
    with pytest.raises(InterruptedError):
        train(Toy(delay=0.001, fail_at=fail_at), config(**options), tmp_path / "broken", "toy")
    resumed = Toy()
    result = train(resumed, config(**options), tmp_path / "broken", "toy")
    assert weights(resumed) == weights(whole)
    assert result.best_metrics == expected.best_metrics
    assert result.step == expected.step
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")


def test_kill_9_then_rerun_gives_the_same_bytes(tmp_path: Path) -> None:
    process = script(tmp_path / "killed", "--delay", "0.1")
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while process.poll() is None and lines_in(metrics) < 5:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "final.safetensors").exists()
    main(["--delay", "0", str(tmp_path / "killed")])
    main(["--delay", "0", str(tmp_path / "whole")])
    final = "final.safetensors"
    assert (tmp_path / "killed" / final).read_bytes() == (tmp_path / "whole" / final).read_bytes()
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def test_ctrl_c_saves_at_the_step_boundary(tmp_path: Path) -> None:
    class Interrupted(Toy):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            if self.steps == 7:
                signal.raise_signal(signal.SIGINT)
            return super().loss(batch)

    slow = {"checkpoint_seconds": 1e9}
    with pytest.raises(KeyboardInterrupt):
        train(Interrupted(), config(**slow), tmp_path / "cut", "toy")
    resumed, whole = Toy(), Toy()
    train(resumed, config(**slow), tmp_path / "cut", "toy")
    train(whole, config(**slow), tmp_path / "whole", "toy")
    assert resumed.steps == whole.steps - 8
    assert weights(resumed) == weights(whole)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_training_returns_at_once(tmp_path: Path) -> None:
    first, again = Toy(), Toy()
    expected = train(first, config(), tmp_path, "toy")
    result = train(again, config(), tmp_path, "toy")
    assert (again.steps, again.evaluations) == (0, 0)
    assert (result, weights(again)) == (expected, weights(first))


@pytest.mark.parametrize("change", [{"options": {"seed": 1}}, {"identity": "other data"}])
def test_other_options_or_data_start_afresh(tmp_path: Path, change: dict[str, Any]) -> None:
    train(Toy(), config(), tmp_path, "toy")
    task = Toy()
    train(task, config(**change.get("options", {})), tmp_path, "toy", identity=change.get("identity", ""))
    assert task.steps == 30
    assert sum("train" in line for line in lines(tmp_path)) == 15


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(Toy(), config(), tmp_path, "toy")
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: damaged"):
        train(Toy(), config(), tmp_path, "toy")


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InterruptedError):
        train(Toy(fail_at=8), config(), tmp_path, "toy")
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("forwhy.training.checkpoint.save_file", full)
        with pytest.raises(UserError, match="the disk is full"):
            train(Toy(), config(), tmp_path, "toy")
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    resumed, whole = Toy(), Toy()
    train(resumed, config(), tmp_path, "toy")
    train(whole, config(), tmp_path / "whole", "toy")
    assert weights(resumed) == weights(whole)


def test_checkpoints_hold_no_pickle_and_every_state(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError):
        train(Toy(fail_at=8), config(), tmp_path, "toy")
    with safe_open(tmp_path / "checkpoint.safetensors", framework="pt") as stored:
        groups = {name.split("/")[0] for name in stored.keys()}  # noqa: SIM118
        state = json.loads(stored.metadata()["forwhy"])
    assert groups == {"best", "generators", "module", "optimizer"}
    assert state["step"] == 7


def test_the_callers_generators_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    train(Toy(), config(), tmp_path, "toy")
    assert torch.equal(torch.rand(3), expected)


# --- stopping and choosing


@pytest.mark.parametrize("higher", [False, True])
def test_the_best_state_wins_and_patience_ends_it(tmp_path: Path, higher: bool) -> None:
    values = [5.0, 4.0, 4.0, 4.5, 9.0, 9.0]
    task = Scripted([-value for value in values] if higher else values, higher)
    result = train(task, config(patience=3), tmp_path, "toy")
    assert (result.best_epoch, result.best_step, task.evaluations) == (2, 10, 5)
    reference = Scripted([2.0, 1.0])
    train(reference, config(epochs=2, schedule="constant"), tmp_path / "two", "toy")
    assert weights(task) == weights(reference)
    assert not task.module.training


def test_patience_counts_evaluations_in_steps(tmp_path: Path) -> None:
    task = Scripted([3.0, 1.0, 2.0, 2.0, 2.0])
    result = train(task, config(evaluate_unit="steps", evaluate_every=3, patience=2), tmp_path, "toy")
    assert (result.best_step, result.step) == (6, 12)
    assert [entry["step"] for entry in result.history] == [3, 6, 9, 12]


def test_the_start_may_be_the_best(tmp_path: Path) -> None:
    task = Scripted([1.0, 2.0, 2.0])
    start = weights(task)
    result = train(task, config(evaluate_first=True, patience=2), tmp_path, "toy")
    assert (result.best_epoch, weights(task)) == (0, start)
    untrained = Toy()
    assert train(untrained, config(epochs=0), tmp_path / "none", "toy").step == 0
    assert weights(untrained) == start


def test_nan_is_an_error_in_one_line_that_keeps_the_last_good_state(tmp_path: Path) -> None:
    class Exploding(Toy):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            parts = super().loss(batch)
            return {**parts, "loss": parts["loss"] * (math.nan if self.steps == 4 else 1.0)}

    with pytest.raises(Diverged, match=r"toy: the loss is nan at step 4 .*learning rate") as error:
        train(Exploding(), config(), tmp_path, "toy")
    assert "\n" not in str(error.value)
    kept = load_file(tmp_path / "checkpoint.safetensors")
    assert all(torch.isfinite(tensor.float()).all() for tensor in kept.values())
    with pytest.raises(Diverged, match="score is nan"):
        train(Scripted([math.nan]), config(), tmp_path / "metric", "toy")


def test_no_batches_is_the_callers_error(tmp_path: Path) -> None:
    class Empty(Toy):
        def batches(self, epoch: int) -> Sequence[Batch]:
            return []

    with pytest.raises(UserError, match="nothing to train on"):
        train(Empty(), config(), tmp_path, "toy")


# --- steps


def test_the_schedule_reaches_the_optimiser_and_the_log(tmp_path: Path) -> None:
    train(Toy(), config(schedule="cosine", log_every=1, epochs=2), tmp_path, "toy")
    rates = [line["rate"] for line in lines(tmp_path) if "rate" in line]
    assert rates == pytest.approx([0.5 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])


def test_the_rate_falls_to_a_quarter_after_each_validation_that_is_not_the_best(tmp_path: Path) -> None:
    script = Scripted([3.0, 4.0, 2.0, 2.5, 2.0])
    train(script, config(schedule="plateau", log_every=5, epochs=5, patience=0), tmp_path, "toy")
    rates = [line["rate"] for line in lines(tmp_path) if "train" in line]
    assert rates == [1.0, 1.0, 0.25, 0.25, 0.0625]


@pytest.mark.parametrize("uneven", [False, True])
def test_accumulated_batches_equal_one_large_batch(tmp_path: Path, uneven: bool) -> None:
    class Uneven(Toy):
        """Each batch of 8 as two of 5 and 3."""

        def batches(self, epoch: int) -> Sequence[Batch]:
            whole = super().batches(epoch)
            return [take(batch, *rows) for batch in whole for rows in ((0, 5), (5, 8))]

    large = Toy(size=8, dropout=0.0)
    small = Uneven(dropout=0.0) if uneven else Toy(size=4, dropout=0.0)
    train(large, config(), tmp_path / "large", "toy")
    result = train(small, config(accumulation=2), tmp_path / "small", "toy")
    assert result.step == 30
    assert weights(small) == pytest.approx(weights(large), rel=1e-4, abs=1e-6)


def test_clipping_bounds_the_update(tmp_path: Path) -> None:
    class Plain(Toy):
        def optimizer(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.module.parameters(), lr=1.0)

    task = Plain(size=40)
    start = torch.tensor(weights(task))
    train(task, config(epochs=1, gradient_clip=1e-3), tmp_path, "toy")
    assert float((torch.tensor(weights(task)) - start).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop])
def test_other_optimisers_resume_too(tmp_path: Path, optimizer: type[torch.optim.Optimizer]) -> None:
    class Other(Toy):
        def optimizer(self) -> torch.optim.Optimizer:
            momentum = {} if optimizer is torch.optim.Adagrad else {"momentum": 0.9}
            return optimizer(self.module.parameters(), lr=0.01, **momentum)  # type: ignore[call-arg]

    whole, resumed = Other(), Other()
    train(whole, config(), tmp_path / "whole", "toy")
    with pytest.raises(InterruptedError):
        train(Other(fail_at=12), config(), tmp_path / "cut", "toy")
    train(resumed, config(), tmp_path / "cut", "toy")
    assert weights(resumed) == weights(whole)


# --- several processes, precision


def test_two_processes_follow_the_same_losses_as_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    launch["ACCELERATE_USE_CPU"] = "true"
    arguments = ("--dropout", "0", "--size", "7", "--accumulation", "2")
    processes = [
        script(tmp_path / "two", *arguments, RANK=rank, LOCAL_RANK=rank, **launch) for rank in ("0", "1")
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    main([str(tmp_path / "one"), *arguments])
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [line["step"] for line in two] == [line["step"] for line in one]
    for kind, name in (("train", "loss"), ("valid", "error")):
        losses = [[line[kind][name] for line in run if kind in line] for run in (one, two)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_bf16_trains_near_fp32(tmp_path: Path) -> None:
    exact, coarse = Toy(dropout=0.0), Toy(dropout=0.0)
    expected = train(exact, config(), tmp_path / "fp32", "toy").best_metrics["error"]
    result = train(coarse, config(precision="bf16"), tmp_path / "bf16", "toy")
    assert result.best_metrics["error"] == pytest.approx(expected, rel=0.1)
    assert next(coarse.module.parameters()).dtype == torch.float32
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        train(Toy(), config(precision="fp16"), tmp_path / "fp16", "toy")


def main(arguments: list[str]) -> None:
    """Train the toy into a folder; the state it ends in goes to final.safetensors."""
    from argparse import ArgumentParser

    parser = ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--accumulation", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = Toy(options.size, options.dropout, options.delay)
    train(task, config(accumulation=options.accumulation), options.folder, "toy")
    if os.environ.get("RANK", "0") == "0":
        save_file(task.module.state_dict(), options.folder / "final.safetensors")


if __name__ == "__main__":
    main(sys.argv[1:])
