"""Options of the sequential recommenders. No torch here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from forwhy.data.sequences import WINDOW

__all__ = [
    "DinConfig",
    "Gru4RecConfig",
    "KnnConfig",
    "NextItemConfig",
    "SasRecConfig",
    "SequentialConfig",
    "SoftmaxConfig",
]


class SequentialConfig(BaseModel):
    """What every network that predicts the next item has in common: its table, its window and its training."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dims: int = Field(default=64, ge=1)
    """d: width of an item's vector, which is both read and predicted (tied)."""

    window: int = Field(default=WINDOW, ge=1)
    """Items of a history that are read, the latest ones. Longer training histories are cut into pieces."""

    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Share of a layer's input that is dropped in training."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target that is spread over the whole catalogue."""

    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of AdamW."""

    weight_decay: float = Field(default=0.0, ge=0.0)
    """Of AdamW, decoupled: each step shrinks weights by this share of the learning rate."""

    batch_size: int = Field(default=256, ge=1)
    """Histories per step; every place of each predicts its next item."""

    epochs: int = Field(default=100, ge=0)
    """At most."""

    evaluate_every: int = Field(default=1, ge=1)
    """Epochs between two validations."""

    patience: int = Field(default=10, ge=0)
    """Validations without a better NDCG@10 before stopping; 0 = never."""

    checkpoint_seconds: float = Field(default=60.0, ge=0.0)
    """Seconds between two checkpoints; a killed run loses at most this much work."""

    seed: int = Field(default=0, ge=0)
    """Of every random choice."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, …"""


class SoftmaxConfig(SequentialConfig):
    """What the networks have in common whose state meets every item in one product."""

    repeat_bias: bool = True
    """Learn, for each place of the history counted from its end, what is added to the score of the item there as the
    next one. Without it the last item comes first again, whether or not people take items twice."""


class SasRecConfig(SoftmaxConfig):
    """SASRec (Kang and McAuley 2018) with the softmax over the whole catalogue in place of sampled negatives."""

    network: Literal["sasrec"] = "sasrec"

    layers: int = Field(default=2, ge=1)
    """Blocks of attention and feed-forward."""

    heads: int = Field(default=2, ge=1)
    """Attention heads; `dims` is a multiple of it."""

    feedforward: int = Field(default=4, ge=1)
    """Width of a block's hidden layer, in `dims`."""

    norm: Literal["post", "pre"] = "post"
    """Normalise the sum behind each layer, as most public code does, or the input of each layer and, once more, the
    last block's output."""

    @model_validator(mode="after")
    def _check_heads(self) -> "SasRecConfig":
        if self.dims % self.heads:
            raise ValueError(f"dims = {self.dims} is no multiple of {self.heads} heads; change either")
        return self


class Gru4RecConfig(SoftmaxConfig):
    """GRU4Rec (Hidasi et al. 2016) with the same softmax."""

    network: Literal["gru4rec"] = "gru4rec"

    layers: int = Field(default=1, ge=1)
    """Recurrent layers."""

    hidden: int = Field(default=128, ge=1)
    """Width of the recurrent state, projected back to `dims`."""


class DinConfig(SequentialConfig):
    """DIN (Zhou et al. 2018) from item ids alone, with a sampled softmax: what LLM-BS takes behaviour vectors from."""

    network: Literal["din"] = "din"

    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share that is dropped in training of what each item of a history gives to the pool."""

    learning_rate: float = Field(default=1e-2, gt=0.0)
    """Of AdamW."""

    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target that is spread over the items it is told apart from, itself included."""

    attention: int = Field(default=36, ge=1)
    """A: width of the attention unit's hidden layer."""

    head: Literal["mlp", "inner"] = "mlp"
    """What scores a candidate by the pooled history and its vector: an MLP of both (the paper's), or their inner
    product, which also says what is near what."""

    hidden: int = Field(default=64, ge=1)
    """H: width of the MLP's hidden layer; the inner product has `dims`."""

    groups: tuple[PositiveInt, ...] = Field(default=(1, 1, 1, 1, 1, 1, 2, 2, 4, 5), min_length=1)
    """Places of a history that are pooled together, the latest first (LLM-BS's code); older ones belong to the last
    group. (20,) pools the whole window alike, as DIN does, and reads no order."""

    negatives: int = Field(default=60, ge=1)
    """Items of a step that all its targets are told apart from, drawn evenly; all where there are fewer. A target is
    never its own negative."""

    validation_users: int = Field(default=2000, ge=0)
    """Users whose validation item is ranked to choose the epoch, drawn once; 0: all."""


NextItemConfig = SasRecConfig | Gru4RecConfig | DinConfig
"""Options of a network that `NextItemRecommender` learns."""


class KnnConfig(BaseModel):
    """Item-kNN: neighbours by cosine of co-occurrence."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    neighbours: int = Field(default=100, ge=1)
    """Most similar items kept of each item."""

    decay: float = Field(default=0.8, gt=0.0, le=1.0)
    """Weight of an item of the history against the one after it; 1: all count alike."""

    shrink: float = Field(default=0.0, ge=0.0)
    """Added to the denominator of the cosine, so that rare pairs count less."""

    window: int = Field(default=WINDOW, ge=1)
    """Items of a history that are read, the latest ones."""
