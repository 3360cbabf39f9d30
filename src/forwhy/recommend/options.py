"""What the options of recommenders that write codes have in common. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from forwhy.data.sequences import WINDOW
from forwhy.training.options import TrainingOptions


class GenerativeOptions(TrainingOptions):
    """How histories are read, codes told apart and lists made, and the part of training that no model changes."""

    window: PositiveInt = WINDOW
    """Items of a history that are read, the latest ones."""

    softmax: Literal["level", "vocab"] = "level"
    """What a code competes with in training: the codes of its level, or every token, as published (its cost grows
    with the vocabulary)."""

    normalise: Literal["auto", "level", "vocab", "legal"] = "auto"
    """What a code competes with in decoding (see `decoding.head.Normalise`); `auto`: as in training."""

    beam: PositiveInt = 20
    """Beams per person; more where more items are asked for."""

    epochs: NonNegativeInt = 40

    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of AdamW."""

    weight_decay: NonNegativeFloat = 0.05
    """Of AdamW, on matrices but the embeddings."""

    warmup: float = Field(default=0.02, ge=0.0, lt=1.0)
    """Share of all steps in which the learning rate grows; then it falls along a cosine."""

    gradient_clip: NonNegativeFloat = 1.0
    """Largest norm of a step's gradient; 0: any."""

    validation_users: NonNegativeInt = 2000
    """Users whose validation item is looked for by beam search, drawn once; 0: all."""

    @property
    def decoding(self) -> Literal["level", "vocab", "legal"]:
        """How decoding normalises."""
        return self.softmax if self.normalise == "auto" else self.normalise
