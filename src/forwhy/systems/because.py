"""`because`: BEAT's behaviour tokens with evidence beside them; every claim of a sentence is tied to what supports it.

The words come from whole texts first (`vocabulary.text_first`) and from who took what; no explanation of a pair makes
its own words. The model reads the words and, in the prompt, what is known of the item and the user; what it writes is
checked against that.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt

from forwhy.data.dataset import Dataset
from forwhy.data.texts import entity_texts
from forwhy.evaluate.choice import whose_profile
from forwhy.evaluate.reading import Outputs
from forwhy.explain.base import Explainer
from forwhy.explain.options import LATER, BecauseConfig
from forwhy.graph.representations import Representations
from forwhy.progress import Progress
from forwhy.systems import MEASURE, Stage
from forwhy.systems.beat import Beat
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.vocabulary import Vocabulary

PROFILES = 40
"""People of whom it is written who they are, to be held against their own profiles."""


class BecauseTokens(TokenizerConfig):
    """How behaviour becomes words: as of BEAT, but three words of text come first and five of interactions follow."""

    text_first: NonNegativeInt = 3
    micro_slots: int = Field(default=7, ge=1, le=32)


class Because(Beat):
    """Behaviour tokens and evidence: reasons that can be checked."""

    system: Literal["because"] = "because"  # type: ignore[assignment]
    vocabulary: BecauseTokens = Field(default_factory=BecauseTokens)
    explainer: BecauseConfig = Field(default_factory=BecauseConfig)

    stages: ClassVar[tuple[Stage, ...]] = (Beat.stages[0], Stage("explainer", ("explainer",), LATER), MEASURE)

    def new_explainer(self) -> Explainer[Vocabulary, Any]:
        """Stage 2: projected codes beside statements."""
        from forwhy.explain.because import BecauseExplainer

        return BecauseExplainer(self.explainer, self.intents, self.encoder.name)

    def measure(
        self, dataset: Dataset, representations: Representations, explainer: Explainer[Any, Any] | None
    ) -> tuple[dict[str, Any], dict[str, Outputs]]:
        """Also `profiles`: what the words of people say of them, whose own profiles the explainer never read."""
        document, texts = super().measure(dataset, representations, explainer)
        document["profiles"] = None if explainer is None else self._profiles(dataset, explainer)
        return document, texts

    def _profiles(self, dataset: Dataset, explainer: Explainer[Any, Any]) -> dict[str, Any] | None:
        told, taken = entity_texts(dataset, "user", self.intents), set(explainer.known.seen[:, 0].tolist())
        unread = sorted((told.keys() & taken) - explainer.described)
        people = np.random.default_rng(self.evaluation.seed).permutation(unread)[:PROFILES].tolist()
        if not explainer.described or not people:
            return None
        with Progress("writing who people are"):
            written = explainer.describe([dataset.users.values[user] for user in people])
        own = [max(told[user], key=len) for user in people]
        return whose_profile(written, own, text_encoder(self.encoder.name), self.evaluation.seed)
