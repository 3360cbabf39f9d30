"""Options of TIGER, with the published sizes as a preset. No torch here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from forwhy.data.sequences import WINDOW
from forwhy.presets import Presets, WithPresets

__all__ = ["TigerConfig"]

PRESETS: Presets = {
    "forwhy": {},
    # Sizes: Rajput et al. 2023, section 4. Training: LETTER's released code.
    "paper": {
        "layers": 4,
        "dims": 128,
        "heads": 6,
        "head_dims": 64,
        "feedforward": 1024,
        "dropout": 0.1,
        "softmax": "vocab",
        "targets": 0,
        "epochs": 200,
        "patience": 20,
        "learning_rate": 5e-4,
        "batch_size": 512,
    },
}


class TigerConfig(WithPresets):
    """How the encoder and the decoder learn to recommend, and how they are asked."""

    presets: ClassVar[Presets] = PRESETS

    preset: Literal["forwhy", "paper"] = "forwhy"
    """Defaults of the options below; what is given wins. `paper`: the published sizes."""

    layers: PositiveInt = 2
    """Blocks of the encoder, and as many of the decoder."""

    dims: PositiveInt = 128
    """Width of the states."""

    heads: PositiveInt = 4
    """Attention heads."""

    head_dims: PositiveInt = 32
    """Width of each; `heads` times it need not be `dims`."""

    feedforward: PositiveInt = 512
    """Width of a block's hidden layer."""

    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share dropped of the embeddings, of what each layer adds and of the last states, as in our LLM-BS. T5 also drops
    attention weights and hidden layers: left out, since drawing them is dear on a CPU."""

    window: PositiveInt = WINDOW
    """Items of a history that are read, the latest ones."""

    targets: NonNegativeInt = 4
    """Items of each training history that are targets in an epoch, drawn anew each time; 0: all, as published. The
    encoder reads both ways, so each target costs a pass over its own window. A draw weighs people more alike, as
    evaluation does: on Beauty 4 are half of all targets, with a third of the tokens to read."""

    softmax: Literal["level", "vocab"] = "level"
    """What a code competes with in training: the codes of its level, or every token, as published."""

    normalise: Literal["auto", "level", "vocab", "legal"] = "auto"
    """The same in decoding (`recommend/decoding`); `auto`: as in training."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a target code that is spread over what it competes with."""

    beam: PositiveInt = 20
    """Beams per person; more where more items are asked for."""

    epochs: NonNegativeInt = 40
    """Passes over all training histories, at most."""

    patience: NonNegativeInt = 5
    """Validations without a better NDCG@10 before stopping; 0: never."""

    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of AdamW."""

    weight_decay: NonNegativeFloat = 0.05
    """Of AdamW, on matrices but the embeddings."""

    warmup: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Share of all steps in which the learning rate grows; then it falls along a cosine."""

    gradient_clip: NonNegativeFloat = 1.0
    """Largest norm of a step's gradient; 0: any."""

    batch_size: PositiveInt = 256
    """Targets per step, each with its history."""

    validation_users: NonNegativeInt = 2000
    """Users whose validation item is looked for by beam search, drawn once; 0: all."""

    evaluate_every: PositiveInt = 1
    """Epochs between two validations."""

    checkpoint_seconds: NonNegativeFloat = 60.0
    """Seconds between two checkpoints; a killed run loses at most this much work."""

    seed: NonNegativeInt = 0
    """Of every random choice."""

    device: str = "auto"
    """`auto` (this process's GPU, else the CPU), `cpu`, `cuda`, …"""

    @property
    def decoding(self) -> Literal["level", "vocab", "legal"]:
        """How decoding normalises."""
        return self.softmax if self.normalise == "auto" else self.normalise
