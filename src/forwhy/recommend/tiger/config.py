"""Options of TIGER, with the published sizes as a preset. No torch here."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.options import Presets
from forwhy.recommend.generative.config import GenerativeConfig

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


class TigerConfig(GenerativeConfig):
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

    targets: NonNegativeInt = 4
    """Items of each training history that are targets in an epoch, drawn anew each time; 0: all, as published. The
    encoder reads both ways, so each target costs a pass over its own window. A draw weighs people more alike, as
    evaluation does: on Beauty 4 are half of all targets, with a third of the tokens to read."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a target code that is spread over what it competes with."""

    batch_size: PositiveInt = 256
    """Targets per step, each with its history."""
