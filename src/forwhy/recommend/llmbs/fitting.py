"""Fitting: the model with its tokens, both stages of training, and what comes out of them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from forwhy.data.dataset import Dataset
from forwhy.data.sequences import Sequences
from forwhy.models import ALIASES, load_causal_lm
from forwhy.recommend.decoding import CodeTrie
from forwhy.recommend.generative.recommender import check_data, loop
from forwhy.recommend.llmbs.config import LlmBsConfig
from forwhy.recommend.llmbs.network import Contrast, LlmBsNetwork, scratch_model
from forwhy.recommend.llmbs.recommender import LlmBsRecommender
from forwhy.recommend.llmbs.texts import TextTasks
from forwhy.recommend.llmbs.tokens import Speech, Tokens, add_tokens, bare_tokens, extend, learn_tokenizer
from forwhy.recommend.llmbs.training import Annealing, LlmBsTask
from forwhy.training import TrainingResult, seed_everything, train
from forwhy.training.checkpoint import kept_generators
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["fit"]

Vectors = Mapping[str, NDArray[np.floating]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Start:
    """A model with an index in its vocabulary, before training."""

    lm: PreTrainedModel
    tokens: Tokens
    tokenizer: PreTrainedTokenizerBase | None
    base: Mapping[str, str]


def fit(
    dataset: Dataset,
    sequences: Sequences,
    index: ItemIndex,
    folder: Path,
    config: LlmBsConfig,
    vectors: Vectors,
) -> LlmBsRecommender:
    """See `LlmBsRecommender.fit`."""
    check_data(dataset, sequences, index)
    with kept_generators():
        seed_everything(config.seed)
        start = _start(dataset, index, config)
        contrast = _contrast(start.lm, len(index), vectors, config)
        network = LlmBsNetwork(start.lm, start.tokens, config.softmax, contrast)
    texts = _texts(dataset, sequences, start, config)
    trie = CodeTrie.from_codes(index.codes, index.sizes)
    identity = _identity(dataset, sequences, index, config, vectors)
    validates = bool(len(sequences.evaluated("valid")))
    task = LlmBsTask(network, sequences, trie, config, texts)
    options = loop(config, validates, accumulation=config.accumulation, precision=config.precision)
    result = train(task, options, folder / "full", "llm-bs", identity)
    metrics = {"full": result.summary()}
    network.contrast = None  # its part ends with this stage (section 3.4.3)
    adapter = None
    if config.annealing.epochs:
        adapter, annealed = _anneal(network, sequences, trie, config, folder, identity + "annealing")
        metrics["annealing"] = annealed.summary()
    fitted = LlmBsRecommender(
        dataset.users,
        dataset.items,
        dataset.titles(),
        sequences.train,
        index,
        network,
        config,
        tokenizer=start.tokenizer,
        adapter=adapter,
        metrics=metrics,
        base=start.base,
    )
    fitted.learn_repeats(sequences, config.validation_users, config.seed)
    return fitted


def _start(dataset: Dataset, index: ItemIndex, config: LlmBsConfig) -> _Start:
    if config.backbone.scratch:
        return _scratch(dataset, index, config)
    loaded = load_causal_lm(config.backbone.name, config.backbone.revision)
    loaded.model.requires_grad_(True)
    tokens = add_tokens(loaded.tokenizer, index, config.spoken_instruction)
    extend(loaded.model, tokens, config.seed)
    packaged = ALIASES.get(loaded.source.id)
    base = {"id": loaded.source.id, "revision": loaded.source.revision}
    licence = {"licence": packaged.licence} if packaged else {}
    return _Start(loaded.model, tokens, loaded.tokenizer, base | licence)


def _scratch(dataset: Dataset, index: ItemIndex, config: LlmBsConfig) -> _Start:
    """Without text the vocabulary is the index; with text tasks it has a tokenizer of the item texts too."""
    texts = [text for text in dataset.item_texts() if text.strip()]
    if not (config.tasks.any and texts):
        tokens = bare_tokens(index)
        return _Start(scratch_model(config.backbone, tokens.size), tokens, None, {})
    tokenizer = learn_tokenizer(texts, config.backbone.text_tokens)
    tokens = add_tokens(tokenizer, index, config.spoken_instruction)
    return _Start(scratch_model(config.backbone, tokens.size), tokens, tokenizer, {})


def _texts(dataset: Dataset, sequences: Sequences, start: _Start, config: LlmBsConfig) -> TextTasks | None:
    if not config.tasks.any:
        return None
    if not any(text.strip() for text in dataset.item_texts()):
        log.warning("data set '%s': no item has text; only the sequential task is trained", dataset.name)
        return None
    assert start.tokenizer is not None
    return TextTasks(
        dataset,
        sequences.train,
        start.tokens,
        Speech(start.tokenizer),
        config.tasks,
        config.window,
        config.seed,
    )


def _contrast(lm: PreTrainedModel, items: int, vectors: Vectors, config: LlmBsConfig) -> Contrast | None:
    """None where no source has both a weight and vectors."""
    missing = sorted(config.contrast.weights.keys() - vectors.keys())
    if missing:
        log.info("contrast: no %s vectors were given; left out", " and no ".join(missing))
    if not config.contrast.weights.keys() & vectors.keys():
        return None
    return Contrast(lm.get_input_embeddings().weight.shape[1], items, vectors, config.contrast)


def _anneal(
    network: LlmBsNetwork,
    sequences: Sequences,
    trie: CodeTrie,
    config: LlmBsConfig,
    folder: Path,
    identity: str,
) -> tuple[Annealing, TrainingResult]:
    """The start counts as a state: an adapter that does not help stays no change."""
    with kept_generators():
        seed_everything(config.seed, 1)
        adapter = Annealing(network.lm, network.tokens, config.annealing)
    task = LlmBsTask(network, sequences, trie, config, adapter=adapter)
    validates = bool(len(sequences.evaluated("valid")))
    options = loop(
        config,
        validates,
        epochs=config.annealing.epochs,
        patience=0,
        accumulation=config.accumulation,
        precision=config.precision,
        evaluate_first=True,
    )
    return adapter, train(task, options, folder / "annealing", "annealing", identity)


def _identity(
    dataset: Dataset, sequences: Sequences, index: ItemIndex, config: LlmBsConfig, vectors: Vectors
) -> str:
    """What decides the result beside the loop's options."""
    digest = hashlib.sha256()
    for source in sorted(vectors):
        digest.update(source.encode() + np.ascontiguousarray(vectors[source]).tobytes())
    options = config.model_dump_json(
        exclude={"device", "checkpoint_seconds", "annealing", "beam", "normalise"}
    )
    return "\n".join(
        (dataset.fingerprint, sequences.fingerprint(), index.fingerprint, digest.hexdigest(), options)
    )
