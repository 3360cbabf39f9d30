"""What each system's recipe holds: one frozen model per section.

Each section is the config of the code that reads it (`TokenizerConfig`, `BeatConfig`, …); only what belongs
to a run as a whole is declared here. `schema` reads recipes from files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeGuard, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from forwhy.data.intents import IntentsConfig
from forwhy.data.protocols import ProtocolConfig
from forwhy.explain.config import BeatConfig, ExplainerConfig, XRecConfig
from forwhy.graph.config import CollaborativeConfig
from forwhy.recommend.llmbs.config import LlmBsConfig
from forwhy.recommend.sequential.config import (
    DinConfig,
    Gru4RecConfig,
    KnnConfig,
    SasRecConfig,
    SequentialConfig,
)
from forwhy.recommend.tiger.config import TigerConfig
from forwhy.vocabulary.config import TokenizerConfig
from forwhy.vocabulary.indices.config import IndexConfig


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class DataConfig(ProtocolConfig):
    """Which dataset, and what a run may know of it."""

    path: str
    """Folder made by `forwhy data import`; relative to where the command is run."""


class EncoderConfig(_Section):
    """The frozen encoder that gives phrases, explanations and item texts their vectors."""

    name: str = "minilm"
    """`minilm` (all-MiniLM-L6-v2, 384 numbers), `hash` (no model, for tests), a Hub id or a folder; `llm:NAME`: mean
    last states of a causal language model."""


class EvaluationConfig(_Section):
    """What is measured on held-out pairs. Cost: four NLL passes over `pairs`, `generate` generated texts."""

    pairs: PositiveInt = 300
    """Held-out pairs whose NLL is taken with right, shuffled-user, shuffled-item and shuffled tokens."""
    generate: NonNegativeInt = 300
    """Held-out pairs for which a text is generated and scored; 0 skips the text metrics. Under the
    protocol `zero-shot` also as many warm pairs."""
    ks: tuple[PositiveInt, ...] = Field(default=(5, 10, 20, 50), min_length=1)
    """Cut-offs of the ranking metrics."""
    seed: NonNegativeInt = 0
    """Which pairs are drawn and how they are shuffled."""


class NextItemEvaluation(_Section):
    """What is measured on the items left out. Cost: a ranking of the catalogue, or a beam search, per user."""

    split: Literal["valid", "test"] = "test"
    """Which left-out item is looked for; choose options on `valid`."""
    ks: tuple[PositiveInt, ...] = Field(default=(1, 5, 10, 20), min_length=1)
    """Cut-offs; a model that generates lists writes lists of the largest."""
    shuffled_users: NonNegativeInt = 5000
    """Users whose window is also read in random order, to see what order is worth; 0: none."""
    seed: NonNegativeInt = 0
    """Who these are, and the order."""


class Recipe(_Section, ABC):
    """Everything a run depends on. The resolved one, written into the run folder, is itself a recipe.

    What all systems share; each has its own class below.
    """

    name: str = Field(min_length=1)
    """Shown in reports and model cards."""
    system: str
    """Which of the published systems is run."""
    seed: NonNegativeInt = 0
    """Seed of every section that has one and does not set its own."""
    data: DataConfig

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_seed(cls, values: object) -> object:
        """Gives the recipe's seed to each section that has a `seed` field and leaves it unset."""
        if not isinstance(values, Mapping) or "seed" not in values:
            return values
        return _seeded(cls, values, values["seed"])

    @abstractmethod
    def budget(self) -> str:
        """What its training may spend, in words: rows of one table should spend alike."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it reads beside the data set; their content belongs to what a stage depends on."""
        return ()


class ExplainingRecipe(Recipe):
    """A system that learns what stands for users and items, and a language model that reads it."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    explainer: ExplainerConfig
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    def _reading_budget(self) -> str:
        explainer = self.explainer
        return (
            f"{explainer.train_pairs or 'all'} explained pairs, {explainer.epochs} times, in batches of "
            f"{explainer.batch_size}"
        )


class BeatRecipe(ExplainingRecipe):
    """BEAT: behaviour tokens from interactions and phrases, read by a frozen language model."""

    system: Literal["beat"] = "beat"
    intents: IntentsConfig = Field(default_factory=IntentsConfig)
    vocabulary: TokenizerConfig = Field(default_factory=TokenizerConfig)
    explainer: BeatConfig = Field(default_factory=BeatConfig)

    def budget(self) -> str:
        """Of both trainings."""
        return f"{self.vocabulary.epochs} epochs of interactions at most; {self._reading_budget()}"


class XRecRecipe(ExplainingRecipe):
    """XRec: graph vectors through a mixture of experts into every layer of a frozen language model."""

    system: Literal["xrec"] = "xrec"
    collaborative: CollaborativeConfig = Field(default_factory=CollaborativeConfig)
    explainer: XRecConfig = Field(default_factory=XRecConfig)

    def budget(self) -> str:
        """Of both trainings."""
        return f"{self.collaborative.epochs} epochs of interactions at most; {self._reading_budget()}"


class NextItemRecipe(Recipe):
    """A system that recommends the next item of a history, under leave-one-out."""

    evaluation: NextItemEvaluation = Field(default_factory=NextItemEvaluation)


class SpectralVectors(_Section):
    """Item vectors of the training graph, without training (`graph.spectral`)."""

    network: Literal["spectral"] = "spectral"
    dims: PositiveInt = 64
    """Numbers of a vector, at most."""
    seed: NonNegativeInt = 0
    """Of the decomposition's start."""


class VectorsFile(_Section):
    """Item vectors from elsewhere."""

    network: Literal["file"] = "file"
    path: Path
    """A `.npy` table of numbers, row n for the n-th item of the data set (ids sorted)."""


BehaviourVectors = Annotated[
    SasRecConfig | Gru4RecConfig | DinConfig | SpectralVectors | VectorsFile, Field(discriminator="network")
]


class GenerativeRecipe(NextItemRecipe):
    """A system that names items by codes and writes the next one's."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    behaviour: BehaviourVectors = Field(default_factory=SasRecConfig)
    """Where behaviour vectors come from: a network of the next item (`sasrec`, `gru4rec`, `din`), which sees training
    items only, `spectral` or `file`."""
    index: IndexConfig = Field(default_factory=IndexConfig)
    recommender: LlmBsConfig | TigerConfig

    @field_validator("behaviour", mode="before")
    @classmethod
    def _usual_network(cls, given: object) -> object:
        return {"network": "sasrec", **given} if isinstance(given, Mapping) else given

    @property
    def sources(self) -> frozenset[str]:
        """Which vectors are read: `semantic`, `behaviour`."""
        return frozenset(self.index.reads)

    @property
    def trains_behaviour(self) -> bool:
        """Whether a network has to be trained for the behaviour vectors."""
        return "behaviour" in self.sources and isinstance(self.behaviour, SequentialConfig)

    @property
    def files(self) -> tuple[Path, ...]:
        """A published index, vectors from elsewhere."""
        vectors = self.behaviour.path if isinstance(self.behaviour, VectorsFile) else None
        return tuple(file for file in (self.index.file, vectors) if file is not None)

    def budget(self) -> str:
        """Of the model that writes."""
        return _next_item_budget(self.recommender)


class LlmBsRecipe(GenerativeRecipe):
    """LLM-BS: codes from what items say and from who takes them, written by a language model."""

    system: Literal["llm-bs"] = "llm-bs"
    recommender: LlmBsConfig = Field(default_factory=LlmBsConfig)

    @property
    def sources(self) -> frozenset[str]:
        """Of the index, and of the contrast."""
        return super().sources | self.recommender.contrast.weights.keys()

    def budget(self) -> str:
        """Of the language model, and of the adapter."""
        annealing = self.recommender.annealing.epochs
        return f"{super().budget()}{f', {annealing} epochs of the adapter' if annealing else ''}"


TIGER_INDEX = {"source": "semantic", "method": "rqvae"}
"""What TIGER's codes are made from and how, unless something else is given."""


class TigerRecipe(GenerativeRecipe):
    """TIGER: codes of what items say by a residual-quantised autoencoder, written by an encoder and a decoder."""

    system: Literal["tiger"] = "tiger"
    index: IndexConfig = Field(default_factory=lambda: IndexConfig.model_validate(TIGER_INDEX))
    recommender: TigerConfig = Field(default_factory=TigerConfig)

    @field_validator("index", mode="before")
    @classmethod
    def _usual_index(cls, given: object) -> object:
        return {**TIGER_INDEX, **given} if isinstance(given, Mapping) else given


class SasRecRecipe(NextItemRecipe):
    """SASRec with the softmax over the whole catalogue."""

    system: Literal["sasrec"] = "sasrec"
    recommender: SasRecConfig = Field(default_factory=SasRecConfig)

    def budget(self) -> str:
        """Of the network."""
        return _next_item_budget(self.recommender)


class Gru4RecRecipe(NextItemRecipe):
    """GRU4Rec with the same softmax."""

    system: Literal["gru4rec"] = "gru4rec"
    recommender: Gru4RecConfig = Field(default_factory=Gru4RecConfig)

    def budget(self) -> str:
        """Of the network."""
        return _next_item_budget(self.recommender)


class ItemKnnRecipe(NextItemRecipe):
    """Item-kNN: counted, not trained."""

    system: Literal["item-knn"] = "item-knn"
    recommender: KnnConfig = Field(default_factory=KnnConfig)

    def budget(self) -> str:
        """None."""
        return "nothing to train"


class PopularityRecipe(NextItemRecipe):
    """The same list for everybody."""

    system: Literal["popularity"] = "popularity"

    def budget(self) -> str:
        """None."""
        return "nothing to train"


RECIPES: Mapping[str, type[Recipe]] = {
    "beat": BeatRecipe,
    "xrec": XRecRecipe,
    "llm-bs": LlmBsRecipe,
    "tiger": TigerRecipe,
    "sasrec": SasRecRecipe,
    "gru4rec": Gru4RecRecipe,
    "item-knn": ItemKnnRecipe,
    "popularity": PopularityRecipe,
}
"""By the key `system`; a recipe without one is BEAT's."""


def _next_item_budget(config: SequentialConfig | LlmBsConfig | TigerConfig) -> str:
    of_step = "targets" if isinstance(config, TigerConfig) else "histories"
    return f"{config.epochs} epochs of interactions at most, {config.batch_size} {of_step} a step"


# --- sections inside sections


def inner_model(annotation: object, given: object = None) -> type[BaseModel] | None:
    """The section in an annotation, also inside `X | None`; of several, the one whose `network` is given."""
    choices = [choice for choice in (annotation, *get_args(annotation)) if _is_model(choice)]
    named = given.get("network") if isinstance(given, Mapping) else None
    fitting = [
        it
        for it in choices
        if named and "network" in it.model_fields and it.model_fields["network"].default == named
    ]
    return next(iter(fitting or choices), None)


def _seeded(section: type[BaseModel], given: Mapping[str, object], seed: object) -> dict[str, object]:
    """The values of a section with `seed` filled in wherever it or an inner section takes one."""
    values = dict(given)
    for name, field in section.model_fields.items():
        below = values.get(name, {})
        # An optional section that is not given stays absent.
        optional = name not in given and type(None) in get_args(field.annotation)
        inner = None if optional else inner_model(field.annotation, below)
        if name == "seed":
            values.setdefault("seed", seed)
        elif inner is not None and isinstance(below, Mapping):
            values[name] = _seeded(inner, below, seed)
    return {name: value for name, value in values.items() if value != {} or name in given}


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
