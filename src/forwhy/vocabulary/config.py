"""Options of the behaviour tokenizer, with its three presets, and of item indices. No torch here."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from forwhy.columns import SIDES
from forwhy.options import Options, Presets
from forwhy.training.options import TrainingOptions

_PUBLISHED = {
    "start": "xavier", "slot_dim": 64, "code_dim": 384, "propagate": "every-step", "codebook_start": "uniform",
    "codebook_update": "gradient", "restart_dead": False, "learning_rate": 1e-3, "text_weight": 0.0,
}  # fmt: skip
_PRESETS: Presets = {
    "forwhy": {},
    "paper": {
        **_PUBLISHED, "reconstruction": "rmse", "temperature": 1.0, "batch_size": 1024, "loss_average": "sum",
    },
    "official": {
        **_PUBLISHED, "reconstruction": "minmax_rmse", "temperature": 0.2, "batch_size": 10240, "macro_source": "full",
        "unit_inputs": True, "orthogonality": 1.0, "representation": "sum",
    },
}  # fmt: skip
"""What each preset changes against the defaults of :class:`TokenizerConfig` (see docs/decisions/0002)."""


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
    start: Literal["spectral", "xavier"] = "spectral"
    """Entity tables start from spectral (and text) coordinates, or from noise."""
    slot_dim: PositiveInt = 16
    """d of the paper: graph coordinates per slot; with a spectral start (N+1)·d singular vectors are computed."""
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
            raise ValueError(
                'propagate = "closed-form" needs start = "spectral"; use "every-step" with "xavier"'
            )
        if self.macro_source == "full" and not self.micro:
            raise ValueError('macro_source = "full" reads the micro slots; use "slot" when micro is off')
        if self.macro_source == "full" and (self.start == "spectral" or self.code_dim is None):
            raise ValueError('macro_source = "full" needs start = "xavier" and a code_dim; use "slot"')
        if self.representation == "sum" and not (self.macro and self.micro):
            raise ValueError('representation = "sum" adds macro to micro words; use "concat" when one is off')
        return self

    @property
    def slots(self) -> int:
        """Words per entity: macro first, then micro."""
        return int(self.macro) + (self.micro_slots if self.micro else 0)

    @property
    def books(self) -> tuple[str, ...]:
        """The names of the codebooks."""
        kinds = ["macro"] * self.macro + ["micro"] * self.micro
        return tuple(f"{side}_{kind}" for side in SIDES for kind in kinds)


class IndexConfig(Options):
    """How items get their indices. The defaults are the paper's: 256 codes a level, semantic, then behaviour."""

    source: Literal["unit", "semantic", "behaviour", "random", "file"] = "unit"
    """What codes are made from. `unit`: semantic and behaviour codes one after the other (LLM-BS eq. 4, "DKI").
    `file`: a published `.index.json`."""
    method: Literal["kmeans", "rqvae"] = "kmeans"
    """`kmeans`: balanced hierarchical k-means, unique by construction. `rqvae`: a residual-quantised autoencoder as
    in TIGER; items whose codes collide get one more level."""
    width: int | Literal["auto"] = 256
    """Codes per level. `auto`: the least that `depth` levels need, so that every level is used evenly. With `rqvae`
    `auto` is 256."""
    depth: int | Literal["auto"] = "auto"
    """Levels of each source. `auto`: the least that can tell all items apart (with width `auto`: of 256 codes); 3
    with `rqvae`, as in TIGER."""
    order: Literal["semantic_first", "behaviour_first", "interleave"] = "semantic_first"
    """Of the two sources' levels in `unit`."""
    leaf_order: Literal["pca", "distance", "random"] = "pca"
    """How the items of a last cluster are numbered: along its first principal axis, by distance from its centre, or
    at random (the released code's arbitrary serial number)."""
    iterations: PositiveInt = 16
    """Of k-means, per cluster that is split."""
    epochs: PositiveInt = 200
    """Of the RQ-VAE."""
    seed: NonNegativeInt = 0
    """Of every random choice."""
    file: Path | None = None
    """The `.index.json` of `source = "file"`."""
    collisions: Literal["extend", "report"] = "extend"
    """Items of one index in a file: `extend` tells them apart by one more level, `report` refuses the file."""

    @property
    def reads(self) -> tuple[Literal["semantic", "behaviour"], ...]:
        """Which vectors the codes are made from."""
        if self.source == "unit":
            return ("semantic", "behaviour")
        return (self.source,) if self.source in ("semantic", "behaviour") else ()

    @model_validator(mode="after")
    def _check(self) -> "IndexConfig":
        if (self.source == "file") != (self.file is not None):
            raise ValueError('source = "file" and the option file go together; give both or neither')
        for name, value, least in (("width", self.width, 2), ("depth", self.depth, 1)):
            if value != "auto" and value < least:
                raise ValueError(f'{name} = {value}: give "auto" or at least {least}')
        if self.method == "rqvae" and self.source in ("random", "file"):
            raise ValueError(f'method = "rqvae" learns from vectors; source = "{self.source}" has none')
        return self
