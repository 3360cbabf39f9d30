"""Trackers follow metrics.jsonl: TensorBoard, MLflow, trackio or wandb; of one that fails nothing more is asked."""

import logging
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forwhy.errors import UserError

log = logging.getLogger(__name__)

Numbers = Mapping[str, float]
Opened = tuple[Callable[[Numbers, int], object], Callable[[], object]]
"""What takes numbers at a step, and what ends the run."""

followers: list[Callable[[Path, Mapping[str, Any]], None]] = []
"""Called with the file and each row that is written to it."""


def _tensorboard(run: Path) -> Opened:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / "tensorboard"))

    def send(numbers: Numbers, step: int) -> None:
        for key, value in numbers.items():
            writer.add_scalar(key, value, step)

    return send, writer.close


def _mlflow(run: Path) -> Opened:
    mlflow = import_module("mlflow")
    mlflow.start_run(run_name=run.name)

    def send(numbers: Numbers, step: int) -> None:
        mlflow.log_metrics({re.sub(r"[^\w./ -]", "_", key): it for key, it in numbers.items()}, step=step)

    return send, mlflow.end_run


def _wandb(run: Path, module: str = "wandb") -> Opened:
    """Each training counts its own steps, so the step is one of the numbers: wandb's own may not fall."""
    tracker = import_module(module)
    tracker.init(project="forwhy", name=run.name)
    return lambda numbers, step: tracker.log({**numbers, "step": step}), tracker.finish


TRACKERS: Mapping[str, Callable[[Path], Opened]] = {
    "trackio": lambda run: _wandb(run, "trackio"),
    "wandb": _wandb,
    "mlflow": _mlflow,
    "tensorboard": _tensorboard,
}


class Tracked:
    """While it is open, a tracker follows every run, each as a run of its own, until its first error; None: none."""

    def __init__(self, name: str | None) -> None:
        """Look for the library; a UserError where there is no such tracker, or it is not installed."""
        if name is not None and name not in TRACKERS:
            raise UserError(f"--track {name}: name one of {', '.join(TRACKERS)}")
        if name is not None and find_spec(name) is None:
            raise UserError(f"--track {name}: not installed; install it with: pip install {name}")
        self.name, self.failed = name, False
        self.run: Path | None = None
        self.opened: Opened | None = None

    def __enter__(self) -> None:
        if self.name is not None:
            followers.append(self)

    def __exit__(self, *_: object) -> None:
        if self.name is not None:
            followers.remove(self)
        self._end()

    def __call__(self, file: Path, row: Mapping[str, Any]) -> None:
        """Send a row of a run's metrics.jsonl."""
        run = next((it for it in file.resolve().parents if (it / "recipe.toml").is_file()), file.parent)
        if run != self.run:
            self._end()
            self.run, self.opened = run, self._safely(lambda: TRACKERS[str(self.name)](run))
        parts = [(part, row.get(part) or {}) for part in ("train", "valid")]
        named = {f"{row['task']}/{part}/{key}": it for part, its in parts for key, it in its.items()}
        if self.opened is not None:
            send = self.opened[0]
            self._safely(lambda: send({key: it for key, it in named.items() if it is not None}, row["step"]))

    def _end(self) -> None:
        if self.opened is not None:
            self._safely(self.opened[1])

    def _safely(self, action: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return None if self.failed else action()
        except Exception as error:  # whatever a tracker raises
            self.failed = True
            kind = type(error).__name__
            log.warning("%s failed (%s: %s); the run goes on without it", self.name, kind, error)
