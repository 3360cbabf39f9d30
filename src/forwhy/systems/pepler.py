"""PEPLER: a vector for each user and item, learned in the place of words of a prompt (Li, Zhang and Chen 2023).

Sequential tuning (section 4.3 of the paper): first the vectors alone learn, the language model frozen; then all
together. Adapted: any causal language model in place of GPT-2, and its own chat frame around the two vectors.

Shapes: B pairs, N users or items, D model width.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from forwhy.columns import SIDES, Side
from forwhy.explain.evidence import Subject, TokenEvidence
from forwhy.explain.options import ExplainerConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors
from forwhy.lazy import Network, torch
from forwhy.options import Presets
from forwhy.systems.explaining import Collaborative

if TYPE_CHECKING:
    from torch import Tensor

    from forwhy.artifact import Artifact
    from forwhy.bridge.backbone import Backbone
    from forwhy.bridge.projectors import PairBridge
    from forwhy.bridge.prompt import Numbers
    from forwhy.bridge.reader import Reader
    from forwhy.bridge.tuning import Tuning
    from forwhy.data.dataset import Dataset

_INSTRUCTION = (
    "You explain recommendations. Below stand a vector for a user and one for an item, learned from what was said of "
    "them. Say in one or two plain sentences, at most 50 words, why this user would enjoy this item. Name what the "
    "item offers and what the user likes. Do not mention vectors, scores or the recommender itself."
)
_PUBLISHED = {
    "prompt": {"instruction": "Explain.", "task_tokens": 0, "target_tokens": 20},
    "generation": {"max_new_tokens": 20}, "start": "uniform", "tuned": "all", "code_rate": 1.0, "tuned_rate": 1.0,
    "batch_size": 128, "epochs": 100, "tuned_epochs": 100, "patience": 5, "lr": 1e-3, "schedule": "constant",
    "warmup": 0.0,
}  # fmt: skip


class PeplerConfig(ExplainerConfig):
    """How prompts start, and what of the language model learns after them."""

    presets: ClassVar[Presets] = {"forwhy": {"prompt": {"instruction": _INSTRUCTION}}, "paper": _PUBLISHED}
    preset: Literal["forwhy", "paper"] = "forwhy"
    start: Literal["words", "uniform"] = "words"
    """`words`: every user begins at the embedding of the word "user", every item at "item", so that who is in no
    explained pair reads as that word. `uniform`: each coordinate from U(-0.1, 0.1), as published."""
    code_rate: PositiveFloat = 10.0
    """Learning rate of the prompts, in multiples of `lr`; in units of one coordinate of a word embedding."""
    tuned: Literal["none", "adapter", "all"] = "none"
    """What of the language model learns in the second phase, beside the prompts. `none`: there is no such phase.
    `adapter`: updates of its linear layers, which are saved. `all`: every weight, as published; all of them are saved
    in the run's folder, under the licence of the base model."""
    tuned_epochs: NonNegativeInt = 1
    """Passes of the second phase over the pairs, at most; `epochs` are those of the first."""
    tuned_rate: PositiveFloat = 0.04
    """Learning rate of what `tuned` names, in multiples of `lr`."""
    rank: PositiveInt = 8
    """Rank of an adapter's updates, which count twice."""

    @model_validator(mode="after")
    def _whole_weights_learn_in_float32(self) -> Self:
        if self.tuned == "all" and (self.precision != "fp32" or self.quantization):
            raise ValueError(
                'tuned = "all" learns in float32; leave out precision and quantization, or tune an "adapter"'
            )
        return self


class Prompts(Network):
    """A vector for each user or item, in place of a word: `start_D` and what is learned, in units of a coordinate."""

    start_D: Tensor

    def __init__(self, count: int, start_D: Tensor, unit: float, spread: float = 0.0) -> None:
        """What is learned begins at U(-spread, spread), from torch's generator."""
        super().__init__()
        self.unit = unit
        self.register_buffer("start_D", start_D, persistent=False)
        self.prompts_ND = torch.nn.Parameter(torch.empty(count, len(start_D)).uniform_(-spread, spread))

    def forward(self, number_B1: Tensor) -> Tensor:
        """[B, 1, D]."""
        vectors_B1D: Tensor = self.start_D + self.unit * self.prompts_ND[number_B1]
        return vectors_B1D


class PeplerExplainer(SoftExplainer[CollaborativeVectors, "PairBridge"]):
    """Reads a learned vector of the user and one of the item; whom it has none of is refused."""

    system, title, part = "pepler", "PEPLER", "collaborative"
    stands, known_by = "vectors of known users and items", "number"
    config_type, known_type = PeplerConfig, CollaborativeVectors
    config: PeplerConfig

    def _build(self, backbone: Backbone) -> Reader[PairBridge]:
        prompts = [self._prompts(backbone, side) for side in SIDES]
        return self._bridged(backbone, prompts, dict.fromkeys(SIDES, 1))

    def _prompts(self, backbone: Backbone, side: Side) -> Prompts:
        """Of everybody on a side, at a word of the model or at random."""
        count = len(self.known.vectors[side])
        if self.config.start == "uniform":
            return Prompts(count, torch.zeros(backbone.width), 1.0, spread=0.1)
        return Prompts(count, backbone.word(side), backbone.word_norm / backbone.width**0.5)

    def fit(self, dataset: Dataset, known: CollaborativeVectors, folder: Path) -> Self:
        """First the prompts, then, where something is `tuned`, all together; each phase keeps its best state."""
        super().fit(dataset, known, folder)
        if self.config.tuned == "none":
            return self
        from forwhy.training.loop import train

        with self.reader.backbone.changing():
            tuning = self._free()
            task = self._task(dataset)
            loop = self._loop().model_copy(
                update={"epochs": self.config.tuned_epochs, "evaluate_first": True}
            )
            identity = self._identity(dataset, task)
            self.result = train(task, loop, folder / "together", "explainer", identity)
            tuning.settle()
        self.metrics = self.result.best_metrics
        return self

    def _free(self) -> Tuning:
        """What of the model learns, as a part of the bridge, so that it is trained and saved with it."""
        from forwhy.bridge.tuning import Tuning

        backbone, bridge, how = self.reader.backbone, self.reader.bridge, self.config.tuned
        assert how != "none"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            bridge.tuned = tuning = Tuning(backbone.model, how, self.config.rank, 2 * self.config.rank)
        return tuning

    def _reopen(self, stored: Artifact) -> None:
        self._open(self._backbone(stored))
        with self.reader.backbone.changing():
            tuning = None if self.config.tuned == "none" else self._free()
            self._load(stored)
            if tuning is not None:
                tuning.settle()

    @property
    def _weights_told(self) -> str:
        if self.config.tuned != "all":
            return super()._weights_told
        return "All weights of the base model are included, trained further; they fall under its licence."

    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        assert subject.user is not None
        return (subject.user,), (subject.item,)

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        return [TokenEvidence(f"<{side[0]}.prompt>", side, []) for side in SIDES]


class Pepler(Collaborative):
    """Users and items are learned as words of a prompt."""

    system: Literal["pepler"] = "pepler"
    explainer: PeplerConfig = Field(default_factory=PeplerConfig)

    def budget(self) -> str:
        """Of both phases."""
        more = f", then {self.explainer.tuned_epochs} times with {self.explainer.tuned} of the model"
        return super().budget() + more * (self.explainer.tuned != "none")

    def new_explainer(self) -> PeplerExplainer:
        """Prompts, then prompts and language model together."""
        return PeplerExplainer(self.explainer)
