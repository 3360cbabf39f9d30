"""Hybrid: experts in one probability, the default recommender of histories (see `recommend.mixture`).

SASRec reads the order of a history, item-kNN knows what is taken together, content-kNN what is said of things, LLM-BS
(where it is asked for) writes codes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Catalogue, Sequences
from forwhy.errors import UserError
from forwhy.options import Options
from forwhy.recommend.base import Recommender
from forwhy.recommend.mixture import Learnt, MixtureRecommender
from forwhy.systems import MEASURE, Run, Stage
from forwhy.systems.content_knn import ContentConfig, ContentKnnRecommender, ContentVectors
from forwhy.systems.item_knn import ItemKnnRecommender, KnnConfig
from forwhy.systems.llm_bs import LlmBs
from forwhy.systems.next_item import NextItemSystem
from forwhy.systems.sasrec import SasRecConfig
from forwhy.text.encoder import text_encoder

Expert = Literal["sasrec", "item-knn", "content-knn", "llm-bs"]
log = logging.getLogger(__name__)


class HybridRecommender(MixtureRecommender, Saved):
    """Experts that save themselves."""

    kind: ClassVar[str] = "hybrid"

    def content(self) -> Content:
        """Every expert whole, powers, weights, and what was taken in training."""
        learnt = self.learnt
        config = {
            "experts": list(self.experts),
            "sharpness": learnt.sharpness,
            "repeat_gain": self.repeat_gain,
        }
        text = f"The next of {len(self.catalogue.items):,} items from {self._read_and_loaded()}"
        tensors = self.catalogue.tensors() | {"gates": learnt.gates_MF, "powers": learnt.powers_M}
        about = card("hybrid", text, {}, "sequential")
        return Content(config, tensors, self.catalogue.tables(), about, dict(self.experts))  # type: ignore[arg-type]

    @classmethod
    def restore(cls, stored: Artifact, **where: Any) -> HybridRecommender:  # noqa: ANN401
        """Make it again, with its experts."""
        experts = {
            name: _kind(name).from_pretrained(stored.part(name), **where) for name in stored.config["experts"]
        }
        learnt = Learnt(stored.tensors["gates"], stored.tensors["powers"], float(stored.config["sharpness"]))
        return cls(Catalogue.read(stored), experts, learnt, float(stored.config["repeat_gain"]))


def _kind(name: str) -> Any:  # noqa: ANN401 - a recommender that saves itself
    """The class of an expert; those of networks import torch."""
    if name == "llm-bs":
        from forwhy.recommend.llmbs.recommender import LlmBsRecommender

        return LlmBsRecommender
    if name == "sasrec":
        from forwhy.recommend.sequential import NextItemRecommender

        return NextItemRecommender
    return {"item-knn": ItemKnnRecommender, "content-knn": ContentKnnRecommender}[name]


# --- the system


class MixtureConfig(Options):
    """Which experts there are, and those that are counted and not trained."""

    experts: tuple[Expert, ...] = Field(default=("sasrec", "item-knn", "content-knn"), min_length=1)
    """`sasrec` as in `behaviour`, `llm-bs` as in `index` and `recommender`; who can't serve these data is left out."""
    item_knn: KnnConfig = Field(default_factory=lambda: KnnConfig(decay=0.6, shrink=50.0))
    content: ContentConfig = Field(default_factory=ContentConfig)


class Hybrid(LlmBs):
    """The default recommender of histories. LLM-BS as an expert costs a pass over its whole trie per person."""

    system: Literal["hybrid"] = "hybrid"  # type: ignore[assignment]  # LLM-BS is a part of it
    behaviour: SasRecConfig = Field(default_factory=lambda: SasRecConfig(dims=128, patience=5))
    mixture: MixtureConfig = Field(default_factory=MixtureConfig)

    stages: ClassVar[tuple[Stage, ...]] = (
        *LlmBs.stages[:-1],
        Stage("mixture", ("encoder", "mixture")),
        MEASURE,
    )

    def needed(self) -> tuple[Stage, ...]:
        """Without the stages of experts that are not asked for."""
        names = {"mixture", "evaluation", *(["behaviour"] if "sasrec" in self.mixture.experts else [])}
        if "llm-bs" in self.mixture.experts:
            names |= {stage.name for stage in super().needed()}
        return tuple(stage for stage in self.stages if stage.name in names)

    def left_out(self, stage: Stage, dataset: Dataset) -> str:
        """SASRec, where nobody has two training interactions."""
        if stage.name != "behaviour":
            return ""
        longest = Sequences.from_dataset(dataset, self.data.graph).train.lengths.max(initial=0)
        return "" if longest > 1 else "nobody with two training interactions, so there is no order to learn"

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """Also the encoder of content-kNN."""
        found = dict(super().models(stages))
        if "content-knn" in self.mixture.experts and "mixture" in stages:
            found["encoder.name"] = partial(text_encoder, self.encoder.name)
        return found

    def budget(self) -> str:
        """What the trainings may spend."""
        options = self.behaviour
        return (
            f"SASRec: {options.epochs} epochs of interactions at most, {options.batch_size} histories a step"
        )

    def make_mixture(self, run: Run) -> HybridRecommender:
        """Load and count the experts, and learn their weights."""
        dataset = run.dataset()
        sequences = Sequences.from_dataset(dataset, self.data.graph)
        catalogue, experts = Catalogue.of(dataset, sequences.train), dict[str, Recommender]()
        for name in self.mixture.experts:
            try:
                experts[name] = self._expert(name, run, dataset, catalogue)
            except UserError as error:
                log.warning("%s is left out, its weight goes to the others: %s", name, error)
        if not experts:
            raise UserError(
                f"data set '{dataset.name}': no expert of {', '.join(self.mixture.experts)} can serve it"
            )
        return HybridRecommender.fit(catalogue, experts, sequences, self.seed)

    def _expert(self, name: Expert, run: Run, dataset: Dataset, catalogue: Catalogue) -> Recommender:
        if name == "item-knn":
            return ItemKnnRecommender(catalogue, self.mixture.item_knn)
        if name == "content-knn":
            vectors = ContentVectors.of(dataset, self.encoder.name, self.mixture.content.terms)
            return ContentKnnRecommender(catalogue, vectors, self.mixture.content)
        found: Recommender = _kind(name).from_pretrained(
            run.output("behaviour" if name == "sasrec" else "recommender")
        )
        return found

    def load_recommender(self, run: Run) -> HybridRecommender:  # type: ignore[override]
        """The experts with their weights."""
        return HybridRecommender.from_pretrained(run.output("mixture"))

    def more_protocol(self, recommender: HybridRecommender) -> dict[str, object]:  # type: ignore[override]
        """Who is in it, and how they are put together."""
        learnt = recommender.learnt
        powers = dict(zip(recommender.experts, learnt.powers_M.tolist(), strict=True))
        return {"experts": powers, "sharpness": learnt.sharpness}

    rank_variants = NextItemSystem.rank_variants
