"""Small catalogues and histories, recommenders that train in a moment, and the plain ways to decode a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.recommend.networks import SequentialOptions, kind
from forwhy.recommend.options import LlmBsConfig, TigerConfig
from forwhy.recommend.sequential import NextItemRecommender
from forwhy.vocabulary.index import IndexConfig, ItemIndex
from forwhy.vocabulary.indexing import build_index


def dataset(histories: Sequence[Sequence[int]], titles: Sequence[str] = ()) -> Dataset:
    """Items i0, i1, …; the last item of a history of three or more is test, the one before valid."""
    rows = [
        (f"u{user}", f"i{item:02}", time, _split(time, len(history)))
        for user, history in enumerate(histories)
        for time, item in enumerate(history)
    ]
    schema = ["user_id", "item_id", "timestamp", "split"]
    tables = {"interactions": pl.DataFrame(rows, schema=schema, orient="row")}
    if titles:
        names = [f"i{number:02}" for number in range(len(titles))]
        tables["items"] = pl.DataFrame({"item_id": names, "title": list(titles)})
    return make_dataset("small", tables, duplicates="keep")


def index_of(data: Dataset, width: int = 4, depth: int = 2, seed: int = 0) -> ItemIndex:
    """Random codes."""
    return build_index(data.items, IndexConfig(source="random", width=width, depth=depth, seed=seed))


def two_names(data: Dataset, width: int = 4) -> ItemIndex:
    """Two halves, each of which names every item alone."""
    draws = np.random.default_rng(5)
    vectors = draws.normal(size=(2, len(data.items), 4))
    return build_index(data.items, IndexConfig(source="unit", width=width), *vectors)


def ring(users: int, items: int, length: int) -> list[list[int]]:
    """Histories in which item i + 1 follows item i."""
    starts = np.random.default_rng(0).integers(0, items, users)
    return [[(int(start) + step) % items for step in range(length)] for start in starts]


def tiny_llmbs(**changes: Any) -> LlmBsConfig:  # noqa: ANN401
    """Options of a decoder that trains in a moment."""
    backbone = {"layers": 1, "dims": 32, "heads": 2, "feedforward": 64, "dropout": 0.0, "text_tokens": 300}
    given: dict[str, Any] = {
        "backbone": backbone | changes.pop("backbone", {}),
        "contrast": {"semantic": 0.0, "behaviour": 0.0},
        "epochs": 1, "patience": 0, "batch_size": 16, "learning_rate": 1e-2, "beam": 5, "device": "cpu",
    }  # fmt: skip
    return LlmBsConfig.model_validate(given | changes)


def tiny_tiger(**changes: Any) -> TigerConfig:  # noqa: ANN401
    """Options of a network that trains in a moment."""
    given: dict[str, Any] = {
        "layers": 1, "dims": 32, "heads": 2, "head_dims": 12, "feedforward": 48, "dropout": 0.0,
        "targets": 0, "epochs": 1, "patience": 0, "batch_size": 32, "learning_rate": 1e-2, "beam": 5, "device": "cpu",
    }  # fmt: skip
    return TigerConfig.model_validate(given | changes)


def _split(time: int, length: int) -> str:
    if length < 3 or time < length - 2:
        return "train"
    return "valid" if time == length - 2 else "test"


# --- language models of several families, and the plain ways to decode them

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


# --- a chain: every item has one successor; whoever reads order is right always, popularity one time in twelve

ITEMS = 12
SMALL_NETWORK = {
    "dims": 16, "window": 6, "dropout": 0.1, "learning_rate": 1e-2, "batch_size": 32, "epochs": 40, "patience": 5,
    "device": "cpu",
}  # fmt: skip


def histories_dataset(histories: dict[str, list[int]], names: int = ITEMS) -> Dataset:
    """Leave-one-out as `import_lcrec` does; items are called i00, i01, …"""
    rows = [
        (user, f"i{item:02d}", place, _split_from_the_end(len(items) - place, len(items)))
        for user, items in histories.items()
        for place, item in enumerate(items)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    brands = [f"b{item % 5}" if item % 4 else "" for item in range(names)]
    items = pl.DataFrame({"item_id": [f"i{item:02d}" for item in range(names)], "brand": brands})
    return make_dataset("chain", {"interactions": frame, "items": items}, {}, duplicates="keep")


def _split_from_the_end(left: int, length: int) -> str:
    return {1: "test", 2: "valid"}.get(left, "train") if length >= 3 else "train"


@pytest.fixture(scope="session")
def make() -> Callable[[dict[str, list[int]]], Dataset]:
    return histories_dataset


@pytest.fixture(scope="session")
def chain() -> Dataset:
    """80 people walk along the chain for 5 to 9 items; two took one and two items."""
    generator = np.random.default_rng(0)
    order = generator.permutation(ITEMS)
    successor = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    people: dict[str, list[int]] = {"one": [3], "two": [4, successor[4]]}
    for person in range(80):
        walk = [int(generator.integers(ITEMS))]
        while len(walk) < 5 + person % 5:
            walk.append(successor[walk[-1]])
        people[f"p{person:02d}"] = walk
    return histories_dataset(people)


NETWORKS: dict[str, dict[str, Any]] = {
    "sasrec": {},
    "sasrec-pre": {"norm": "pre"},
    "sasrec-few": {"negatives": 2, "batch_size": 4},
    "gru4rec": {"hidden": 24},
    "din": {"attention": 8, "hidden": 16, "negatives": 8},
    "din-inner": {"attention": 8, "negatives": 8, "head": "inner"},
    "caser": {"order": 3, "targets": 1},
    "hgn": {"order": 3},
    "bert4rec": {"epochs": 150, "patience": 0, "last_hidden": 1.0},
    "fdsa": {},
    "s3-rec": {"epochs": 60, "pretraining": 0.34, "patience": 0},
}


@pytest.fixture(scope="session", params=NETWORKS)
def config(request: pytest.FixtureRequest) -> SequentialOptions:
    name = request.param
    network = name if name == "s3-rec" else name.partition("-")[0]
    return kind(network).model_validate({"network": network} | SMALL_NETWORK | NETWORKS[name])


@pytest.fixture(scope="session")
def learnt(
    chain: Dataset, config: SequentialOptions, tmp_path_factory: pytest.TempPathFactory
) -> NextItemRecommender:
    folder: Path = tmp_path_factory.mktemp("learnt")
    return NextItemRecommender.fit(chain, folder, config)
