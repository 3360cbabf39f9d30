"""A reader put together from a config, a vocabulary and a frozen model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.cache import KeyValue
from forwhy.bridge.projectors import (
    Bridge,
    Codes,
    CollaborativeBridge,
    ExpertAdapter,
    SideProjector,
    start_ids,
)
from forwhy.bridge.prompt import Prompt
from forwhy.bridge.reader import Reader
from forwhy.columns import SIDES, Side
from forwhy.explain.config import BeatConfig, ExplainerConfig, XRecConfig
from forwhy.graph.representations import CollaborativeVectors
from forwhy.models import DType, load_causal_lm
from forwhy.training import resolve_device
from forwhy.vocabulary.vocabulary import Vocabulary

_DTYPES: Mapping[str, DType] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

Starts = Mapping[str, Sequence[int]]
"""Per book the id of the word that each code starts at; -1 for none."""


def load_backbone(config: ExplainerConfig) -> Backbone:
    """The frozen model in its own precision on this process's device.

    Raises:
        UserError: No such model, no network, or 8-bit without bitsandbytes.
    """
    dtype: DType = "int8" if config.quantization == "8bit" else _DTYPES[config.precision]
    return Backbone(load_causal_lm(config.model, config.revision, dtype, str(resolve_device(config.device))))


def word_starts(vocabulary: Vocabulary, backbone: Backbone, config: BeatConfig) -> dict[str, list[int]]:
    """Every code's start: a keyword of its gloss that is one token of the model; else its neighbour's."""
    starts = {}
    for book, codewords_KM in vocabulary.codebooks.items():
        if config.projector.start == "none":
            starts[book] = [-1] * len(codewords_KM)
        else:
            words = vocabulary.keywords(book)
            found = start_ids(words, backbone.tokenizer, config.projector.distinct_start)
            starts[book] = _filled(np.array(found), codewords_KM)
    return starts


def _filled(ids_K: NDArray[np.int64], codewords_KM: NDArray[np.float32]) -> list[int]:
    """Codes without a word take that of the nearest codeword that has one; all -1 when none has."""
    known, missing = np.flatnonzero(ids_K >= 0), np.flatnonzero(ids_K < 0)
    for code in missing if len(known) else ():
        distance = np.square(codewords_KM[known] - codewords_KM[code]).sum(axis=1)
        ids_K[code] = ids_K[known[distance.argmin()]]
    return [int(number) for number in ids_K]


def beat_reader(
    config: BeatConfig, vocabulary: Vocabulary, backbone: Backbone, starts: Starts
) -> Reader[Bridge]:
    """Projectors at their start, from `config.seed`; the caller's random generators are left as they were."""
    prompt = Prompt(backbone.tokenizer, config.prompt)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(config.seed)
        user, item = (_side(config, vocabulary, backbone, starts, side) for side in SIDES)
        task_TD, states = _task(prompt, backbone)
    bridge = Bridge(user, item, task_TD, config.prompt.order, states).to(backbone.device)
    return Reader(backbone, prompt, bridge.eval())


def xrec_reader(
    config: XRecConfig, known: CollaborativeVectors, backbone: Backbone
) -> Reader[CollaborativeBridge]:
    """Adapters at their start, from `config.seed`; the caller's random generators are left as they were.

    Raises:
        UserError: A model into which nothing can be injected.
    """
    prompt = Prompt(backbone.tokenizer, config.prompt, {"user": 1, "item": 1})
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(config.seed)
        vectors = (torch.from_numpy(known.vectors[side]) for side in SIDES)
        user, item = (
            ExpertAdapter(config.adapter, vectors_Nd, backbone.width, backbone.word_norm)
            for vectors_Nd in vectors
        )
        task_TD, states = _task(prompt, backbone)
    order, size = config.prompt.order, backbone.word_norm
    bridge = CollaborativeBridge(user, item, task_TD, order, size, states).to(backbone.device)
    injection = None if config.injection == "none" else backbone.injection(config.injection)
    return Reader(backbone, prompt, bridge.eval(), injection)


def _task(prompt: Prompt, backbone: Backbone) -> tuple[torch.Tensor, Sequence[KeyValue]]:
    """Where task tokens start [T, D], and each layer's keys and values where they are trained there too."""
    task_TD = backbone.embed(torch.tensor(prompt.task_ids, dtype=torch.long)).cpu()
    return task_TD, backbone.prefix(prompt.prefix_ids).layers if prompt.config.is_deep else ()


def _side(
    config: BeatConfig, vocabulary: Vocabulary, backbone: Backbone, starts: Starts, side: Side
) -> SideProjector:
    codes = Codes.build(vocabulary.codebooks, vocabulary.slots(side), starts)
    return SideProjector(codes, config.projector, _start_words(codes.start_C, backbone), backbone.word_norm)


def _start_words(start_C: NDArray[np.int64], backbone: Backbone) -> torch.Tensor:
    """Embeddings [C, D]; nothing where there is no word."""
    ids_C = torch.from_numpy(start_C)
    words_CD = backbone.embed(ids_C.clamp_min(0)).float().cpu()
    return words_CD * (ids_C >= 0)[:, None]
