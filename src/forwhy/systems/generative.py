"""What systems share that name items by codes, and those that write the next one's: LLM-BS and TIGER."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator, model_validator

from forwhy.options import Options, TrainingOptions, merged
from forwhy.recommend.networks import SequentialOptions
from forwhy.recommend.options import GenerativeOptions
from forwhy.systems import MEASURE, EncoderConfig, Run, Stage
from forwhy.systems.din import DinConfig
from forwhy.systems.gru4rec import Gru4RecConfig
from forwhy.systems.next_item import NextItemSystem
from forwhy.systems.sasrec import SasRecConfig
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.index import IndexConfig, ItemIndex
from forwhy.vocabulary.indexing import (
    attribute_vectors,
    build_index,
    read_vectors,
    semantic_vectors,
    spectral_vectors,
)

if TYPE_CHECKING:
    from forwhy.recommend.generative import GenerativeRecommender
    from forwhy.recommend.sequential import NextItemRecommender

Vectors = Mapping[str, NDArray[np.floating]]
log = logging.getLogger(__name__)


class SpectralVectors(Options):
    """Item vectors of the training graph, without training (`graph.spectral`)."""

    network: Literal["spectral"] = "spectral"
    dims: PositiveInt = 64
    """Numbers of a vector, at most."""
    seed: int = Field(default=0, ge=0)
    """Of the decomposition's start."""


class VectorsFile(Options):
    """Item vectors from elsewhere."""

    network: Literal["file"] = "file"
    path: Path
    """A `.npy` table of numbers, row n for the n-th item of the data set (ids sorted)."""


BehaviourVectors = Annotated[
    SasRecConfig | Gru4RecConfig | DinConfig | SpectralVectors | VectorsFile, Field(discriminator="network")
]


class IndexedSystem(NextItemSystem):
    """Items get codes from what they say and from who takes them; a model learns the next item's codes."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    behaviour: BehaviourVectors = Field(default_factory=SasRecConfig)
    """Where behaviour vectors come from: a network of the next item (`sasrec`, `gru4rec`, `din`), which sees training
    items only, `spectral` or `file`."""
    index: IndexConfig = Field(default_factory=IndexConfig)
    recommender: TrainingOptions
    reads_attributes: ClassVar[bool] = False
    """Whether semantic vectors hold the items' attributes too, which also stand alone where no item has text."""
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Section -> what stands in it unless a recipe says something else."""

    stages: ClassVar[tuple[Stage, ...]] = (
        Stage("behaviour", ("behaviour",)),
        Stage("index", ("encoder", "behaviour", "index")),
        Stage("recommender", ("recommender",)),
        MEASURE,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_usual(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        found = dict(values)
        for section, usual in cls.usual.items():
            given = values.get(section, {})
            # A published index and a random one are made their own way.
            own = (
                section == "index"
                and isinstance(given, Mapping)
                and given.get("source") in ("file", "random")
            )
            if isinstance(given, Mapping) and not own:
                found[section] = merged(usual, given)
        return found

    @field_validator("behaviour", mode="before")
    @classmethod
    def _usual_network(cls, given: object) -> object:
        if not isinstance(given, Mapping) or "network" in given:
            return given
        usual = cls.model_fields["behaviour"].get_default(call_default_factory=True)
        return {"network": usual.network, **usual.model_dump(exclude_unset=True), **given}

    @property
    def sources(self) -> frozenset[str]:
        """Which item vectors are read: `semantic`, `behaviour`."""
        return frozenset(self.index.reads)

    def needed(self) -> tuple[Stage, ...]:
        """Without the network where no behaviour vectors are read, or they are not learned."""
        learned = "behaviour" in self.sources and isinstance(self.behaviour, SequentialOptions)
        return self.stages if learned else self.stages[1:]

    def files(self) -> tuple[Path, ...]:
        """A published index, vectors from elsewhere."""
        vectors = self.behaviour.path if isinstance(self.behaviour, VectorsFile) else None
        return tuple(file for file in (self.index.file, vectors) if file is not None)

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """The encoder, where codes are made of what items say."""
        reads = "semantic" in self.sources and "index" in stages
        return {"encoder.name": partial(text_encoder, self.encoder.name)} if reads else {}

    def make_behaviour(self, run: Run) -> NextItemRecommender:
        """Stage 1: a network that predicts the next item gives each item a vector of who takes it."""
        from forwhy.recommend.sequential import NextItemRecommender

        assert not isinstance(self.behaviour, SpectralVectors | VectorsFile)
        return NextItemRecommender.fit(run.dataset(), run.work, self.behaviour, self.data.graph)

    def make_index(self, run: Run) -> ItemIndex:
        """Stage 2: the items' codes (LLM-BS eq. 4); of behaviour alone where no item has text."""
        dataset, config, vectors = run.dataset(), self.index, self.item_vectors(run)
        if config.source == "unit" and "semantic" not in vectors:
            log.warning("data set '%s': no item has text; the index is of behaviour alone", dataset.name)
            config = config.model_copy(update={"source": "behaviour"})
        edges = dataset.edges("train", self.data.graph)
        semantic, behaviour, attributes = (vectors.get(it) for it in ("semantic", "behaviour", "attributes"))
        return build_index(dataset.items, config, semantic, behaviour, edges, attributes)

    def load_index(self, run: Run) -> ItemIndex:
        """The items' codes."""
        return ItemIndex.from_pretrained(run.output("index"))

    def item_vectors(self, run: Run) -> Vectors:
        """`semantic` and `behaviour`, [I, E] each: those that are read, and that there are.

        No semantic ones where nothing is said of any item, unless the index is of nothing else.
        """
        dataset = run.dataset()
        found: dict[str, NDArray[np.floating]] = {}
        asked, has_text = "semantic" in self.sources, any(text.strip() for text in dataset.item_texts())
        told_IE = (
            attribute_vectors(dataset) if asked and self.reads_attributes else np.empty((0, 0), np.float32)
        )
        if asked and (has_text or (self.index.source == "semantic" and not told_IE.size)):
            found["semantic"] = semantic_vectors(dataset, text_encoder(self.encoder.name))
        if told_IE.size:
            found["semantic"] = np.concatenate([found.get("semantic", told_IE[:, :0]), told_IE], axis=1)
        if "behaviour" in self.sources:
            found["behaviour"] = self._behaviour_vectors(run)
        return found

    def _behaviour_vectors(self, run: Run) -> NDArray[np.floating]:
        from forwhy.recommend.sequential import NextItemRecommender

        given = self.behaviour
        if isinstance(given, VectorsFile):
            return read_vectors(given.path)
        if isinstance(given, SpectralVectors):
            return spectral_vectors(run.dataset(), given.dims, given.seed)
        return NextItemRecommender.from_pretrained(run.output("behaviour")).item_vectors()


class GenerativeSystem(IndexedSystem):
    """A model learns to write the next item's codes, one after the other."""

    recommender: GenerativeOptions
    stages: ClassVar[tuple[Stage, ...]] = (
        *IndexedSystem.stages[:2],
        Stage("recommender", ("recommender",), frozenset({"beam", "normalise"})),
        MEASURE,
    )

    @abstractmethod
    def recommender_class(self) -> type[GenerativeRecommender]:
        """What stage 3 trains (imports torch)."""

    def load_recommender(self, run: Run) -> GenerativeRecommender:
        """The trained model. Another beam needs no new training: how it is asked is what the recipe says now."""
        options = self.recommender
        found = self.recommender_class().from_pretrained(run.output("recommender"), device=options.device)
        update = {name: getattr(options, name) for name in ("beam", "normalise")}
        found.config = found.config.model_copy(update=update)
        return found

    def more_protocol(self, recommender: GenerativeRecommender) -> dict[str, object]:
        """The index and the width of the search."""
        index = recommender.index
        shape = {"sources": list(index.sources), "sizes": list(index.sizes)}
        return {
            "index": {**shape, "fingerprint": index.fingerprint},
            "beam": recommender.config.beam,
            "encoder": self.encoder.name if "semantic" in index.sources else None,
        }
