"""Options of recommenders that write codes: what all share, TIGER's, LLM-BS's. No torch here."""

from typing import ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from forwhy.data.histories import WINDOW
from forwhy.options import Options, Presets, TrainingOptions


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


# Sizes: Rajput et al. 2023, section 4. Training: LETTER's released code.
TIGER_SIZES = {"layers": 4, "dims": 128, "heads": 6, "head_dims": 64, "feedforward": 1024, "dropout": 0.1}
TIGER_LOOP = {"epochs": 200, "patience": 20, "learning_rate": 5e-4, "batch_size": 512}


class AheadConfig(Options):
    """Epochs in which the encoder reads forward alone, and one pass learns all targets of a history."""

    epochs: NonNegativeInt = 0
    """Before those that read both ways; 0: none, as published. A target costs about a fifth of the time."""
    learning_rate: float = Field(default=2e-3, gt=0.0)
    """Of AdamW, falling along a cosine of its own."""
    batch_size: PositiveInt = 64
    """Histories per step, with all their targets."""


class TigerConfig(GenerativeOptions):
    """How the encoder and the decoder learn to recommend, and how they are asked."""

    presets: ClassVar[Presets] = {
        "forwhy": {},
        "paper": {**TIGER_SIZES, **TIGER_LOOP, "softmax": "vocab", "targets": 0},
    }
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
    ahead: AheadConfig = Field(default_factory=AheadConfig)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the training's forward pass; weights stay float32. bf16 saves a third where the CPU has it."""


# --- LLM-BS


class BackboneConfig(Options):
    """Which language model learns."""

    name: str = "scratch"
    """`scratch`: a small Llama decoder with random weights, sized below. Otherwise any causal language model:
    `smollm2-135m`, `gemma3-270m`, a Hub id or a folder; all its weights are trained, then saved with the rest."""
    revision: str | None = None
    """Of a named model."""
    trained: Literal["all", "adapter"] = "all"
    """What the first stage of a named model trains. `all`: every weight, as published. `adapter`: updates of its linear
    layers (rank, alpha and dropout of `annealing`) and the rows of the new tokens, then folded into the weights; the
    rows of its own tokens stay as they are, so it forgets less of its language, and a step costs less."""
    layers: PositiveInt = 4
    """Of the scratch decoder, as the options below."""
    dims: PositiveInt = 256
    """Width of its states."""
    heads: PositiveInt = 4
    """Attention heads; `dims` is an even multiple of it."""
    feedforward: PositiveInt = 768
    """Width of its feed-forward layers."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share dropped of the embeddings and of what each attention and feed-forward layer adds."""
    text_tokens: int = Field(default=4096, ge=300)
    """Most tokens of its text tokenizer (byte-level BPE, learnt from the item texts); only where text tasks are on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.dims % (2 * self.heads):
            raise ValueError(f"dims = {self.dims} is no even multiple of {self.heads} heads; change either")
        return self

    @property
    def scratch(self) -> bool:
        """Whether the model is our own."""
        return self.name == "scratch"


class TaskConfig(Options):
    """How many examples of each text task an epoch has, as a share of all its examples: 0 none, 1 all, 2 twice.

    The sequential task has all its targets in every epoch. Items without text take part in none of these.
    """

    item_to_index: NonNegativeFloat = 0.0
    """Text of an item -> its codes."""
    index_to_item: NonNegativeFloat = 0.0
    """Codes -> title."""
    fused: NonNegativeFloat = 0.0
    """Codes of a history -> title of the next item, and titles of a history -> codes of the next; one draw of a
    target per history and direction."""
    preference: NonNegativeFloat = 0.0
    """Codes of a history -> what the person likes, and codes and a wish -> codes of the next item; one draw of a
    target per history and direction."""
    preference_words: PositiveInt = 6
    """Words or phrases of a preference, at most."""
    plain: NonNegativeInt = 0
    """Texts that a named model writes of itself before it is trained, and then learns in every epoch: whatever takes it
    away from its language costs. About 2 seconds each on one core for 135 million weights; 0: none."""
    text_limit: PositiveInt = 32
    """Tokens of an item's title or text, and of a preference, at most."""
    titles: PositiveInt = 8
    """Titles of a history given in words, the latest ones, at most."""

    @property
    def any(self) -> bool:
        """Whether any task reads or writes text of the data set."""
        return any((self.item_to_index, self.index_to_item, self.fused, self.preference))


class ContrastConfig(Options):
    """Global contrast decompression (section 3.3.1, eq. 5, 7)."""

    semantic: NonNegativeFloat = 0.1
    """lambda 1; 0 leaves the semantic part out."""
    behaviour: NonNegativeFloat = 0.1
    """lambda 2; 0 leaves the behaviour part out."""
    temperature: float = Field(default=0.1, gt=0.0)
    """What cosines are divided by."""
    negatives: PositiveInt = 2048
    """Random items of a batch that all its targets are told apart from; all items where there are fewer. A target is
    never its own negative."""
    in_batch: bool = False
    """The targets of the batch are negatives too."""

    @property
    def weights(self) -> dict[str, float]:
        """Source -> its lambda, where it is not 0."""
        found = {"semantic": self.semantic, "behaviour": self.behaviour}
        return {source: weight for source, weight in found.items() if weight}


class AnnealingConfig(Options):
    """The annealing adapter (section 3.4.2): LoRA and the index tokens' rows, on sequential data alone."""

    epochs: NonNegativeInt = 0
    """Passes over the sequential data after full training; 0: no adapter."""
    rank: PositiveInt = 8
    """Of each update."""
    alpha: float = Field(default=32.0, gt=0.0)
    """Updates are scaled by alpha / rank."""
    dropout: float = Field(default=0.05, ge=0.0, lt=1.0)
    """On the input of an update."""
    learning_rate: float = Field(default=2e-4, gt=0.0)
    """Of AdamW, falling as the first stage's does."""


class LlmBsConfig(GenerativeOptions):
    """How the language model learns to recommend, and how it is asked."""

    presets: ClassVar[Presets] = {
        "forwhy": {},
        # Section 4.1.3; batches are 128 targets there, here about as many: 19 histories of 7.
        "paper": {
            "tasks": {"item_to_index": 1.0, "index_to_item": 1.0, "fused": 1.0, "preference": 1.0},
            "softmax": "vocab", "stride": 1, "epochs": 3, "patience": 0, "learning_rate": 5e-5, "weight_decay": 0.01,
            "warmup": 0.01, "batch_size": 19, "annealing": {"epochs": 1, "learning_rate": 5e-5},
        },
    }  # fmt: skip
    preset: Literal["forwhy", "paper"] = "forwhy"
    """Defaults of the options below; what is given wins. `paper` is section 4.1.3 for a named backbone, and sets
    the other sections of a recipe: DIN, the backbone itself as encoder, an index of both."""
    backbone: BackboneConfig = Field(default_factory=BackboneConfig)
    tasks: TaskConfig = Field(default_factory=TaskConfig)
    contrast: ContrastConfig = Field(default_factory=ContrastConfig)
    annealing: AnnealingConfig = Field(default_factory=AnnealingConfig)
    halves: Literal["joined", "parallel"] = "joined"
    """How an index of two sources is written. `joined`: one after the other, as published; under a trie the first half
    then settles the item. `parallel`: each follows the history, and their probabilities meet (`recommend.halves`)."""
    stride: PositiveInt = 10
    """Targets beyond the window that share a pass. 1: each has its own, with the full window before it, as one by one.
    More: a history of n items costs about n / stride windows, and a target has window - stride + 1 items at least."""
    instruction: str = "Items that a person took, the oldest first:"
    """What stands before each history of a named backbone; a scratch decoder reads the begin token alone."""
    batch_size: PositiveInt = 128
    """Histories per step, with all their targets."""
    accumulation: PositiveInt = 1
    """Batches per step of the optimiser."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the training's forward pass; weights stay float32."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.halves == "parallel" and self.decoding == "legal":
            raise ValueError(
                'halves = "parallel" needs normalise = "level" or "vocab"; "legal" knows one trie'
            )
        if self.stride > self.window:
            raise ValueError(f"stride = {self.stride} leaves gaps behind a window of {self.window}; lower it")
        return self

    @property
    def spoken_instruction(self) -> str:
        """What the tokenizer is given of `instruction`."""
        return "" if self.backbone.scratch else self.instruction
