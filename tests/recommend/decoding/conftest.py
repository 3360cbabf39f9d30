"""Tiny random language models of several families, catalogues, and the plain ways to decode them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

Codes = NDArray[np.int64]
VOCABULARY = 120
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "mistral": SMALL | {"sliding_window": 5},
    "gemma2": SMALL | {"sliding_window": 5, "final_logit_softcapping": 2.0, "attn_implementation": "eager"},
    "gemma3_text": SMALL
    | {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"], "sliding_window_pattern": 2},
    "cohere": SMALL | {"logit_scale": 0.25},
    "gpt2": {
        "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
        "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2,
    },
}  # fmt: skip


def language_model(family: str, seed: int = 0, **changes: Any) -> PreTrainedModel:  # noqa: ANN401
    """A random model; weights far enough apart that scores differ."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**(FAMILIES[family] | changes))).eval()


def catalogue(items: int, sizes: Sequence[int], seed: int = 0) -> Codes:
    """Distinct random codes in random order; fewer where the space is smaller."""
    generator = np.random.default_rng(seed)
    codes = np.unique(generator.integers(0, sizes, (4 * items, len(sizes))), axis=0)
    generator.shuffle(codes)
    return codes[:items]


def ragged(items: int) -> Codes:
    """Two codes tell all items apart, three more follow from them."""
    head = catalogue(items, [8, 9], seed=3)
    tail = catalogue(items, [6, 7, 8], seed=4)[: len(head)]
    return np.hstack([head, tail])


def token_ids(sizes: Sequence[int]) -> list[Tensor]:
    """Tokens of each level, in no particular order."""
    order = torch.randperm(VOCABULARY - 3, generator=torch.Generator().manual_seed(1)) + 3
    return list(order[: sum(sizes)].split(list(sizes)))


def prompts(*lengths: int) -> list[list[int]]:
    """Random prompts, without the padding token: it says nothing, so that all first codes would tie."""
    generator = np.random.default_rng(7)
    return [generator.integers(3, VOCABULARY, length).tolist() for length in lengths]


@torch.no_grad()
def plain_scores(
    model: PreTrainedModel,
    prompt: Sequence[int],
    codes: Codes,
    ids: Sequence[Tensor],
    normalise: str = "vocab",
) -> Tensor:
    """[N] scores of all items, each read after the prompt by itself."""
    found = []
    for row in codes:
        path = [int(ids[level][code]) for level, code in enumerate(row)]
        logits = model(input_ids=torch.tensor([[*prompt, *path]])).logits[0, len(prompt) - 1 : -1].float()
        total = torch.zeros(())
        for level, token in enumerate(path):
            rivals = {
                "vocab": torch.arange(VOCABULARY),
                "level": ids[level],
                "legal": ids[level][np.unique(codes[(codes[:, :level] == row[:level]).all(axis=1), level])],
            }[normalise]
            total = total + logits[level, token] - logits[level, rivals].logsumexp(dim=0)
        found.append(total)
    return torch.stack(found)


@torch.no_grad()
def hugging_face(
    model: PreTrainedModel, prompt: Sequence[int], codes: Codes, ids: Sequence[Tensor], beam: int
) -> tuple[list[int], Tensor]:
    """Items and scores of `generate` with a dict trie."""
    root: dict[int, Any] = {}
    item_of = {}
    for item, row in enumerate(codes):
        path, node = tuple(int(ids[level][code]) for level, code in enumerate(row)), root
        for token in path:
            node = node.setdefault(token, {})
        item_of[path] = item

    def allowed(_: int, sequence: Tensor) -> list[int]:
        node = root
        for token in sequence[len(prompt) :].tolist():
            node = node[token]
        return list(node)

    inputs = torch.tensor([list(prompt)])
    out = model.generate(
        inputs, attention_mask=torch.ones_like(inputs), num_beams=beam, num_return_sequences=beam,
        max_new_tokens=codes.shape[1], prefix_allowed_tokens_fn=allowed, length_penalty=0.0, do_sample=False,
        eos_token_id=None, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    paths = [tuple(row) for row in out.sequences[:, len(prompt) :].tolist()]
    return [item_of[path] for path in paths], out.sequences_scores


@pytest.fixture(scope="session")
def model_of() -> Callable[[str], PreTrainedModel]:
    """Each family's model, made once."""
    made: dict[str, PreTrainedModel] = {}

    def get(family: str) -> PreTrainedModel:
        if family not in made:
            made[family] = language_model(family)
        return made[family]

    return get
