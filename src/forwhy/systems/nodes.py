"""What systems share whose explainer reads graph vectors or, by `explainer.tokens`, BEAT's behaviour tokens."""

from __future__ import annotations

from typing import Any, ClassVar

from forwhy.data.dataset import Dataset
from forwhy.explain.nodes import NodeConfig
from forwhy.systems import Run, Stage
from forwhy.systems.beat import BehaviourWords
from forwhy.systems.explaining import Collaborative, ExplainingSystem
from forwhy.text.encoder import TextEncoder
from forwhy.vocabulary.vocabulary import Vocabulary


class NodeSystem(BehaviourWords, Collaborative):
    """One of two first stages is made: XRec's graph vectors, or BEAT's vocabulary."""

    explainer: NodeConfig
    stages: ClassVar[tuple[Stage, ...]] = (
        *Collaborative.stages[:1],
        *BehaviourWords.stages[:1],
        *Collaborative.stages[1:],
    )

    @property
    def reads_words(self) -> bool:
        """Whether behaviour tokens are read."""
        return self.explainer.tokens == "behaviour"

    @property
    def _first(self) -> type[ExplainingSystem]:
        return BehaviourWords if self.reads_words else Collaborative

    def needed(self) -> tuple[Stage, ...]:
        """The first stage that is read, and the rest."""
        return self.stages[1:] if self.reads_words else (*self.stages[:1], *self.stages[2:])

    def load_vocabulary(self, run: Run) -> Vocabulary:
        """The words, where there are any."""
        if not self.reads_words:
            raise self._lacks(
                run, "that reads graph vectors has no behaviour vocabulary", "use a run of beat"
            )
        return super().load_vocabulary(run)

    def load_representations(self, run: Run) -> Any:  # noqa: ANN401 - of either kind
        """What the first stage learned."""
        return self._first.load_representations(self, run)

    def budget_before(self) -> str:
        """Of the first stage."""
        return self._first.budget_before(self)

    def measure_words(self, dataset: Dataset, representations: Any, encoder: TextEncoder) -> dict[str, Any]:  # noqa: ANN401
        """Of a vocabulary; nothing of graph vectors."""
        return self._first.measure_words(self, dataset, representations, encoder)

    def texts_read(self) -> dict[str, bool]:
        """By the first stage."""
        return self._first.texts_read(self)
