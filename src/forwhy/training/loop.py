"""The training loop: position, generators, optimiser and best state are saved together, so a kill loses nothing."""

import json
import logging
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from forwhy.errors import UserError
from forwhy.options import LoopConfig
from forwhy.progress import Progress
from forwhy.training import checkpoint, engine
from forwhy.training.checkpoint import Tensors, TrainingState
from forwhy.training.engine import Task, is_main, seed_everything

CHECKPOINT, METRICS = "checkpoint.safetensors", "metrics.jsonl"
log = logging.getLogger(__name__)


class Diverged(UserError):
    """The loss or the first metric is not a finite number."""


def train(task: Task[Any], config: LoopConfig, folder: Path, name: str, identity: str = "") -> TrainingState:
    """Train ``task.module`` in place and leave its best state (not the last) in it, in eval mode.

    ``folder`` gets ``metrics.jsonl`` and ``checkpoint.safetensors``; run again with the same options and
    ``identity`` (say, a hash of the data), the training continues, or returns at once if it had finished.
    On one CPU process the result is the same to the bit however often it was interrupted. Ctrl-C and SIGTERM
    save a checkpoint first; a second Ctrl-C does not wait. Memory beside the task's own: one copy of the module's
    state on the CPU. The caller's generators are left as they were. Raises :class:`Diverged` on a loss that is not
    finite, :class:`UserError` on a full disk or an epoch without batches.
    """
    with engine.kept_generators():
        return _Training(task, config, Path(folder), name, identity).run()


class _Training:
    """One call of :func:`train`."""

    def __init__(self, task: Task[Any], config: LoopConfig, folder: Path, name: str, identity: str) -> None:
        self.task, self.config, self.name, self.path = task, config, name, folder / CHECKPOINT
        self.device = engine.resolve_device(config.device)
        shapes = {key: list(value.shape) for key, value in task.module.state_dict().items()}
        self.state = TrainingState({"options": config.identity(), "data": identity, "module": shapes})
        self.best: Tensors = {}
        self.generators: Tensors = {}
        seed_everything(config.seed)
        stored = self._read()
        task.module.to(self.device)
        self.optimizer = task.optimizer()
        self.rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.engine = engine.Engine(config, task.module, task.loss, self.optimizer, self.device, task.whole)
        self._restore(stored)
        self.metrics = checkpoint.MetricsLog(folder / METRICS, self.state.log_bytes, is_main())
        self.sums = {key: torch.tensor(value, device=self.device) for key, value in self.state.sums.items()}
        self.saved = time.monotonic()
        self.started = self.saved - self.state.seconds  # of all runs that led here, as if in one

    # --- resuming

    def _read(self) -> dict[str, Tensors]:
        """The tensors of a checkpoint made under the same options; the module's are put in place at once."""
        stored = checkpoint.read_checkpoint(self.path)
        if stored is None:
            return {}
        state, groups = stored
        if state.identity != json.loads(json.dumps(self.state.identity)):
            log.warning("%s: %s is of other options or data; training from the start", self.name, self.path)
            return {}
        self.state, self.best = state, groups.get("best", {})
        if "module" in groups:
            self.task.module.load_state_dict(groups["module"])
        return groups

    def _restore(self, groups: dict[str, Tensors]) -> None:
        """Optimiser, loss scale and generators; the latter wait until the batches are laid out again."""
        if groups.get("optimizer"):
            checkpoint.unpack_optimizer(self.optimizer, groups["optimizer"])
        elif self.state.step and not self.state.finished:
            log.warning("%s: under DeepSpeed the optimiser's moments start anew", self.name)
        if self.engine.scaler is not None and self.state.scaler:
            self.engine.scaler.load_state_dict(self.state.scaler)
        self.generators = groups.get("generators", {})
        if self.state.step and not self.state.finished:
            log.info("%s: continuing at step %d (epoch %d)", self.name, self.state.step, self.state.epoch)

    def _save(self) -> None:
        self.state.seconds = time.monotonic() - self.started
        if not is_main():
            return
        state, groups = self.state, {"best": self.best}
        state.log_bytes = self.metrics.sync()
        state.scaler = {} if self.engine.scaler is None else dict(self.engine.scaler.state_dict())
        state.sums = {key: float(value) for key, value in self.sums.items()}
        if not state.finished:
            groups["module"] = self.task.module.state_dict()
            groups["generators"] = engine.pack_generators()
            if self.engine.keeps_optimizer:
                groups["optimizer"] = checkpoint.pack_optimizer(self.optimizer)
        checkpoint.write_checkpoint(self.path, state, groups)
        self.saved = time.monotonic()

    # --- the loop

    def run(self) -> TrainingState:
        """Train until over, then put the best state into the module."""
        state = self.state
        with engine.deterministic(self.device), self.metrics, engine.Signals() as self.signals:
            if not state.finished:
                with Progress(self.name, state.total_steps or None, state.step) as self.progress:
                    self._train()
                state.finished = True
                self._save()
            self.signals.stop(f"{self.name}: finished and saved; run the same command to continue")
        self.task.module.load_state_dict(self.best)
        self.task.module.eval()
        return state

    def _train(self) -> None:
        if self.config.evaluate_first and not self.state.history:
            self._evaluate()
        while not self._is_over():
            self._epoch()
        if not self.state.history or self.state.history[-1]["step"] != self.state.step:
            self._evaluate()

    def _is_over(self) -> bool:
        state, config = self.state, self.config
        return state.epoch >= config.epochs or 0 < config.patience <= state.stale

    def _epoch(self) -> None:
        """The rest of the current epoch, from the batch where the state stands."""
        epoch = self.state.epoch
        batches = self.task.batches(epoch)
        if not (size := len(batches)):
            raise UserError(f"{self.name}: nothing to train on; check that the training split is not empty")
        most = self.config.epochs * math.ceil(size / self.config.accumulation)
        self.progress.total = self.state.total_steps = self.state.total_steps or most
        rest = islice(iter(batches), self.state.batch, None)
        if self.generators:  # after the batches, so that whatever these drew is undone
            engine.unpack_generators(self.generators)
            self.generators = {}
        self.task.module.train()
        state = self.state
        while state.epoch == epoch and not self._is_over():
            group = list(islice(rest, self.config.accumulation))
            if not group:
                raise ValueError(f"{self.name}: epoch {epoch} gave fewer batches than its length {size}")
            self._step(group)
            state.step += 1
            state.batch += len(group)
            if state.batch >= size:
                state.epoch, state.batch = epoch + 1, 0
            self._after_step()

    def _step(self, group: list[Any]) -> None:
        """One update from the weighted mean of the losses of a group of batches, over all processes."""
        state, running = self.state, self.engine
        if running.world > 1:  # each process its own draws, the same again after a resume
            seed_everything(self.config.seed, state.step, running.rank)
        rate = self._rate(state.step)
        for options, full in zip(self.optimizer.param_groups, self.rates, strict=True):
            options["lr"] = full * rate
        loss = torch.zeros((), device=self.device)
        for position, (batch, scale) in enumerate(self._shares(group), start=1):
            parts = running.accumulate(batch, scale, last=position == len(group))
            for key, value in parts.items():  # of what the next training line will show
                part = value.detach().float() * scale
                self.sums[key] = self.sums[key] + part if key in self.sums else part
            loss = loss + parts["loss"].detach() * scale
        if self.device.type == "cpu":  # elsewhere reading it each step would stall the device
            self._check(float(loss))
        running.update(self.config.gradient_clip)
        state.summed += 1

    def _rate(self, step: int) -> float:
        misses = sum(not entry["best"] for entry in self.state.history)
        return self.config.rate(step, self.state.total_steps, misses)

    def _shares(self, group: list[Any]) -> Iterator[tuple[Any, float]]:
        """This process's part of each batch and the factor on its loss.

        With units w of all shards of all batches summing to W, the factor is ``world * w / W``: processes are
        averaged, so the gradient is the mean over all units, as in one process with one large batch.
        """
        task, world = self.task, self.engine.world
        if world == 1 and len(group) == 1:
            yield group[0], 1.0
            return
        total = sum(task.weight(batch) for batch in group)
        for batch in group:
            shard = batch if world == 1 else task.shard(batch, self.engine.rank, world)
            weight = task.weight(shard)
            if not total:
                yield shard, 1.0 / len(group)
            else:  # an empty shard still takes part in the exchange: any batch, counted zero times
                yield (shard if weight else batch), world * weight / total

    def _check(self, loss: float) -> None:
        if math.isfinite(loss):
            return
        parts = ", ".join(f"{key}={float(value):.4g}" for key, value in self.sums.items())
        raise Diverged(
            f"{self.name}: the loss is {loss} at step {self.state.step + 1} (sums: {parts}); "
            "lower the learning rate, set gradient_clip, or look for extreme values in the input"
        )

    def _after_step(self) -> None:
        state = self.state
        if state.step % self.config.log_every == 0:
            self._log_step()
        self.progress.advance()
        if state.batch == 0 and state.epoch == self.task.pretraining:
            self.optimizer.state.clear()
        if self._is_due():
            self._evaluate()
        if self.signals.received:
            self._save()
            self.signals.stop(f"{self.name}: saved at step {state.step}; run the same command to continue")
        if time.monotonic() - self.saved >= self.config.checkpoint_seconds:
            self._check(sum(float(value) for value in self.sums.values()))
            self._save()

    def _is_due(self) -> bool:
        state, every = self.state, self.config.evaluate_every
        if self.config.evaluate_unit == "steps":
            return state.step % every == 0
        return state.batch == 0 and state.epoch % every == 0 and state.epoch > self.task.pretraining

    def _log_step(self) -> None:
        state = self.state
        values = self.engine.mean(torch.stack(list(self.sums.values()))) / state.summed
        means = dict(zip(self.sums, values.tolist(), strict=True))
        self._check(means["loss"])
        rate = self._rate(state.step - 1)
        self.metrics.write({**self._where(), "rate": rate, "train": means})
        best = [f" · best {key} {value:.4f}" for key, value in state.best_metrics.items()]
        self.progress.advance(0, note=f"loss {means['loss']:.3f}{''.join(best[:1])}")
        self.sums, state.summed = {}, 0

    def _where(self) -> dict[str, Any]:
        state, seconds = self.state, round(time.monotonic() - self.started, 3)
        return {"task": self.name, "step": state.step, "epoch": state.epoch, "seconds": seconds}

    def _evaluate(self) -> None:
        """Measure, and remember the state if it is the best so far."""
        state, module = self.state, self.task.module
        module.eval()
        with torch.no_grad(), self.engine.autocast():
            measured = {key: float(value) for key, value in self.task.evaluate().items()}
        module.train()
        metrics = dict(zip(measured, self.engine.from_main(list(measured.values())), strict=True))
        is_best = self._is_better(metrics)
        state.stale = 0 if is_best else state.stale + 1
        if is_best:
            state.best_epoch, state.best_step, state.best_metrics = state.epoch, state.step, metrics
            self.best = {name: it.detach().cpu().clone() for name, it in module.state_dict().items()}
        entry = {**self._where(), "valid": metrics, "best": is_best}
        state.history.append(entry)
        self.metrics.write(entry)

    def _is_better(self, metrics: dict[str, float]) -> bool:
        name, value = next(iter(metrics.items()))
        if math.isnan(value):
            raise Diverged(f"{self.name}: {name} is nan at step {self.state.step}; lower the learning rate")
        if not self.state.best_metrics:
            return True
        best = self.state.best_metrics[name]
        return value > best if self.task.higher_is_better else value < best
