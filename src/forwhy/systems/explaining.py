"""What systems that explain share: a frozen model reads what was learned of people and things; what is measured.

A subclass says how users and items come to have representations (its first stage) and which explainer reads them.
Measured are the ranking by the representations, texts beside their controls, and what the right representations are
worth to the model (information gain), on held-out pairs.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.columns import SPLITS
from forwhy.data.dataset import Dataset, Pairs
from forwhy.errors import UserError
from forwhy.evaluate.choice import two_choice
from forwhy.evaluate.controls import known_table
from forwhy.evaluate.document import evaluation_document
from forwhy.evaluate.gain import measure_gain, text_groups, warm_group
from forwhy.evaluate.grounding import GroundingTable, fitted, ground
from forwhy.evaluate.ranking import RankingResult, rank_all, rank_scores
from forwhy.evaluate.reading import Outputs, match
from forwhy.explain.base import Explainer
from forwhy.explain.evidence import Explanation
from forwhy.explain.options import RUN_BY, ExplainerConfig, ExplainerOptions
from forwhy.graph.representations import CollaborativeConfig, CollaborativeVectors, Representations
from forwhy.lazy import uncollected
from forwhy.models import locate
from forwhy.options import Options
from forwhy.progress import Progress, track
from forwhy.recommend.base import PopularityRecommender, Recommender
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.systems import TEXTS, WARM_TEXTS, EncoderConfig, Run, Stage, System, write_evaluation
from forwhy.text.encoder import TextEncoder, text_encoder

log = logging.getLogger(__name__)

Reads = Explainer[Any, Any] | None
EXPLAINED_TOGETHER = 32
"""Pairs between two steps of the progress bar; texts do not depend on it."""
EXPLAIN = Stage("explainer", ("explainer",), frozenset({"generation"}))
"""How texts are written (`generation`) may change without a new training."""


class EvaluationConfig(Options):
    """What is measured on held-out pairs; four NLL passes over `pairs`, and `generate` generated texts."""

    pairs: int = Field(default=300, ge=2)
    """Held-out pairs whose NLL is taken with right, shuffled-user, shuffled-item and shuffled tokens."""
    generate: NonNegativeInt = 300
    """Held-out pairs for which a text is generated and scored; 0 skips the text metrics. Under the
    protocol `zero-shot` also as many warm pairs."""
    ks: tuple[PositiveInt, ...] = Field(default=(5, 10, 20, 50), min_length=1)
    """Cut-offs of the ranking metrics."""
    seed: NonNegativeInt = 0
    """Which pairs are drawn and how they are shuffled."""


class ExplainingSystem(System):
    """A system that learns representations of users and items, and a language model that reads them."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    explainer: ExplainerOptions
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)

    @abstractmethod
    def load_representations(self, run: Run) -> Representations:
        """What the first stage learned of users and items."""

    @abstractmethod
    def new_explainer(self) -> Explainer[Any, Any]:
        """The explainer that reads it, not fitted yet."""

    def budget(self) -> str:
        """What both trainings may spend."""
        explainer = self.explainer
        return (
            f"{self.budget_before()}; {explainer.train_pairs or 'all'} explained pairs, {explainer.epochs} times, in "
            f"batches of {explainer.batch_size}"
        )

    @abstractmethod
    def budget_before(self) -> str:
        """What the first stage may spend, in words."""

    def models(self, stages: Collection[str]) -> Mapping[str, Callable[[], object]]:
        """The encoder and, where there is something to learn from, the language model."""
        found: dict[str, Callable[[], object]] = {"encoder.name": partial(text_encoder, self.encoder.name)}
        if EXPLAIN.name in stages and isinstance(reads := self.explainer, ExplainerConfig):
            found["explainer.model"] = partial(locate, reads.model, reads.revision)
        return found

    def left_out(self, stage: Stage, dataset: Dataset) -> str:
        """Without explanations there is nothing for the language model to learn from."""
        learns = stage.name != EXPLAIN.name or len(dataset.pairs("train"))
        return "" if learns else "no explanations to learn from"

    def make_explainer(self, run: Run) -> Explainer[Any, Any]:
        """Stage 2: a frozen language model learns to read the representations, from explained training pairs."""
        return self.new_explainer().fit(run.dataset(), self.load_representations(run), run.work)

    def load_recommender(self, run: Run) -> Recommender:
        """Items by the inner product of the representations, the very numbers that are explained."""
        return BehaviourRecommender(self.load_representations(run))

    def load_explainer(self, run: Run) -> Explainer[Any, Any]:
        """The explainer; how it writes is what the recipe says now."""
        run_by = {it: getattr(self.explainer, it) for it in RUN_BY if hasattr(self.explainer, it)}
        with uncollected():
            found = type(self.new_explainer()).from_pretrained(run.output("explainer"), run_by=run_by)
        stage = next(stage for stage in self.stages if stage.name == EXPLAIN.name)
        later = {option: getattr(self.explainer, option) for option in stage.later}
        found.config = found.config.model_copy(update=later)
        return found

    def explains(self, run: Run) -> bool:
        """As of every system; warns where the data has something to train it on."""
        trained = run.has("explainer")
        if not (trained or self.left_out(EXPLAIN, run.dataset())):
            words = (
                "%s: its explainer is not trained yet: plain reasons; train it with: forwhy run %s --out %s"
            )
            log.warning(words, run.path, run.path / "recipe.toml", run.path)
        return trained

    def make_evaluation(self, run: Run) -> None:
        """The texts, then the document that says the stage is done; without an explainer the ranking alone."""
        explainer = self.load_explainer(run) if run.has("explainer") else None
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
        users, found = run.dataset().users.values, self._ranked(run.dataset(), self.load_representations(run))
        return None if found is None else ([str(users[user]) for user in found.users], found.per_user)

    def measure(
        self, dataset: Dataset, representations: Representations, explainer: Reads
    ) -> tuple[dict[str, Any], dict[str, Outputs]]:
        """Every number on test pairs beside its controls, and the generated texts by file name.

        The keys are those of `evaluation_document`; what there are no test pairs or no explainer for is null.
        """
        encoder = text_encoder(self.encoder.name)
        pairs = self._drawn(dataset.pairs("test"), explainer)
        measured: dict[str, Any] = {}
        texts: dict[str, Outputs] = {}
        if explainer is not None and len(pairs) > 1:
            measured, texts = self._measure_texts(dataset, pairs, explainer, encoder)
        chooser = explainer if measured.get("gain") else None
        document = evaluation_document(
            ranking=self._ranked(dataset, representations),
            baselines=self._baselines(dataset),
            two_choice=two_choice(dataset, encoder, chooser, seed=self.evaluation.seed),
            protocol=self._protocol(dataset, representations, explainer, pairs),
            **self.measure_words(dataset, representations, encoder),
            **measured,
        )
        return document, texts

    def _ranked(self, dataset: Dataset, representations: Representations) -> RankingResult | None:
        """Full ranking of test interactions by inner products; None without any."""
        test, seen = dataset.edges("test"), dataset.edges("train", "as-published")
        if not len(test):
            return None
        users, items = representations.representation("user"), representations.representation("item")
        with Progress("ranking the catalogue"):
            return rank_all(users, items, seen, test, self.evaluation.ks)

    def _baselines(self, dataset: Dataset) -> dict[str, RankingResult]:
        """Popularity on the same graph, ranked as the representations are."""
        test, seen = dataset.edges("test"), dataset.edges("train", "as-published")
        if not len(test):
            return {}
        scores = PopularityRecommender.fit(dataset, self.data.graph).scores
        counts = len(dataset.users), len(dataset.items)
        return {"popularity": rank_scores(scores, *counts, seen, test, self.evaluation.ks)}

    def _drawn(self, pairs: Pairs, explainer: Reads) -> Pairs:
        """As many as are measured, of those whose user and item are known from training: there is something to read."""
        if explainer is not None:
            pairs = pairs.select(np.flatnonzero(explainer.supported(pairs)))
        settings = self.evaluation
        order = np.random.default_rng(settings.seed).permutation(len(pairs))
        return pairs.select(order[: max(settings.pairs, settings.generate)])

    def _measure_texts(
        self, dataset: Dataset, pairs: Pairs, explainer: Explainer[Any, Any], encoder: TextEncoder
    ) -> tuple[dict[str, Any], dict[str, Outputs]]:
        parts = {TEXTS: pairs, WARM_TEXTS: self._drawn(dataset.warm_pairs(), explainer)}
        most = self.evaluation.generate
        chosen = {name: some.select(np.arange(len(some))[:most]) for name, some in parts.items()}
        texts = {name: _written(dataset, explainer, some) for name, some in chosen.items() if len(some) > 1}
        gain = self._gain(explainer, pairs)
        if TEXTS not in texts:
            return {"gain": gain}, texts
        reading = match("this run", texts[TEXTS], dataset)
        table = known_table(reading, dataset, encoder, self.evaluation.seed)
        groups = text_groups(dataset, texts[TEXTS], table.method)
        grounding = _grounded(reading, dataset, encoder, self.evaluation.seed)
        if WARM_TEXTS in texts:
            groups["warm"] = warm_group(dataset, texts[WARM_TEXTS], encoder)
        return {"text": table, "grounding": grounding, "gain": gain, "groups": groups}, texts

    def _gain(self, explainer: Explainer[Any, Any], pairs: Pairs) -> dict[str, object] | None:
        """NLL under the right representations and under other pairs'; None where texts cannot be scored."""
        if not explainer.can_score:
            return None
        some = pairs.select(np.arange(len(pairs))[: self.evaluation.pairs])
        return measure_gain(explainer, some, self.evaluation.seed, "title" in explainer.config.shows)

    def measure_words(self, dataset: Dataset, representations: Any, encoder: TextEncoder) -> dict[str, Any]:  # noqa: ANN401
        """Of the representations themselves: `health`, `retrieval` and `explained` of `evaluation_document`."""
        return {}

    def _protocol(
        self, dataset: Dataset, representations: Representations, explainer: Reads, pairs: Pairs
    ) -> dict[str, object]:
        prompts = None if explainer is None else explainer.prompt_length(pairs)
        bits = getattr(getattr(getattr(explainer, "reader", None), "backbone", None), "bits", None)
        return {
            **self.origin(dataset),
            "explanations": {split: len(dataset.pairs(split)) for split in SPLITS},
            "protocol": self.data.protocol,
            "graph": self.data.graph,
            "zero_shot": dataset.source.get("protocol"),
            "leaks": dataset.leaks(),
            **self.texts_read(),
            "profiles_shown": self.new_explainer().shows_profiles,
            "masked": "all training interactions, also those taken out of the graph",
            "training_edges": len(representations.seen),
            "prompt_tokens": None if prompts is None else round(prompts, 1),
            "model": None if explainer is None else explainer.config.base_model,
            "encoder": self.encoder.name,
            "seed": self.seed,
            "evaluation_seed": self.evaluation.seed,
            **({"engine": bits} if bits else {}),
        }

    def texts_read(self) -> dict[str, bool]:
        """Which texts the representations were learned from, for the protocol."""
        return {"interaction_texts_read": False, "profiles_read": False}


class Collaborative(ExplainingSystem):
    """A system whose first stage is LightGCN with BPR (XRec, eq. 7 to 11): its vectors rank, and may be read.

    An explainer that knows users and items by number alone still ranks, and says what carried a score, by these.
    """

    collaborative: CollaborativeConfig = Field(default_factory=CollaborativeConfig)

    stages: ClassVar[tuple[Stage, ...]] = (
        Stage("collaborative", ("collaborative",)),
        EXPLAIN,
        Stage("evaluation", ("encoder", "evaluation")),
    )

    def make_collaborative(self, run: Run) -> CollaborativeVectors:
        """Stage 1: a vector of each user and item, from training interactions alone."""
        from forwhy.graph.lightgcn import learn_vectors

        return learn_vectors(run.dataset(), run.work, self.collaborative, self.data.graph)

    def load_representations(self, run: Run) -> CollaborativeVectors:
        """The vectors of stage 1."""
        return CollaborativeVectors.from_pretrained(run.output("collaborative"))

    def budget_before(self) -> str:
        """What the training of the vectors may spend."""
        return f"{self.collaborative.epochs} epochs of interactions at most"


def _written(dataset: Dataset, explainer: Explainer[Any, Any], pairs: Pairs) -> Outputs:
    """A text for each of the pairs, with the statements that are shown beside it."""
    told: list[Explanation] = []
    for start in track(range(0, len(pairs), EXPLAINED_TOGETHER), "explaining test pairs"):
        rows = np.arange(len(pairs))[start : start + EXPLAINED_TOGETHER]
        told += explainer.explain(pairs.select(rows))
    evidence = [[statement.text for statement in one.evidence.statements] for one in told]
    return Outputs.of(dataset.external(pairs), [one.text for one in told], pairs.texts, evidence)


def _grounded(outputs: Outputs, dataset: Dataset, encoder: TextEncoder, seed: int) -> GroundingTable | None:
    """Which claims something known supports; None where too little is known."""
    try:
        return ground(outputs, dataset, fitted(dataset, encoder, seed), seed)
    except UserError as error:
        log.info("not measured: %s", error)
        return None
