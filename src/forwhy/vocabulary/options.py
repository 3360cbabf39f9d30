"""Options of how behaviour becomes words, with the presets. No torch."""

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from forwhy.columns import SIDES, Side
from forwhy.options import Presets, TrainingOptions

_PUBLISHED = {
    "start": "xavier", "slot_dim": 64, "code_dim": 384, "propagate": "every-step", "codebook_start": "uniform",
    "codebook_update": "gradient", "restart_dead": False, "learning_rate": 1e-3, "text_weight": 0.0,
}  # fmt: skip
_PRESETS: Presets = {
    "forwhy": {},
    "paper": {**_PUBLISHED, "reconstruction": "rmse", "temperature": 1.0, "batch_size": 1024, "loss_average": "sum"},
    "official": {
        **_PUBLISHED, "reconstruction": "minmax_rmse", "temperature": 0.2, "batch_size": 10240, "macro_source": "full",
        "unit_inputs": True, "orthogonality": 1.0, "representation": "sum", "masked_distance": "mean",
    },
}  # fmt: skip
"""What each preset changes against the defaults of :class:`TokenizerConfig` (see docs/decisions/0002)."""

_OF_A_COORDINATE = 500
"""Interactions for each graph coordinate beside text-first words."""


class TokenizerConfig(TrainingOptions):
    """How behaviour becomes words. The defaults are the preset `forwhy`; options given win over the preset."""

    presets: ClassVar[Presets] = _PRESETS
    preset: Literal["forwhy", "paper", "official"] = "forwhy"
    """`paper`: the equations. `official`: the released code's choices without its bugs. `forwhy`: what measured
    best."""
    macro: bool = True
    """One macro word per entity (False: the paper's ablation, and alpha is 0)."""
    micro: bool = True
    """`micro_slots` micro words per entity (False: the paper's ablation, and beta is 0)."""
    micro_slots: int = Field(default=5, ge=1, le=32)
    """N of the paper: micro words per entity."""
    codes: int = Field(default=512, ge=2, le=65536)
    """Words per codebook; there are up to four: macro and micro, for users and for items."""
    text_first: NonNegativeInt = 0
    """Leading slots, macro included, that are residual k-means codes of an entity's whole text and are not trained; the
    other slots then carry graph coordinates alone, and alpha and beta teach nothing, so that no word is made from what
    is said of a pair. With a spectral start only."""
    start: Literal["spectral", "xavier"] = "spectral"
    """Entity tables start from spectral (and text) coordinates, or from noise."""
    slot_dim: PositiveInt = 16
    """d of the paper: graph coordinates per slot; with a spectral start (N+1)·d singular vectors are computed. Beside
    text-first words fewer, in fewer slots, where interactions are few: see `fitting`."""
    text_dims: NonNegativeInt = 48
    """Principal components of phrase vectors that each slot carries beside its graph coordinates; with a spectral
    start only."""
    text_weight: NonNegativeFloat = 1.3
    """Norm of a slot's text coordinates against a mean graph norm of 1; 0 leaves text to the losses."""
    code_dim: PositiveInt | None = None
    """M of the paper: width of a codeword. None: no projection, M is the slot's width."""
    layers: NonNegativeInt = 2
    """K: propagation layers whose mean is taken (eq. 3); read when `propagate` is "every-step"."""
    propagate: Literal["closed-form", "every-step"] = "closed-form"
    """`every-step`: tables are propagated `layers` times at each optimiser step, O(K·E·width) (eq. 2, 3).
    `closed-form`: the spectral start, itself the low-pass limit of that propagation (GF-CF), is the state, and a step
    touches only its batch."""
    macro_source: Literal["slot", "full"] = "slot"
    """The macro word reads its own slot (paper) or all micro slots at once (released code)."""
    unit_inputs: bool = False
    """Quantizer inputs are L2-normalised."""
    codebook_start: Literal["kmeans", "uniform"] = "kmeans"
    """Codewords start at k-means centres of the entities, or uniform in ±1/codes."""
    codebook_update: Literal["ema", "gradient"] = "ema"
    """Codewords follow exponential means of their members, or the gradient of eq. 5."""
    decay: float = Field(default=0.99, gt=0.0, lt=1.0)
    """Of the exponential means, per step."""
    estimator: Literal["straight-through", "rotation"] = "straight-through"
    """How gradients pass the quantizer: copied, or rotated with the codeword (Fifty et al. 2024)."""
    restart_dead: bool = True
    """Codewords that win nothing for an epoch move to a random entity of the batch."""
    commitment: NonNegativeFloat = 0.5
    """eta of eq. 5."""
    reconstruction: Literal["softmax", "rmse", "minmax_rmse"] = "softmax"
    """`softmax`: in-batch, corrected for item frequency. `rmse`: eq. 5 on one positive and one uniform negative.
    `minmax_rmse`: `rmse` on scores that each batch scales to 0 … 1."""
    representation: Literal["concat", "sum"] = "concat"
    """q is the concatenation of the words (paper), or the macro word added to each micro word (released code)."""
    orthogonality: NonNegativeFloat = 0.0
    """Weight of the mean squared cosine between micro slots; not in the paper."""
    alpha: NonNegativeFloat = 0.2
    """Weight of macro supervision (eq. 6, 9)."""
    beta: NonNegativeFloat = 1.0
    """Weight of micro supervision (eq. 8, 9)."""
    temperature: PositiveFloat = 0.2
    """Of the InfoNCE in macro supervision; the paper prints none, that is 1."""
    loss_average: Literal["mean", "sum"] = "mean"
    """Whether macro supervision sums (eq. 6) or averages over its pairs."""
    masked_distance: Literal["sum", "mean"] = "sum"
    """Of a hidden phrase to its reconstruction (eq. 8): squares summed over the encoder's coordinates, an L2 distance,
    or averaged (released code, `mse_loss`): that is less by the width, 384."""
    mask_ratio: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of an entity's phrases that micro supervision masks, at least one."""
    max_phrases: PositiveInt = 10
    """Phrases per entity; more are cut, most important first."""
    negatives: int = Field(default=1024, ge=2)
    """Interactions that are each other's negatives in the in-batch softmax; a step of `batch_size` is cut into such
    blocks, so its cost grows with batch_size · negatives."""
    text_batch: int = Field(default=128, ge=2)
    """Explained pairs, and entities per side with phrases, in one step of text supervision."""
    learning_rate: PositiveFloat = 5e-4
    """Of Adam."""
    batch_size: int = Field(default=4096, ge=2)
    """Interactions per step."""

    @model_validator(mode="after")
    def _check(self) -> "TokenizerConfig":
        if not (self.macro or self.micro):
            raise ValueError("macro and micro are both off: no word would be left; switch one on")
        if self.start == "xavier" and self.propagate == "closed-form":
            remedy = 'use "every-step" with "xavier"'
            raise ValueError(f'propagate = "closed-form" needs start = "spectral"; {remedy}')
        if self.macro_source == "full" and not self.micro:
            raise ValueError('macro_source = "full" reads the micro slots; use "slot" when micro is off')
        if self.macro_source == "full" and (self.start == "spectral" or self.code_dim is None):
            raise ValueError('macro_source = "full" needs start = "xavier" and a code_dim; use "slot"')
        if self.representation == "sum" and not (self.macro and self.micro):
            raise ValueError('representation = "sum" adds macro to micro words; use "concat" when one is off')
        if self.text_first:
            self._check_text_first()
        return self

    def _check_text_first(self) -> None:
        if not (self.macro and self.micro) or self.text_first > self.micro_slots:
            raise ValueError(
                f"text_first = {self.text_first} needs macro, micro and as many micro_slots: the first text "
                "word is the macro word, and one slot at least is left to the graph"
            )
        if self.start != "spectral" or self.code_dim is not None or self.representation != "concat":
            raise ValueError('text_first needs start = "spectral", no code_dim and representation = "concat"')
        if not self.text_dims or not self.text_weight:
            raise ValueError("text_first needs text_dims and text_weight above 0")

    @property
    def slots(self) -> int:
        """Words per entity: macro first, then micro."""
        return int(self.macro) + (self.micro_slots if self.micro else 0)

    @property
    def books(self) -> tuple[str, ...]:
        """The names of the codebooks."""
        kinds = ["macro"] * (self.macro and not self.text_first) + ["micro"] * self.micro
        of = {side: (*self.text_books(side), *(f"{side}_{kind}" for kind in kinds)) for side in SIDES}
        return of["user"] + of["item"]

    def fitting(self, interactions: int) -> Self:
        """For so many interactions: beside text-first words a graph coordinate for every 500, in as many whole words.

        One word at least, of two coordinates at least: more hold chance, and say nothing of a thing (docs/log.md).
        """
        most, wanted = interactions // _OF_A_COORDINATE, self.slots - self.text_first
        words = min(wanted, max(1, most // self.slot_dim))
        dims = min(self.slot_dim, max(2, most // max(1, words)))
        return self.model_copy(update={"micro_slots": self.micro_slots - wanted + words, "slot_dim": dims})

    def text_books(self, side: Side) -> tuple[str, ...]:
        """The codebooks of the text-first slots, one per level: `item_macro`, `item_text2`, `item_text3` and so on."""
        levels = ["macro", *(f"text{level}" for level in range(2, self.text_first + 1))]
        return tuple(f"{side}_{level}" for level in levels[: self.text_first])
