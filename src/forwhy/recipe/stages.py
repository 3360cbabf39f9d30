"""What each stage of BEAT and XRec does. Plain functions; skipping and resuming are `runner`'s."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SIDES, SPLITS
from forwhy.data.dataset import Dataset
from forwhy.data.ids import Pairs
from forwhy.data.intents import entity_phrases
from forwhy.data.leaks import leaks
from forwhy.evaluate.controls import TextTable, known_table
from forwhy.evaluate.gain import Gain, TextGroup, measure_gain, text_groups, text_retrieval, warm_group
from forwhy.evaluate.matching import match
from forwhy.evaluate.ranking import RankingResult, rank_all, rank_scores
from forwhy.evaluate.reading import Outputs, Reading
from forwhy.evaluate.report import evaluation_document
from forwhy.explain.base import NllResult
from forwhy.explain.loading import explainer_of
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.lightgcn import CollaborativeEncoder
from forwhy.graph.representations import CollaborativeVectors
from forwhy.progress import Progress, spinner, track
from forwhy.recipe.folder import TEXTS, WARM_TEXTS, RunFolder, write_document
from forwhy.recipe.plan import OUTPUTS, Stage
from forwhy.recipe.systems import BeatRecipe, ExplainingRecipe, XRecRecipe
from forwhy.recommend.simple import PopularityRecommender
from forwhy.text.encoder import TextEncoder, text_encoder
from forwhy.vocabulary.tokenizer import BehaviorTokenizer
from forwhy.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)

_TOGETHER = 32
"""Pairs explained between two steps of the progress bar; the texts do not depend on it."""


Behaviour = Vocabulary | CollaborativeVectors
"""What stage 1 leaves."""
Explainer = SoftExplainer[Any, Any, Any]


class Evaluation(NamedTuple):
    """What stage 3 leaves."""

    document: dict[str, Any]
    """As `evaluation_document`."""
    outputs: Outputs | None
    """The generated texts; None without an explainer or without test pairs."""
    warm: Outputs | None
    """Those of `Dataset.warm_pairs`; None without any."""


def learn(
    home: RunFolder, stage: Stage, recipe: ExplainingRecipe, dataset: Dataset, folder: Path
) -> Behaviour | Explainer:
    """What a stage before the evaluation makes; `folder` is for its checkpoints."""
    if stage == "explainer":
        return fit_explainer(recipe, dataset, home.behaviour(), folder)
    return learn_behaviour(recipe, dataset, folder)


def learn_behaviour(recipe: ExplainingRecipe, dataset: Dataset, folder: Path) -> Behaviour:
    """Stage 1: what stands for users and items, from training interactions.

    BEAT: behaviour tokens, from phrases too (BEAT eq. 2 to 9). XRec: graph vectors (XRec eq. 7 to 11).

    Args:
        recipe: Its sections data and, of BEAT, intents, encoder and vocabulary, of XRec collaborative are read.
        dataset: What to learn from.
        folder: For checkpoints; a killed stage goes on from it.
    """
    if recipe.data.protocol == "as-published":
        log.warning("protocol as-published: held-out pairs are training edges: %s", leaks(dataset))
    if isinstance(recipe, XRecRecipe):
        return CollaborativeEncoder(recipe.collaborative).fit(dataset, folder, recipe.data.graph)
    recipe = cast("BeatRecipe", recipe)
    phrases: dict[str, dict[int, list[str]]] = {
        side: entity_phrases(dataset, side, recipe.intents) for side in SIDES
    }
    encoder = text_encoder(recipe.encoder.name)
    return BehaviorTokenizer(recipe.vocabulary).fit(dataset, phrases, encoder, folder, recipe.data.graph)


def fit_explainer(
    recipe: ExplainingRecipe, dataset: Dataset, behaviour: Behaviour, folder: Path
) -> Explainer:
    """Stage 2: a frozen language model learns to read what stage 1 learned; `folder` as above."""
    return explainer_of(recipe.explainer).fit(dataset, behaviour, folder)


def evaluate(home: RunFolder, recipe: ExplainingRecipe, dataset: Dataset) -> None:
    """Writes the texts, then the document that says the stage is done."""
    explainer = home.explainer() if len(dataset.pairs("train")) else None
    evaluation = evaluate_run(recipe, dataset, home.behaviour(), explainer)
    for name, outputs in {TEXTS: evaluation.outputs, WARM_TEXTS: evaluation.warm}.items():
        if outputs is None:
            (home.path / name).unlink(missing_ok=True)
        else:
            outputs.save(home.path / name)
    write_document(home.path / OUTPUTS["evaluation"], evaluation.document)


def evaluate_run(
    recipe: ExplainingRecipe, dataset: Dataset, behaviour: Behaviour, explainer: Explainer | None
) -> Evaluation:
    """Stage 3: every number on test pairs, beside its controls; see `forwhy.evaluate.report` for the keys.

    Ranking of the representations, health of the books and whether held-out texts reached the macro tokens
    (BEAT), generated texts, information gain. What the dataset has no test pairs for is null, and so is all
    text without an explainer.
    """
    encoder = text_encoder(recipe.encoder.name)
    pairs = _drawn_pairs(recipe, dataset.pairs("test"), explainer)
    tested = explainer is not None and len(pairs) > 1
    outputs = _outputs(recipe, dataset, explainer, pairs) if tested and explainer else None
    warm = _warm(recipe, dataset, explainer) if tested and explainer else None
    text = _texts(recipe, dataset, outputs, encoder) if outputs else None
    document = evaluation_document(
        ranking=rank_behaviour(recipe, dataset, behaviour),
        baselines=_baselines(recipe, dataset),
        health=behaviour.health() if isinstance(behaviour, Vocabulary) else None,
        retrieval=_retrieval(dataset, behaviour, encoder),
        text=text,
        gain=_gain(recipe, explainer, pairs) if tested and explainer else None,
        groups=_groups(dataset, outputs, text, warm, encoder) if outputs and text else None,
        protocol=_protocol(recipe, dataset, behaviour, explainer, pairs),
    )
    return Evaluation(document, outputs, warm)


def rank_behaviour(recipe: ExplainingRecipe, dataset: Dataset, behaviour: Behaviour) -> RankingResult | None:
    """Full ranking of the representations on test interactions; None without any."""
    test = dataset.edges("test")
    if not len(test):
        return None
    users, items = behaviour.representation("user"), behaviour.representation("item")
    with spinner("ranking the catalogue"):
        return rank_all(users, items, dataset.edges("train", "as-published"), test, recipe.evaluation.ks)


def _baselines(recipe: ExplainingRecipe, dataset: Dataset) -> dict[str, RankingResult]:
    """Popularity on the same graph, ranked the same way."""
    test, seen = dataset.edges("test"), dataset.edges("train", "as-published")
    if not len(test):
        return {}
    popularity = PopularityRecommender.fit(dataset, recipe.data.graph)
    sizes = len(dataset.users), len(dataset.items)
    return {"popularity": rank_scores(popularity.scores, *sizes, seen, test, recipe.evaluation.ks)}


def _drawn_pairs(recipe: ExplainingRecipe, pairs: Pairs, explainer: Explainer | None) -> Pairs:
    """As many as are measured, of those with both sides known from training: there is something to read."""
    if explainer is not None:
        pairs = pairs.select(np.flatnonzero(explainer.supported(pairs)))
    order = np.random.default_rng(recipe.evaluation.seed).permutation(len(pairs))
    return pairs.select(order[: max(recipe.evaluation.pairs, recipe.evaluation.generate)])


def _retrieval(dataset: Dataset, behaviour: Behaviour, encoder: TextEncoder) -> dict[str, object] | None:
    """Rank of each test pair's own text for its macro tokens (BEAT eq. 6) among all test texts."""
    pairs = dataset.pairs("test")
    if len(pairs) < 2 or not isinstance(behaviour, Vocabulary) or "user_macro" not in behaviour.codebooks:
        return None
    return text_retrieval(behaviour.fused_text(pairs.users, pairs.items), encoder.encode(pairs.texts))


def _outputs(
    recipe: ExplainingRecipe, dataset: Dataset, explainer: Explainer, pairs: Pairs
) -> Outputs | None:
    """A text for each of the first `generate` pairs."""
    chosen = pairs.select(np.arange(min(recipe.evaluation.generate, len(pairs))))
    if len(chosen) < 2:
        return None
    texts: list[str] = []
    for start in track(range(0, len(chosen), _TOGETHER), "explaining test pairs"):
        rows = np.arange(start, min(start + _TOGETHER, len(chosen)))
        texts += [explanation.text for explanation in explainer.explain(chosen.select(rows))]
    outputs = Outputs(dataset.external(chosen), texts, chosen.texts)
    return outputs.take(outputs.order())


def _warm(recipe: ExplainingRecipe, dataset: Dataset, explainer: Explainer) -> Outputs | None:
    """As many texts of test pairs in which nobody lost text, where a protocol set such pairs aside."""
    pairs = _drawn_pairs(recipe, dataset.warm_pairs(), explainer)
    return _outputs(recipe, dataset, explainer, pairs)


def _texts(recipe: ExplainingRecipe, dataset: Dataset, outputs: Outputs, encoder: TextEncoder) -> TextTable:
    """Generated texts against references, and the controls on the same pairs."""
    texts = match("this run", Reading.of(outputs), dataset)
    return known_table(texts, dataset, encoder, recipe.evaluation.seed)


def _groups(
    dataset: Dataset, outputs: Outputs, text: TextTable, warm: Outputs | None, encoder: TextEncoder
) -> dict[str, TextGroup]:
    """Texts by sparsity of the user and, where a protocol set warm pairs aside, the texts of those."""
    groups = text_groups(dataset, outputs, text.method)
    if warm is not None:
        groups["warm"] = warm_group(dataset, warm, encoder)
    return groups


def _gain(recipe: ExplainingRecipe, explainer: Explainer, pairs: Pairs) -> Gain | None:
    """NLL under the right tokens and under other pairs' tokens; None where texts cannot be scored."""
    if not explainer.capabilities.scores:
        return None
    chosen = pairs.select(np.arange(min(recipe.evaluation.pairs, len(pairs))))
    with Progress("scoring test pairs, right and shuffled", 4) as progress:
        return measure_gain(_Counted(explainer, progress), chosen, recipe.evaluation.seed)


class _Counted:
    """A scorer that counts its passes over the pairs."""

    def __init__(self, explainer: Explainer, progress: Progress) -> None:
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


def _protocol(
    recipe: ExplainingRecipe,
    dataset: Dataset,
    behaviour: Behaviour,
    explainer: Explainer | None,
    pairs: Pairs,
) -> dict[str, object]:
    """What the numbers are about."""
    intents = recipe.intents if isinstance(recipe, BeatRecipe) else None
    prompts = None if explainer is None else explainer.prompt_length(pairs)
    return {
        "recipe": recipe.name,
        "system": recipe.system,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "split": dataset.source.get("split"),
        "explanations": {split: len(dataset.pairs(split)) for split in SPLITS},
        "protocol": recipe.data.protocol,
        "graph": recipe.data.graph,
        "zero_shot": dataset.source.get("protocol"),
        "leaks": leaks(dataset),
        "interaction_texts_read": intents is not None
        and intents.training_explanations
        and not intents.clear_of_interactions,
        "profiles_read": intents is not None and intents.source == "profiles",
        "profiles_shown": recipe.explainer.shows_profiles,
        "masked": "all training interactions, also those taken out of the graph",
        "training_edges": len(behaviour.seen),
        "prompt_tokens": None if prompts is None else round(prompts, 1),
        "model": explainer.config.model if explainer is not None else None,
        "encoder": recipe.encoder.name,
        "seed": recipe.seed,
        "evaluation_seed": recipe.evaluation.seed,
    }
