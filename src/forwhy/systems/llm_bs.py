"""LLM-BS: codes from what items say and from who takes them, written by a language model.

Stage 1 (`behaviour`) trains a network whose item vectors say who takes what, stage 2 (`index`) turns these and the
items' texts into codes (eq. 4), stage 3 (`recommender`) teaches a language model to write them: sequences, texts and
contrast together (eq. 5 to 7), then an annealing adapter on sequences alone (eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from forwhy.data.histories import Histories, Sequences
from forwhy.evaluate.ranking import RankingResult
from forwhy.models import locate
from forwhy.options import merged
from forwhy.recommend.options import LlmBsConfig
from forwhy.systems import Run
from forwhy.systems.generative import GenerativeSystem
from forwhy.systems.next_item import AS_IT_IS, Kept
from forwhy.text.encoder import LLM_PREFIX

if TYPE_CHECKING:
    from forwhy.recommend.llmbs.recommender import LlmBsRecommender


class LlmBs(GenerativeSystem):
    """A language model that recommends by writing the codes of the next item."""

    system: Literal["llm-bs"] = "llm-bs"
    recommender: LlmBsConfig = Field(default_factory=LlmBsConfig)

    @model_validator(mode="before")
    @classmethod
    def _published(cls, given: object) -> object:
        """`recommender.preset = "paper"` sets the sections before it too; what is given wins (section 4.1.3)."""
        recommender = given.get("recommender") if isinstance(given, Mapping) else None
        if not isinstance(given, Mapping) or not isinstance(recommender, Mapping):
            return given
        if recommender.get("preset") != "paper":
            return given
        backbone = recommender.get("backbone")
        name = backbone.get("name", "scratch") if isinstance(backbone, Mapping) else "scratch"
        encoder = {} if name == "scratch" else {"encoder": {"name": f"{LLM_PREFIX}{name}"}}
        return merged({"behaviour": {"network": "din"}, "index": {"source": "unit"}, **encoder}, given)

    @property
    def sources(self) -> frozenset[str]:
        """Item vectors of the index and of the contrast."""
        return super().sources | self.recommender.contrast.weights.keys()

    def budget(self) -> str:
        """What the trainings of the language model and of its adapter may spend."""
        options, annealing = self.recommender, self.recommender.annealing.epochs
        spent = f"{options.epochs} epochs of interactions at most, {options.batch_size} histories a step"
        return f"{spent}{f', {annealing} epochs of the adapter' if annealing else ''}"

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """Also the language model, where one is named."""
        found, backbone = dict(super().models(stages)), self.recommender.backbone
        if not backbone.scratch and "recommender" in stages:
            found["recommender.backbone.name"] = partial(locate, backbone.name, backbone.revision)
        return found

    def recommender_class(self) -> type[LlmBsRecommender]:
        """The language model with its adapter."""
        from forwhy.recommend.llmbs.recommender import LlmBsRecommender

        return LlmBsRecommender

    def make_recommender(self, run: Run) -> LlmBsRecommender:
        """Stage 3: the language model, then its adapter."""
        index, vectors, graph = self.load_index(run), self.item_vectors(run), self.data.graph
        model = self.recommender_class()
        return model.fit(run.dataset(), index, run.work, self.recommender, graph, vectors=vectors)

    def rank_variants(
        self, recommender: LlmBsRecommender, histories: Histories, sequences: Sequences, kept: Kept
    ) -> dict[str, RankingResult]:
        """The first training's model, where an annealing adapter came after it."""
        if recommender.adapter is None:
            return {}
        with recommender.switched(False):
            off = self.rank(recommender, histories, sequences, kept=kept, known_as="adapter off")
            return {"adapter off": off[AS_IT_IS]}
