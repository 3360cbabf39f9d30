"""BEAT: behaviour tokens from interactions and phrases, read by a frozen language model.

Stage 1 turns who took what into words of four books, supervised by what was said of pairs (BEAT eq. 2 to 9). Stage 2
learns to read these words where a model's own words stand (eq. 10 to 12), or, with `explainer.reader = "words"`, their
glosses stand in the prompt of any model and nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from pydantic import Field

from forwhy.columns import SIDES
from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.data.texts import entity_texts
from forwhy.evaluate.gain import explained_variance, text_retrieval
from forwhy.explain.base import Explainer
from forwhy.explain.options import BeatConfig
from forwhy.systems import MEASURE, Run, Stage
from forwhy.systems.explaining import EXPLAIN, ExplainingSystem
from forwhy.text.chat.client import reach
from forwhy.text.encoder import TextEncoder, text_encoder
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.vocabulary import Vocabulary


class BehaviourWords(ExplainingSystem):
    """A system whose first stage turns who took what into words, the behaviour tokens."""

    intents: IntentsConfig = Field(default_factory=IntentsConfig)
    vocabulary: TokenizerConfig = Field(default_factory=TokenizerConfig)

    stages: ClassVar[tuple[Stage, ...]] = (
        Stage("vocabulary", ("intents", "encoder", "vocabulary")),
        EXPLAIN,
        MEASURE,
    )

    def make_vocabulary(self, run: Run) -> Vocabulary:
        """Stage 1: behaviour tokens of users and items, from training interactions, phrases and explanations."""
        from forwhy.vocabulary.tokenizer import BehaviourTokenizer

        dataset, encoder = run.dataset(), text_encoder(self.encoder.name)
        read, texts = self._phrases_read(), None
        phrases = {str(side): entity_phrases(dataset, side, read) for side in SIDES}
        if self.vocabulary.text_first:
            texts = {side: entity_texts(dataset, side, self.intents) for side in SIDES}
        tokenizer = BehaviourTokenizer(self.vocabulary)
        return tokenizer.fit(dataset, phrases, encoder, run.work, self.data.graph, texts)

    def _phrases_read(self) -> IntentsConfig:
        """With text-first words nothing of a pair's explanation stands behind its words, nor in their phrases."""
        intents = self.intents
        told = intents.training_explanations and not self.vocabulary.text_first
        return intents.model_copy(update={"training_explanations": told})

    def load_vocabulary(self, run: Run) -> Vocabulary:
        """The words of users and items."""
        return Vocabulary.from_pretrained(run.output("vocabulary"))

    def load_representations(self, run: Run) -> Vocabulary:
        """The same words, as vectors that rank."""
        return self.load_vocabulary(run)

    def budget_before(self) -> str:
        """What the training of the vocabulary may spend."""
        return f"{self.vocabulary.epochs} epochs of interactions at most"

    def measure_words(
        self, dataset: Dataset, representations: Vocabulary, encoder: TextEncoder
    ) -> dict[str, Any]:
        """Use of the books; the rank of each pair's own text for its macro tokens (eq. 6); what words explain of it."""
        pairs, retrieval = dataset.pairs("test"), None
        if len(pairs) > 1 and "user_macro" in representations.codebooks:
            fused = representations.fused_text(pairs.users, pairs.items)
            retrieval = text_retrieval(fused, encoder.encode(pairs.texts))
        said = {side: representations.said(side) for side in SIDES}
        explained = explained_variance(dataset, said, encoder, self.evaluation.seed)
        return {"health": representations.health(), "retrieval": retrieval, "explained": explained}

    def texts_read(self) -> dict[str, bool]:
        """Which texts the phrases came from."""
        intents = self._phrases_read()
        return {
            "interaction_texts_read": intents.training_explanations and not intents.clear_of_interactions,
            "profiles_read": intents.reads_shipped,
        }


class Beat(BehaviourWords):
    """Behaviour Tokens Speak Louder: people and things in words that a frozen language model learns to read."""

    system: Literal["beat"] = "beat"
    explainer: BeatConfig = Field(default_factory=BeatConfig)

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """Words may be said to a model on a server, in place of one here."""
        found, chat = dict(super().models(stages)), self.explainer.words.chat
        if self.explainer.reader == "words" and chat is not None and EXPLAIN.name in stages:
            del found["explainer.model"]
            found["explainer.words.chat"] = partial(reach, chat)
        return found

    def left_out(self, stage: Stage, dataset: Dataset) -> str:
        """A model that reads words learns nothing, so it needs no explanations."""
        return "" if self.explainer.reader == "words" else super().left_out(stage, dataset)

    def new_explainer(self) -> Explainer[Vocabulary, Any]:
        """Stage 2: projected codes, or glosses in the prompt."""
        if self.explainer.reader == "words":
            from forwhy.explain.codes import BeatWordsExplainer

            return BeatWordsExplainer(self.explainer)
        from forwhy.explain.beat import BeatExplainer

        return BeatExplainer(self.explainer)
