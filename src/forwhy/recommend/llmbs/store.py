"""A fitted LLM-BS as a folder: all weights, the index, and the tokenizer where there is text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

import forwhy.artifact as artifact
from forwhy.graph.known import id_tables, read_ids
from forwhy.recommend.generative.recommender import (
    index_part,
    metric_rows,
    own_index,
    tensors_of,
    train_histories,
)
from forwhy.recommend.llmbs.config import LlmBsConfig
from forwhy.recommend.llmbs.network import LlmBsNetwork
from forwhy.recommend.llmbs.recommender import LlmBsRecommender
from forwhy.recommend.llmbs.tokens import Tokens, bare_tokens, read_tokens
from forwhy.recommend.llmbs.training import Annealing
from forwhy.training import resolve_device
from forwhy.training.checkpoint import kept_generators
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["KIND", "load", "save"]

KIND = "llm-bs"
LM, ADAPTER = "lm.", "adapter."


def save(folder: Path, fitted: LlmBsRecommender) -> None:
    """Write the artifact: the first stage's weights, and the adapter's apart from them."""
    tensors = {f"{LM}{name}": value for name, value in _weights(fitted).items()}
    if fitted.adapter is not None:
        state = fitted.adapter.trained.state_dict()
        tensors |= {f"{ADAPTER}{name}": value.cpu().numpy() for name, value in state.items()}
    tensors |= {"train.items": fitted.train.items, "train.offsets": fitted.train.offsets}
    config = {
        "options": fitted.config.model_dump(mode="json"),
        "model": fitted.network.lm.config.to_dict(),
        "index": fitted.index.fingerprint,
        "adapter": fitted.adapter is not None,
        "base": fitted.base,
        "metrics": fitted.metrics,
        "repeat_gain": fitted.repeat_gain,
    }
    tables = id_tables(fitted.users, fitted.items, fitted.titles)
    with index_part(fitted.index) as parts:
        if fitted.tokenizer is not None:
            parts["tokenizer"] = parts["index"].with_name("tokenizer")
            fitted.tokenizer.save_pretrained(str(parts["tokenizer"]))
        artifact.save(folder, KIND, config, tensors, tables, _card(fitted), parts)


def load(folder: Path, device: str) -> LlmBsRecommender:
    """Read the artifact; see `LlmBsRecommender.from_pretrained`."""
    stored = artifact.load(folder, KIND)
    config = LlmBsConfig.model_validate(stored.config["options"])
    index = own_index(folder, stored)
    tokens, tokenizer = _tokens(stored, index, config)
    shape = dict(stored.config["model"])
    with kept_generators():
        lm = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(shape.pop("model_type"), **shape), dtype=torch.float32
        )
    lm.load_state_dict(_with_twins(tensors_of(stored, LM), lm))
    lm.to(resolve_device(device))
    network = LlmBsNetwork(lm, tokens, config.softmax)
    adapter = _adapter(stored, network, config) if stored.config["adapter"] else None
    users, items, titles = read_ids(stored.tables)
    return LlmBsRecommender(
        users,
        items,
        titles,
        train_histories(stored),
        index,
        network,
        config,
        tokenizer=tokenizer,
        adapter=adapter,
        metrics=stored.config["metrics"],
        base=stored.config["base"],
        repeat_gain=stored.config["repeat_gain"],
    )


def _weights(fitted: LlmBsRecommender) -> dict[str, NDArray[Any]]:
    """The first stage's weights under the model's own names, each table once."""
    found, seen = {}, set()
    for name, value in fitted.network.lm.state_dict().items():
        plain = name.replace(".base_layer.", ".").replace(".parametrizations.weight.original", ".weight")
        is_adapter = ".lora_" in name or ".parametrizations.weight.0." in name
        if not is_adapter and value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            found[plain] = value.detach().cpu().numpy()
    return found


def _with_twins(state: dict[str, torch.Tensor], lm: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Tables that the model holds under two names (an embedding that is also the head) were saved once."""
    own = lm.state_dict()
    held = {own[name].data_ptr(): name for name in state if name in own}
    twins = {name: held.get(value.data_ptr()) for name, value in own.items() if name not in state}
    return state | {name: state[twin] for name, twin in twins.items() if twin is not None}


def _tokens(
    stored: artifact.Artifact, index: ItemIndex, config: LlmBsConfig
) -> tuple[Tokens, PreTrainedTokenizerBase | None]:
    folder = stored.part("tokenizer")
    if not folder.is_dir():
        return bare_tokens(index), None
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    return read_tokens(tokenizer, index, config.spoken_instruction), tokenizer


def _adapter(stored: artifact.Artifact, network: LlmBsNetwork, config: LlmBsConfig) -> Annealing:
    with kept_generators():
        adapter = Annealing(network.lm, network.tokens, config.annealing)
    adapter.trained.load_state_dict(tensors_of(stored, ADAPTER))
    return adapter


def _card(fitted: LlmBsRecommender) -> str:
    base = fitted.base
    origin = (
        "The model was trained from random weights."
        if not base
        else f"The weights are those of {base['id']} (revision {base['revision']}), all of them trained further. They "
        f"fall under its licence: {base.get('licence', 'see the card of the base model')}."
    )
    return (
        "---\nlibrary_name: forwhy\ntags: [recommendation, generative-recommendation]\n---\n# LLM-BS\n\n"
        f"Writes the codes of the next of {len(fitted.items):,} items after the last {fitted.config.window} of a "
        "history. Load with `forwhy.recommend.llmbs.LlmBsRecommender.from_pretrained(folder)`.\n\n"
        f"{origin}\n\n| stage | measured in training | |\n|---|---|---|\n{metric_rows(fitted.metrics)}\n"
    )
