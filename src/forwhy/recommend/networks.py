"""What a network of the next item is: options by its name, a table of items, and one of two styles of scoring.

A *softmax network* turns a history into a state that meets every item in one product; a *candidate network* reads a
history anew for every item. The style brings loss and scores, so that a new network is options with a name, and its
own layers::

    class MineConfig(SoftmaxOptions):
        network: Literal["mine"] = "mine"

        def build(self, n_items: int) -> NextItemNetwork:
            return Mine(n_items, self)

Shapes: B histories, L places, N places that have a next item, V validated users, M negatives, W window, I items,
D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from forwhy.data.histories import WINDOW, Histories
from forwhy.errors import UserError
from forwhy.lazy import Network, torch
from forwhy.options import TrainingOptions
from forwhy.recommend.base import Scores

if TYPE_CHECKING:
    from torch import Tensor


BLOCK = 512
"""Histories per block where no gradient is needed."""


def kind(name: str) -> type[SequentialOptions]:
    """The options of a network by its name, which also build it; a UserError where no system defines one."""
    # A system's module defines its network; systems stand above, hence the late import.
    if name not in _networks():
        import_module("forwhy.systems").find_system(name)
    known = _networks()
    if name not in known:
        raise UserError(f"system '{name}' has no network of the next item; known: {', '.join(sorted(known))}")
    return known[name]


def _networks() -> dict[str, type[SequentialOptions]]:
    kinds = SequentialOptions.__subclasses__()
    for above in kinds:  # grows by what is found
        kinds += above.__subclasses__()
    return {name: kind for kind in kinds if isinstance(name := kind.model_fields["network"].default, str)}


class SequentialOptions(TrainingOptions):
    """A network of the next item: its table, its window and its training. A subclass names it."""

    reads_attributes: ClassVar[bool] = False
    """Whether the network is told what items are said to be (`NextItemNetwork.describe`)."""
    network: str
    """Which network it is."""
    dims: PositiveInt = 64
    """d: width of an item's vector, which is both read and predicted (tied)."""
    window: PositiveInt = WINDOW
    """Items of a history that are read, the latest ones. Longer training histories are cut into pieces."""
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    """Share of a layer's input that is dropped in training."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target that is spread over all items that it is told apart from, itself included."""
    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of AdamW."""
    weight_decay: NonNegativeFloat = 0.0
    """Of AdamW, decoupled: each step shrinks weights by this share of the learning rate."""
    batch_size: PositiveInt = 256
    """Histories per step; every place of each predicts its next item."""
    epochs: NonNegativeInt = 100
    patience: NonNegativeInt = 10
    validation_users: NonNegativeInt = 0
    """Users whose validation item is ranked to choose the epoch, drawn once; 0: all."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the training's forward pass and of the loss's products with the catalogue; weights stay float32, and so does
    what ranks. bf16 saves two fifths of the time where the CPU has it (avx512_bf16, amx_bf16), and costs time where
    it has not."""

    @abstractmethod
    def build(self, n_items: int) -> NextItemNetwork:
        """The untrained network, with weights from torch's generator."""


class SoftmaxOptions(SequentialOptions):
    """A network whose state meets every item in one product."""

    negatives: NonNegativeInt = 0
    """Items of a step, beside its targets, that each target is told apart from, drawn evenly and weighed as all that
    they stand for; 0: all items. Worth it from some 30,000 items on, where the whole softmax takes most of the time."""


class CandidateOptions(SequentialOptions):
    """A network that reads a history anew for every item: each target is told apart from a few of them."""

    negatives: PositiveInt = 60
    """Items of a step that all its targets are told apart from, drawn evenly; all where there are fewer. A target is
    never its own negative."""
    validation_users: NonNegativeInt = 2000


class NextItemNetwork(Network):
    """A table of items that is read and predicted (tied), and scores of all of them after histories."""

    options: SequentialOptions
    pretraining: int = 0
    """Epochs at the beginning of a training that learn by another loss, and are not validated."""
    epoch: int = 0
    """Which epoch is trained, from 0."""

    def __init__(self, n_items: int, options: SequentialOptions) -> None:
        super().__init__()
        self.options = options
        self.items = torch.nn.Embedding(n_items, options.dims)
        self.dropout = torch.nn.Dropout(options.dropout)

    @property
    def table(self) -> Tensor:
        """[I, D] the items' vectors."""
        return self.items.weight

    def describe(self, attributes_IM: Tensor) -> None:
        """What each item is said to be, told before training where options ask for it (`reads_attributes`).

        `attributes_IM`: numbers of terms, from 1; 0 behind an item's last. A network keeps it as a buffer of this name,
        which is saved with it, and makes what depends on how many terms there are.
        """
        raise NotImplementedError

    @abstractmethod
    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Mean cross-entropy of every place's next item; histories are padded behind, of two items or more."""

    @abstractmethod
    def validated(self, histories: Histories) -> Iterator[Tensor]:
        """[B, I] scores after each `BLOCK` of histories, as training asks for them: in the network's precision."""

    @abstractmethod
    def scores_after(self, histories: Histories) -> Scores:
        """[B, I] scores of every item after each history's last items; zeros after an empty one."""

    def in_blocks(self, histories: Histories) -> Iterator[tuple[Tensor, ...]]:
        """Rows, last items [B, L] and lengths of histories that are not empty, those of like lengths together."""
        recent = histories.last(self.options.window)
        filled = np.flatnonzero(recent.lengths)
        order = filled[np.argsort(recent.lengths[filled], kind="stable")]
        for start in range(0, len(order), BLOCK):
            part = recent.take(order[start : start + BLOCK])
            arrays = (order[start : start + BLOCK], part.padded(), part.lengths)
            yield tuple(torch.from_numpy(array).to(self.items.weight.device) for array in arrays)


class SoftmaxNetwork(NextItemNetwork):
    """Score of an item: state · vector.

    `forward`, items [B, L] -> [B, L, D]: what each place predicts of the next one, from it and earlier places only.
    Histories start at place 0, so what pads them lies behind all that counts.
    """

    options: SoftmaxOptions
    _wide: NDArray[np.float64] | None = None
    """[D, I] the table in float64, while it is asked and not trained."""

    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Over the catalogue, or a part that stands for it (`negatives`)."""
        inputs_BL, targets_BL = items_BL[:, :-1], items_BL[:, 1:]
        real_BL = torch.arange(inputs_BL.shape[1], device=items_BL.device) < lengths_B[:, None] - 1
        return self.told_apart(self(inputs_BL)[real_BL], targets_BL[real_BL])

    def told_apart(self, states_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Mean cross-entropy of targets after states, over the catalogue or what of it `negatives` asks for."""
        from forwhy.recommend.softmax import sampled_cross_entropy

        negatives, smoothing = self.options.negatives, self.options.label_smoothing
        return sampled_cross_entropy(states_ND, self.table, targets_N, negatives, smoothing)

    def validated(self, histories: Histories) -> Iterator[Tensor]:
        """Products of float32."""
        states_VD = self.states_after(histories)
        for start in range(0, len(states_VD), BLOCK):
            yield states_VD[start : start + BLOCK] @ self.table.T

    def scores_after(self, histories: Histories) -> Scores:
        """O(B·I·D), and the network once per history."""
        # In float64, so that a person's scores depend on who else is asked for only by the states' last bit.
        if self._wide is None or self.training:  # to widen the table costs more than to multiply it
            self._wide = self.table.detach().T.double().numpy()
        return np.asarray((self.states_after(histories).double().numpy() @ self._wide).astype(np.float32))

    def train(self, mode: bool = True) -> Self:
        """Between training and asking the widened table goes: a fused optimiser leaves no other sign of its steps."""
        self._wide = None
        found: Self = super().train(mode)
        return found

    def states_after(self, histories: Histories) -> Tensor:
        """[B, D] what is predicted after each history's last `window` items; zeros after an empty one."""
        states_BD = self.table.new_zeros(len(histories), self.table.shape[1])
        with torch.no_grad():
            for block, items_BL, lengths_B in self.in_blocks(histories):
                states_BD[block] = self(items_BL)[torch.arange(len(block)), lengths_B - 1]
        return states_BD


class CandidateNetwork(NextItemNetwork):
    """Reads a history once (`read`), then anew for every candidate: `own`, `forward`, `catalogue`."""

    options: CandidateOptions

    @abstractmethod
    def read(self, items_BL: Tensor, ages_BL: Tensor) -> Any:  # noqa: ANN401 (each network's own)
        """What candidates are scored by. `ages_BL`: 0 for a history's last item, negative where a place is not read."""

    @abstractmethod
    def own(self, reading: Any, candidates_B: Tensor) -> Tensor:  # noqa: ANN401
        """[B] the score of one candidate after each history."""

    @abstractmethod
    def forward(self, reading: Any, candidates_M: Tensor) -> Tensor:  # noqa: ANN401
        """[B, M] scores of the same candidates after each history."""

    @abstractmethod
    def catalogue(self, reading: Any) -> Iterator[Tensor]:  # noqa: ANN401
        """[B, M] scores of all items, some at a time, in catalogue order."""

    def loss(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Each target among itself and the step's negatives, drawn uniformly, so without correction. Memory O(N·M)."""
        places_L = torch.arange(items_BL.shape[1] - 1, device=items_BL.device)
        rows_N, ends_N = torch.nonzero(places_L < lengths_B[:, None] - 1, as_tuple=True)
        reading = self.read(items_BL[rows_N, :-1], ends_N[:, None] - places_L)
        targets_N = items_BL[rows_N, ends_N + 1]
        negatives_M = torch.randperm(len(self.table), device=items_BL.device)[: self.options.negatives]
        own_N1 = self.own(reading, targets_N)[:, None]
        hit_NM = negatives_M == targets_N[:, None]
        others_NM = self(reading, negatives_M).masked_fill(hit_NM, -torch.inf)
        logits_NC, smoothing = torch.cat([own_N1, others_NM], 1), self.options.label_smoothing
        # The target is the first class; what is smoothed goes to the classes that are possible.
        logs_NC, possible_NC = torch.log_softmax(logits_NC, dim=1), logits_NC.isfinite()
        spread_N = logs_NC.where(possible_NC, 0.0).sum(1) / possible_NC.sum(1)
        return -((1 - smoothing) * logs_NC[:, 0] + smoothing * spread_N).mean()

    def validated(self, histories: Histories) -> Iterator[Tensor]:
        """The scores, block by block."""
        for start in range(0, len(histories), BLOCK):
            yield self._scored(histories.take(np.arange(start, min(start + BLOCK, len(histories)))))

    def scores_after(self, histories: Histories) -> Scores:
        """Every pair of an item of a history and an item of the catalogue is looked at."""
        return self._scored(histories).numpy()

    def _scored(self, histories: Histories) -> Tensor:
        scores_BI = self.table.new_zeros(len(histories), len(self.table))
        with torch.no_grad():
            for block, items_BL, lengths_B in self.in_blocks(histories):
                ages_BL = lengths_B[:, None] - 1 - torch.arange(items_BL.shape[1], device=items_BL.device)
                scores_BI[block] = torch.cat(list(self.catalogue(self.read(items_BL, ages_BL))), dim=1)
        return scores_BI
