"""The one training loop of every stage: resume, early stop, schedules, metrics.jsonl, many processes.

:class:`LoopConfig` imports no torch, so that recipes are checked fast; the rest is imported at first use.

Several processes: start the same command under a launcher. Each takes its shard of every batch
(:meth:`Task.shard`), gradients are averaged, the main one writes files. A resume gives the uninterrupted
result there too, except under DeepSpeed, whose optimiser moments are not kept.

    torchrun --nproc_per_node 2 -m forwhy run RECIPE …                                 CPUs, DDP over gloo
    accelerate launch --multi_gpu --num_processes 4 -m forwhy run RECIPE …             GPUs, DDP
    accelerate launch --use_deepspeed --zero_stage 2 --num_processes 4 -m forwhy …     GPUs, ZeRO-2
"""

from importlib import import_module
from typing import TYPE_CHECKING

from forwhy.training.options import LoopConfig, TrainingOptions

if TYPE_CHECKING:
    from forwhy.training.checkpoint import seed_everything
    from forwhy.training.engine import is_main, resolve_device, wait_for_everyone
    from forwhy.training.loop import Diverged, TrainingResult, train
    from forwhy.training.task import Epoch, Task, count, take

__all__ = [
    "Diverged",
    "Epoch",
    "LoopConfig",
    "Task",
    "TrainingOptions",
    "TrainingResult",
    "count",
    "is_main",
    "resolve_device",
    "seed_everything",
    "take",
    "train",
    "wait_for_everyone",
]

_HOMES = {
    "engine": ("is_main", "resolve_device", "wait_for_everyone"),
    "loop": ("Diverged", "TrainingResult", "train"),
    "checkpoint": ("seed_everything",),
    "task": ("Epoch", "Task", "count", "take"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"forwhy.training.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
