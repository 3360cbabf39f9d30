"""Options of the BEAT explainer, with the paper's and the released code's as presets. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from forwhy.bridge.config import GenerationConfig, ProjectorConfig, PromptConfig, SarConfig

_OFFICIAL_PROJECTOR = {
    "kind": "linear",
    "start": "none",
    "scale": "raw",
    "zero_last": False,
    "standardise": False,
    "slot_embedding": False,
    "train_codebooks": True,
}
_PUBLISHED: dict[str, Any] = {
    "prompt": {"title": True, "labels": True, "task_tokens": 0},
    "generation": {"max_words": 50},
    "batch_size": 8,
    "epochs": 3,
    "lr": 1e-4,
    "schedule": "constant",
    "warmup": 0.0,
    "gradient_clip": 0.0,
    "patience": 0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "forwhy": {},
    "paper": {
        **_PUBLISHED,
        "projector": {**_OFFICIAL_PROJECTOR, "kind": "mlp", "train_codebooks": False},
        "sar": {"gamma": 1.0, "candidates": "codebook", "metric": "l2", "pairs": 256},
        "weight_decay": 1e-6,
    },
    "official": {
        **_PUBLISHED,
        "projector": _OFFICIAL_PROJECTOR,
        "sar": {"gamma": 1.0, "candidates": "sample", "metric": "cosine", "pairs": 0},
        "weight_decay": 0.0,
    },
}


class BeatConfig(BaseModel):
    """BEAT stage 2: which model reads, what it is shown, how the reading is learned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    preset: Literal["forwhy", "paper", "official"] = "forwhy"
    """Defaults of every option below: `paper` as published, `official` the released code's choices without
    its defects, `forwhy` what measured best here. Options that are given win over the preset."""

    model: str = "smollm2-135m"
    """The frozen language model: `smollm2-135m`, `gemma3-270m`, a Hub id or a folder."""
    revision: str | None = None
    """Its revision; the artifact records the exact one."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """The language model's own precision. Projectors stay in float32. fp16 needs a GPU."""
    quantization: Literal["8bit"] | None = None
    """`8bit` loads the language model with bitsandbytes (a GPU, and `pip install bitsandbytes`)."""
    device: str = "auto"
    """`auto` (this process's GPU, else the CPU), or a torch device such as `cpu` or `cuda:1`."""

    prompt: PromptConfig = Field(default_factory=PromptConfig)
    projector: ProjectorConfig = Field(default_factory=ProjectorConfig)
    sar: SarConfig = Field(default_factory=SarConfig)
    generation: GenerationConfig = Field(default_factory=GenerationConfig)

    train_pairs: NonNegativeInt = 0
    """Explained training pairs used, drawn by the seed; 0 = all."""
    validation_pairs: NonNegativeInt = 200
    """Validation pairs whose NLL picks the best state, drawn by the seed; 0 = all."""
    validation_gain: bool = False
    """Also log the information gain on the validation pairs: one more pass over them at each evaluation."""
    batch_size: PositiveInt = 4
    """Pairs per optimiser step, over all processes."""
    accumulation: PositiveInt = 1
    """Batches whose gradients make one step: less memory per step, the same result as one larger batch."""
    epochs: NonNegativeInt = 3
    """Passes over the training pairs."""
    lr: PositiveFloat = 5e-3
    """AdamW's learning rate for the projectors."""
    token_rate: PositiveFloat = 12.0
    """Learning rate of the task tokens, in multiples of `lr`; in units of one coordinate of a word embedding."""
    code_rate: PositiveFloat = 2.0
    """The same of slot vectors and code offsets; in units of one coordinate of a standardised codeword, or of
    a word embedding."""
    deep_rate: PositiveFloat = 2.0
    """The same of the task tokens' keys and values in each layer; in units of the layer's own spread."""
    weight_decay: NonNegativeFloat = 0.01
    """AdamW's decay of the projectors' matrices; nothing else decays."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over the whole training."""
    warmup: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the steps in which the learning rate grows from 0."""
    gradient_clip: NonNegativeFloat = 1.0
    """Largest gradient norm; 0 = no clipping."""
    patience: NonNegativeInt = 0
    """Evaluations without a better validation NLL after which training stops; 0 = never."""
    evaluate_every: NonNegativeInt = 0
    """Optimiser steps between two evaluations; 0 = once per epoch."""
    seed: NonNegativeInt = 0
    """Of the start, the drawing of pairs and the order of batches."""
    checkpoint_seconds: NonNegativeFloat = 60.0
    """Seconds between two checkpoints."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: object) -> object:
        """Puts the preset's values where none are given."""
        if not isinstance(values, Mapping):
            return values
        return merged(PRESETS.get(str(values.get("preset", "forwhy")), {}), values)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, section by section."""
    found = dict(below)
    for key, value in above.items():
        under = found.get(key)
        deeper = isinstance(under, Mapping) and isinstance(value, Mapping)
        found[key] = merged(under or {}, value) if deeper else value
    return found
