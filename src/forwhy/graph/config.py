"""Options of the collaborative vectors, and the three presets. No torch here."""

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from forwhy.options import Presets
from forwhy.training.options import TrainingOptions

_PUBLISHED = {
    "start": "xavier", "negatives": 1, "negative_choice": "all", "batch_size": 1024, "learning_rate": 1e-3,
    "epochs": 300,
}  # fmt: skip
_PRESETS: Presets = {
    "forwhy": {},
    "paper": {**_PUBLISHED, "layers": 3},
    "official": {
        **_PUBLISHED, "layers": 4, "combine": "sum", "regulariser": "propagated", "regulariser_weight": 1.024e-3,
        "mask_train": False,
    },
}  # fmt: skip
"""What each preset changes against the defaults of :class:`CollaborativeConfig` (see docs/decisions/0002)."""


class CollaborativeConfig(TrainingOptions):
    """How interactions become vectors. The defaults are the preset `forwhy`; options given win over the preset."""

    presets: ClassVar[Presets] = _PRESETS
    preset: Literal["forwhy", "paper", "official"] = "forwhy"
    """`paper`: XRec's equations 7 to 11. `official`: its released code's choices without its defects. `forwhy`: what
    measured best."""
    dims: PositiveInt = 64
    """d: width of a vector."""
    layers: PositiveInt = 1
    """K: propagation layers (eq. 7)."""
    combine: Literal["mean", "sum"] = "mean"
    """Final vectors are the mean (eq. 8) or the sum of layers 0 to K."""
    start: Literal["spectral", "xavier"] = "spectral"
    """Layer 0 starts from a truncated SVD of the normalised adjacency (`graph.bipartite`), or from noise. Entities
    without training interactions start at zero under both."""
    learning_rate: PositiveFloat = 1e-2
    """Of Adam."""
    batch_size: PositiveInt | None = None
    """Interactions per step; None: a tenth of them, at least 1024. A step propagates over the whole graph once whatever
    its batch, so few large steps make a cheap epoch."""
    negatives: PositiveInt = 8
    """J: uniform items that the user did not take, drawn anew for each interaction in every epoch (eq. 9)."""
    negative_choice: Literal["all", "hardest"] = "hardest"
    """Whether all of them count, as a mean, or the one that the model ranks highest at that moment (Zhang et al. 2013),
    which a ranking by its first items asks for."""
    regulariser: Literal["layer-0", "propagated"] = "layer-0"
    """Whose squared norms are added: the trained vectors (eq. 10) or the final ones."""
    regulariser_weight: NonNegativeFloat = 1e-4
    """lambda of eq. 10, on the mean over the batch of |u|² + |i|² + |j|²; where several negatives count, their mean."""
    epochs: NonNegativeInt = 100
    """At most; a spectral start is evaluated before the first."""
    patience: NonNegativeInt = 10
    mask_train: bool = True
    """Validation leaves a user's training items out of their ranking."""
