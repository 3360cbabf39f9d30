"""What a stage supplies to the loop, how a batch is cut into shards, and how a step is computed on them."""

import json
import logging
import os
import random
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import is_dataclass, replace
from types import FrameType
from typing import Any, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import deterministic as fills

from forwhy.errors import UserError
from forwhy.options import LoopConfig

Batch = TypeVar("Batch")
Rows = NDArray[np.int64]
Loss = Callable[[Any], Mapping[str, Tensor]]
log = logging.getLogger(__name__)


class Task(ABC, Generic[Batch]):
    """A model to train, its batches, loss and evaluation.

    To be resumable to the bit, whatever changes during training lives in ``module`` (parameters and buffers), in the
    optimiser, or in the global generators; ``batches`` depends on nothing but the epoch (and the task's own seed).
    """

    module: nn.Module
    """The trained part. Frozen models stay outside of it: its ``state_dict`` is what checkpoints hold."""
    higher_is_better: bool = False
    """Direction of the first metric that :meth:`evaluate` returns."""
    pretraining: int = 0
    """Epochs at the beginning that learn something else. Nothing is evaluated before they are over; then the optimiser
    starts anew: moments of other gradients would slow it down for as many steps as it remembers."""

    whole: bool = False
    """Whether every process does all of it alone, with one result: a loss whose rows are each other's negatives, or
    sparse gradients, which DDP makes dense."""

    @abstractmethod
    def optimizer(self) -> Optimizer:
        """A fresh optimiser over ``module``'s parameters, which are on their device by then."""

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Batch]:
        """The batches of an epoch (from 0), in an order decided by seed and epoch only; asked anew on resume."""

    @abstractmethod
    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """``"loss"`` (a scalar, the mean over the batch) and any parts worth logging (scalars)."""

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Validation metrics; the first decides the best state. Called in eval mode, without gradients."""

    def shard(self, batch: Batch, rank: int, world: int) -> Batch:
        """The part of a batch that process ``rank`` of ``world`` works on; by default an even slice."""
        return shard_of(batch, rank, world)

    def weight(self, batch: Batch) -> float:
        """Of how many units (say, tokens) the batch's loss is a mean; batches are averaged by it. Here: samples."""
        return float(count(batch))


class Epoch(Sequence[Batch]):
    """The batches of one epoch, each made when it is asked for: `make` of each part, always the same."""

    def __init__(self, parts: Sequence[Any], make: Callable[[Any], Batch]) -> None:
        self._parts, self._make = parts, make

    @classmethod
    def shuffled(
        cls, rows: int, size: int, seed: tuple[int, ...], make: Callable[[Rows, np.random.Generator], Batch]
    ) -> "Epoch[Batch]":
        """Row numbers 0 to `rows` - 1 in an order drawn from `seed`, `size` of them a batch.

        `make` gets the rows of a batch, and a generator of that batch alone, seeded by (seed, index).
        """
        order = np.random.default_rng(seed).permutation(rows)

        def batch(index: int) -> Batch:
            return make(order[index * size : (index + 1) * size], np.random.default_rng((*seed, index)))

        return cls(range(-(-rows // size)), batch)

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]  # batches are not sliced
        return self._make(self._parts[index])


def batches_of(lengths: Rows, size: int, rng: np.random.Generator, pools: int = 16) -> list[Rows]:
    """Every row in one batch of `size`, rows of like length together, batches in random order.

    Rows are sorted by length within pools of `pools` batches: little padding, and every epoch mixes them anew.
    """
    order = rng.permutation(len(lengths))
    pool = np.arange(len(order)) // (size * pools)
    order = order[np.lexsort((lengths[order], pool))]
    starts = size * rng.permutation(-(-len(order) // size))
    return [order[start : start + size] for start in starts.tolist()]


def count(batch: Any) -> int:  # noqa: ANN401 - any batch
    """Samples in a list, tensor or array; of a tuple or dataclass of these, in its first."""
    if is_dataclass(batch):
        batch = tuple(vars(batch).values())
    return len(batch[0] if isinstance(batch, tuple) else batch)


def take(batch: Any, start: int, stop: int) -> Any:  # noqa: ANN401 - any batch
    """Samples `start` to `stop` of a batch, a list, tensor or array, or a tuple or dataclass of these."""
    if is_dataclass(batch) and not isinstance(batch, type):
        return replace(batch, **{name: part[start:stop] for name, part in vars(batch).items()})
    if not isinstance(batch, tuple):
        return batch[start:stop]
    parts = [part[start:stop] for part in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)


def shard_of(batch: Batch, rank: int, world: int) -> Batch:
    """The even slice of a batch that process `rank` of `world` works on."""
    total = count(batch)
    part: Batch = take(batch, rank * total // world, (rank + 1) * total // world)
    return part


# --- Devices, random generators, and how a step is computed: alone, or through accelerate (DDP, ZeRO-2, bf16, fp16).

BF16 = ("avx512_bf16", "amx_bf16")
"""Either lets an x86 processor multiply in bfloat16, as torch names them."""


def processor() -> dict[str, Any]:
    """What torch knows of the processor; empty where it does not say."""
    return dict(getattr(torch.cpu, "get_capabilities", dict)())


def lacks_bf16() -> bool:
    """Whether this is an x86 processor that does not multiply in bfloat16."""
    known = processor()
    return known.get("architecture") == "x86_64" and not any(known.get(it) for it in BF16)


def world_size() -> int:
    """Processes started by ``accelerate launch`` or ``torchrun``; 1 without."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_everyone() -> None:
    """Wait until all processes are here, for example until the main one has written a file."""
    if world_size() > 1:
        from accelerate import PartialState

        # On CPUs this has to be said: without, accelerate takes each process for the only one.
        PartialState(cpu=resolve_device().type == "cpu").wait_for_everyone()


def resolve_device(device: str = "auto") -> torch.device:
    """The device a task puts its tensors on: `auto` is this process's GPU, else the CPU; a UserError without it."""
    if device != "auto":
        try:
            torch.empty(0, device=device)
            return torch.device(device)
        except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
            reason = str(error).partition("\n")[0]
            raise UserError(f"device {device!r} cannot be used here ({reason}); use auto or cpu") from None
    if not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true"}:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


class Engine:
    """Forward, backward and update of one process among `world`: plain torch, or accelerate with the same bits."""

    def __init__(
        self,
        config: LoopConfig,
        module: nn.Module,
        loss: Loss,
        optimizer: Optimizer,
        device: torch.device,
        whole: bool = False,
    ) -> None:
        """`loss` gives the loss of a batch and parts worth logging; `module` lies on `device`. No fp16 on a CPU.

        `whole`: as of the task.
        """
        if config.precision == "fp16" and device.type == "cpu":
            raise UserError("option precision: fp16 needs a GPU; use bf16 or fp32 on a CPU")
        if config.precision == "bf16" and device.type == "cpu" and lacks_bf16():
            words = (
                "option precision: without %s bf16 takes up to eleven times as long as fp32; set it to 'fp32'"
            )
            log.warning(words, " or ".join(BF16))
        if _deepspeed() and config.accumulation > 1:
            raise UserError("option accumulation: not available under DeepSpeed; raise the batch size")
        self._module, self._step, self._optimizer, self._accelerator = module, loss, optimizer, None
        self.rank, self.world, self.keeps_optimizer = 0, 1, not _deepspeed()
        if (world_size() > 1 and not whole) or config.precision != "fp32" or _deepspeed():
            self._accelerator = _accelerator(config, device)
            self._step, self._optimizer = self._accelerator.prepare(_Step(module, loss), optimizer)
            if not whole:
                self.rank, self.world = self._accelerator.process_index, self._accelerator.num_processes

    def accumulate(self, batch: Any, scale: float, last: bool) -> Mapping[str, Tensor]:  # noqa: ANN401
        """Loss of a batch, and its gradients times `scale` added; `last` of the step synchronises."""
        if self._accelerator is None:
            parts = self._step(batch)
            (parts["loss"] * scale).backward()  # type: ignore[no-untyped-call]
            return parts
        with nullcontext() if last else self._accelerator.no_sync(self._step):
            parts = self._step(batch)
            self._accelerator.backward(parts["loss"] * scale)
        return parts

    def update(self, clip: float) -> None:
        """Clip the gradients to norm `clip` (0: not), step the optimiser, forget the gradients."""
        if clip:
            clipped = self._accelerator or nn.utils
            clipped.clip_grad_norm_(self._module.parameters(), clip)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes."""
        if self._accelerator is None:
            return values
        reduced: Tensor = self._accelerator.reduce(values, reduction="mean")
        return reduced

    def from_main(self, values: list[float]) -> list[float]:
        """The main process's values, on every process."""
        if self._accelerator is None:
            return values
        from accelerate.utils import broadcast

        # float32: collectives on some devices know no float64; every process gets the same rounding.
        shared = broadcast(torch.tensor(values, dtype=torch.float32, device=self._accelerator.device))
        return [float(value) for value in shared.tolist()]

    def autocast(self) -> Any:  # noqa: ANN401 - a context manager of torch or none
        """The precision of the forward pass."""
        return nullcontext() if self._accelerator is None else self._accelerator.autocast()

    @property
    def scaler(self) -> Any:  # noqa: ANN401 - torch's, or None
        """The fp16 loss scale, whose state is kept in checkpoints."""
        return getattr(self._accelerator, "scaler", None)


def _deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"


class _Step(nn.Module):
    """The loss as a module's forward, which is what DDP and DeepSpeed hook into."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self, batch: Any) -> dict[str, Tensor]:  # noqa: ANN401
        return dict(self._loss(batch))


def _accelerator(config: LoopConfig, device: torch.device) -> Any:  # noqa: ANN401 - accelerate is untyped
    """An Accelerator of this config's precision, whatever an earlier stage of this process used."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # keeps the process group, forgets the precision
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        device_placement=False,  # the loop has put the module where the config says
        mixed_precision="no" if config.precision == "fp32" else config.precision,
        # A shard may leave a parameter without gradient (a rare code's book), which DDP has to be told of.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    if plugin is not None:  # asked for because the loop hands over no data loader
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = 1
    return accelerator


class Signals:
    """Notes Ctrl-C and SIGTERM until the step is done; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.received = 0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT, signal.SIGTERM)
            self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number
        # Not through logging: a handler may interrupt it in the middle of a line.
        os.write(2, b"\nstopping after this step; press Ctrl-C again to stop at once\n")

    def stop(self, message: str) -> None:
        """End the run as the signal asked; without one, do nothing."""
        if not self.received:
            return
        log.warning(message)
        if self.received == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On a CPU, only operations that do not depend on thread timing; the caller's setting comes back after."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = fills.fill_uninitialized_memory  # type: ignore[attr-defined]
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
        fills.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it slows every allocation
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        fills.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def seed_everything(*seed: int) -> None:
    """Seed torch (all devices), numpy and python from one or more integers."""
    mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    torch.manual_seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002 - third-party code draws from the global generator
    random.seed(mixed)


def pack_generators() -> dict[str, Tensor]:
    """The state of all global generators as uint8 tensors: `host` (numpy and python, as JSON), `torch`, `cuda`."""
    name, keys, *position = np.random.get_state(legacy=True)  # noqa: NPY002
    host = json.dumps([random.getstate(), [name, np.asarray(keys).tolist(), *position]]).encode()
    state = {"host": torch.frombuffer(bytearray(host), dtype=torch.uint8), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def unpack_generators(state: Mapping[str, Tensor]) -> None:
    """Put the generators back to a packed state."""
    (version, words, gauss), of_numpy = json.loads(state["host"].numpy().tobytes())
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(of_numpy))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def kept_generators() -> Iterator[None]:
    """Give the caller's generators back as they were, whatever is seeded and drawn inside."""
    before = pack_generators()
    try:
        yield
    finally:
        unpack_generators(before)
