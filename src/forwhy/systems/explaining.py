"""What systems that explain share: a frozen model reads what was learned of people and things; what is measured.

A subclass says how users and items come to have representations (its first stage) and which explainer reads them.
Measured are the ranking by the representations, texts beside their controls, and what the right representations are
worth to the model (information gain), on held-out pairs.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.columns import SPLITS
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.evaluate.controls import TextTable, known_table
from forwhy.evaluate.document import evaluation_document
from forwhy.evaluate.gain import Gain, TextGroup, measure_gain, text_groups, warm_group
from forwhy.evaluate.ranking import RankingResult, rank_all, rank_scores
from forwhy.evaluate.reading import Outputs, Reading, match
from forwhy.explain.base import NllResult
from forwhy.explain.config import ExplainerConfig
from forwhy.options import Options
from forwhy.progress import Progress, spinner, track
from forwhy.systems.base import EncoderConfig, Run, Stage, System, write_evaluation
from forwhy.text.encoder import TextEncoder, text_encoder

if TYPE_CHECKING:
    from forwhy.explain.soft import SoftExplainer
    from forwhy.graph.representations import Representations
    from forwhy.recommend.base import CatalogueRecommender

TEXTS, WARM_TEXTS = "outputs.parquet", "outputs-warm.parquet"
_TOGETHER = 32
"""Pairs explained between two steps of the progress bar; the texts do not depend on it."""


class EvaluationConfig(Options):
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


EXPLAIN = Stage("explainer", ("explainer",), frozenset({"generation"}))
"""How texts are written (`generation`) may change without a new training."""


class ExplainingSystem(System):
    """A system that learns representations of users and items, and a language model that reads them."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    explainer: ExplainerConfig
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @abstractmethod
    def load_representations(self, run: Run) -> Representations:
        """What the first stage learned of users and items."""

    @abstractmethod
    def new_explainer(self) -> SoftExplainer[Any, Any, Any]:
        """The explainer that reads it, not fitted yet."""

    def budget(self) -> str:
        """Of both trainings."""
        explainer = self.explainer
        return (
            f"{self.budget_before()}; {explainer.train_pairs or 'all'} explained pairs, {explainer.epochs} times, in "
            f"batches of {explainer.batch_size}"
        )

    @abstractmethod
    def budget_before(self) -> str:
        """What the first stage may spend, in words."""

    def left_out(self, stage: Stage, dataset: Dataset) -> str:
        """Without explanations there is nothing for the language model to learn from."""
        return "no explanations to learn from" if stage is EXPLAIN and not len(dataset.pairs("train")) else ""

    def make_explainer(self, run: Run) -> SoftExplainer[Any, Any, Any]:
        """Stage 2: a frozen language model learns to read the representations, from explained training pairs."""
        return self.new_explainer().fit(run.dataset(), self.load_representations(run), run.work)

    def load_recommender(self, run: Run) -> CatalogueRecommender:
        """Items by the inner product of the representations, the very numbers that are explained."""
        from forwhy.recommend.simple import BehaviourRecommender

        return BehaviourRecommender(self.load_representations(run))

    def load_explainer(self, run: Run) -> SoftExplainer[Any, Any, Any]:
        """The explainer; how it writes is what the recipe says now."""
        found = type(self.new_explainer()).from_pretrained(run.output("explainer"))
        found.config = found.config.model_copy(update={"generation": self.explainer.generation})
        return found

    def make_evaluation(self, run: Run) -> None:
        """The texts, then the document that says the stage is done; without an explainer the ranking alone."""
        explainer = self.load_explainer(run) if len(run.dataset().pairs("train")) else None
        document, texts = self.measure(run.dataset(), self.load_representations(run), explainer)
        for name in (TEXTS, WARM_TEXTS):
            if name in texts:
                texts[name].save(run.path / name)
            else:
                (run.path / name).unlink(missing_ok=True)
        write_evaluation(run.path, document)

    def measure_early(self, run: Run) -> dict[str, Any] | None:
        """The representations alone, while the explainer that the data allows is not trained."""
        if run.has("explainer") or self.left_out(EXPLAIN, run.dataset()):
            return None
        return self.measure(run.dataset(), self.load_representations(run), None)[0]

    def user_metrics(self, run: Run) -> tuple[list[str], Mapping[str, NDArray[np.float64]]] | None:
        """Ranked again: the evaluation keeps only means."""
        dataset = run.dataset()
        found = self.rank(dataset, self.load_representations(run))
        if found is None:
            return None
        return [str(dataset.users.values[user]) for user in found.users.tolist()], found.per_user

    def measure(
        self,
        dataset: Dataset,
        representations: Representations,
        explainer: SoftExplainer[Any, Any, Any] | None,
    ) -> tuple[dict[str, Any], dict[str, Outputs]]:
        """Every number on test pairs beside its controls, and the generated texts by file name.

        The keys are those of `evaluation_document`. What the data has no test pairs for is null, and so is all text
        without an explainer.
        """
        encoder, seed = text_encoder(self.encoder.name), self.evaluation.seed
        pairs = self._drawn(dataset.pairs("test"), explainer)
        texts, gain = {}, None
        if explainer is not None and len(pairs) > 1:
            warm = self._drawn(dataset.warm_pairs(), explainer)
            written = {
                TEXTS: self._written(dataset, explainer, pairs),
                WARM_TEXTS: self._written(dataset, explainer, warm),
            }
            texts = {name: outputs for name, outputs in written.items() if outputs is not None}
            gain = self._gain(explainer, pairs)
        table = _text_table(dataset, texts[TEXTS], encoder, seed) if TEXTS in texts else None
        document = evaluation_document(
            ranking=self.rank(dataset, representations),
            baselines=self._popularity(dataset),
            text=table,
            gain=gain,
            groups=_groups(dataset, texts, table, encoder) if table else None,
            protocol=self._protocol(dataset, representations, explainer, pairs),
            **self.measure_words(dataset, representations, encoder),
        )
        return document, texts

    def measure_words(self, dataset: Dataset, representations: Any, encoder: TextEncoder) -> dict[str, Any]:  # noqa: ANN401
        """Measures of the representations themselves: `health` and `retrieval` of `evaluation_document`."""
        return {}

    def rank(self, dataset: Dataset, representations: Representations) -> RankingResult | None:
        """Full ranking of test interactions by the representations; None without any."""
        test = dataset.edges("test")
        if not len(test):
            return None
        users, items = representations.representation("user"), representations.representation("item")
        with spinner("ranking the catalogue"):
            return rank_all(users, items, dataset.edges("train", "as-published"), test, self.evaluation.ks)

    def _popularity(self, dataset: Dataset) -> dict[str, RankingResult]:
        """Popularity on the same graph, ranked the same way."""
        from forwhy.recommend.simple import PopularityRecommender

        test, seen = dataset.edges("test"), dataset.edges("train", "as-published")
        if not len(test):
            return {}
        popularity = PopularityRecommender.fit(dataset, self.data.graph)
        sizes = len(dataset.users), len(dataset.items)
        return {"popularity": rank_scores(popularity.scores, *sizes, seen, test, self.evaluation.ks)}

    def _drawn(self, pairs: Pairs, explainer: SoftExplainer[Any, Any, Any] | None) -> Pairs:
        """As many as are measured, of those whose user and item are known from training: there is something to read."""
        if explainer is not None:
            pairs = pairs.select(np.flatnonzero(explainer.supported(pairs)))
        order = np.random.default_rng(self.evaluation.seed).permutation(len(pairs))
        return pairs.select(order[: max(self.evaluation.pairs, self.evaluation.generate)])

    def _written(
        self, dataset: Dataset, explainer: SoftExplainer[Any, Any, Any], pairs: Pairs
    ) -> Outputs | None:
        """A text for each of the first `generate` pairs; None where there are fewer than two."""
        chosen = pairs.select(np.arange(min(self.evaluation.generate, len(pairs))))
        if len(chosen) < 2:
            return None
        texts: list[str] = []
        for start in track(range(0, len(chosen), _TOGETHER), "explaining test pairs"):
            rows = np.arange(start, min(start + _TOGETHER, len(chosen)))
            texts += [explanation.text for explanation in explainer.explain(chosen.select(rows))]
        outputs = Outputs(dataset.external(chosen), texts, chosen.texts)
        return outputs.take(outputs.order())

    def _gain(self, explainer: SoftExplainer[Any, Any, Any], pairs: Pairs) -> Gain | None:
        """NLL under the right representations and under other pairs'; None where texts cannot be scored."""
        if not explainer.capabilities.scores:
            return None
        chosen = pairs.select(np.arange(min(self.evaluation.pairs, len(pairs))))
        with Progress("scoring test pairs, right and shuffled", 4) as progress:
            return measure_gain(_Counted(explainer, progress), chosen, self.evaluation.seed)

    def _protocol(
        self,
        dataset: Dataset,
        representations: Representations,
        explainer: SoftExplainer[Any, Any, Any] | None,
        pairs: Pairs,
    ) -> dict[str, object]:
        """What the numbers are about."""
        prompts = None if explainer is None else explainer.prompt_length(pairs)
        return {
            "recipe": self.name,
            "system": self.system,
            "dataset": dataset.name,
            "fingerprint": dataset.fingerprint,
            "split": dataset.source.get("split"),
            "explanations": {split: len(dataset.pairs(split)) for split in SPLITS},
            "protocol": self.data.protocol,
            "graph": self.data.graph,
            "zero_shot": dataset.source.get("protocol"),
            "leaks": dataset.leaks(),
            **self.texts_read(),
            "profiles_shown": self.explainer.shows_profiles,
            "masked": "all training interactions, also those taken out of the graph",
            "training_edges": len(representations.seen),
            "prompt_tokens": None if prompts is None else round(prompts, 1),
            "model": explainer.config.model if explainer is not None else None,
            "encoder": self.encoder.name,
            "seed": self.seed,
            "evaluation_seed": self.evaluation.seed,
        }

    def texts_read(self) -> dict[str, bool]:
        """Which texts the representations were learned from, for the protocol."""
        return {"interaction_texts_read": False, "profiles_read": False}


def _text_table(dataset: Dataset, outputs: Outputs, encoder: TextEncoder, seed: int) -> TextTable:
    """Generated texts against references, and the controls on the same pairs."""
    return known_table(match("this run", Reading.of(outputs), dataset), dataset, encoder, seed)


def _groups(
    dataset: Dataset, texts: dict[str, Outputs], table: TextTable, encoder: TextEncoder
) -> dict[str, TextGroup]:
    """Texts by sparsity of the user and, where a protocol set warm pairs aside, the texts of those."""
    groups = text_groups(dataset, texts[TEXTS], table.method)
    if WARM_TEXTS in texts:
        groups["warm"] = warm_group(dataset, texts[WARM_TEXTS], encoder)
    return groups


class _Counted:
    """A scorer that counts its passes over the pairs."""

    def __init__(self, explainer: SoftExplainer[Any, Any, Any], progress: Progress) -> None:
        self._explainer, self._progress = explainer, progress

    def nll(
        self,
        pairs: Pairs,
        user_rows: NDArray[np.int64] | None = None,
        item_rows: NDArray[np.int64] | None = None,
    ) -> NllResult:
        found = self._explainer.nll(pairs, user_rows, item_rows)
        self._progress.advance()
        return found
