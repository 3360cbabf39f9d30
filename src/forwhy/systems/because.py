"""`because`: BEAT's behaviour tokens with evidence beside them; every claim of a sentence is tied to what supports it.

The words come from whole texts first (`vocabulary.text_first`) and from who took what; no explanation of a pair makes
its own words. The model reads the words and, in the prompt, what is known of the item and the user; what it writes is
checked against that.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt

from forwhy.explain.base import Explainer
from forwhy.explain.options import LATER, BecauseConfig
from forwhy.systems import MEASURE, Stage
from forwhy.systems.beat import Beat
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.vocabulary import Vocabulary


class BecauseTokens(TokenizerConfig):
    """How behaviour becomes words: as of BEAT, but three words of text come first and five of interactions follow."""

    text_first: NonNegativeInt = 3
    micro_slots: int = Field(default=7, ge=1, le=32)


class Because(Beat):
    """Behaviour tokens and evidence: reasons that can be checked."""

    system: Literal["because"] = "because"  # type: ignore[assignment]
    vocabulary: BecauseTokens = Field(default_factory=BecauseTokens)
    explainer: BecauseConfig = Field(default_factory=BecauseConfig)

    stages: ClassVar[tuple[Stage, ...]] = (
        Beat.stages[0],
        Stage("explainer", ("explainer",), LATER),
        MEASURE,
    )

    def new_explainer(self) -> Explainer[Vocabulary, Any]:
        """Stage 2: projected codes beside statements."""
        from forwhy.explain.because import BecauseExplainer

        return BecauseExplainer(self.explainer, self.intents, self.encoder.name)
