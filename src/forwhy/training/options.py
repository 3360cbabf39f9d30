"""Options of the training loop, and its learning-rate schedules. No torch here."""

import math
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from forwhy.options import Options


class TrainingOptions(Options):
    """What a user may say of any training: how long, when to look, when to stop, where it runs.

    A system's options inherit these and declare a field again where its default differs.
    """

    epochs: NonNegativeInt = 10
    """Passes over the training data, at most; 0 trains nothing (the start is evaluated and kept)."""
    evaluate_every: PositiveInt = 1
    """Epochs between two validations; there is always one at the end."""
    patience: NonNegativeInt = 5
    """Validations without a better first metric after which training stops; 0: never."""
    checkpoint_seconds: NonNegativeFloat = 60.0
    """Seconds between two checkpoints; a killed run loses at most this much work."""
    seed: NonNegativeInt = 0
    """Of every random choice; with one seed a CPU run gives the same bytes."""
    device: str = "auto"
    """Where it runs: `auto` (this process's GPU, else the CPU), or a torch device such as `cpu` or `cuda:1`."""

    def identity(self) -> str:
        """The options that decide the result, as JSON; a checkpoint made under others is not continued."""
        return self.model_dump_json(exclude={"preset", "device", "checkpoint_seconds", "log_every"})

    def loop(self, validates: bool = True, **more: Any) -> "LoopConfig":  # noqa: ANN401 (fields of LoopConfig)
        """These options as the loop's; `more` wins. With nothing to validate on, the last epoch is kept."""
        own = {name: getattr(self, name) for name in LoopConfig.model_fields if hasattr(self, name)}
        values = own | more
        if not validates:
            values |= {"patience": 0, "evaluate_every": max(values["epochs"], 1)}
        return LoopConfig(**values)


class LoopConfig(TrainingOptions):
    """Everything the loop reads: a stage's `TrainingOptions` and how to step."""

    evaluate_unit: Literal["epochs", "steps"] = "epochs"
    """Whether `evaluate_every` counts epochs (short ones) or optimiser steps (long epochs)."""
    evaluate_first: bool = False
    """Evaluate before the first step: the start may be the best state (spectral start, warm start)."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What becomes of the optimiser's learning rates over all steps; `cosine` falls to 0."""
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of all steps in which the learning rate grows linearly from 0."""
    accumulation: int = Field(default=1, ge=1)
    """Batches whose gradients make one optimiser step; as if they had been one batch (memory for time)."""
    gradient_clip: float = Field(default=0.0, ge=0.0)
    """Largest L2 norm of all gradients together; 0 = no clipping."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision of the forward pass; the trained weights stay float32. fp16 needs a GPU."""
    log_every: int = Field(default=10, ge=1)
    """Optimiser steps per training line in metrics.jsonl."""

    def rate(self, step: int, total: int) -> float:
        """Factor on the learning rates for step ``step`` (from 0) of ``total``."""
        warm = math.ceil(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        if self.schedule == "constant":
            return 1.0
        share = min((step - warm) / max(total - warm, 1), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * share))
