"""With the adapter off the model talks as the first stage's does: the same weights, the same perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.perplexity import Surprise, surprise
from torch.nn.functional import cross_entropy

from forwhy.models import load_causal_lm
from forwhy.recommend.llmbs.recommender import LlmBsRecommender
from forwhy.recommend.llmbs.texts import of_itself

from ..conftest import dataset, index_of, ring
from ..conftest import tiny_llmbs as tiny

TITLES = [
    f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("balm", "comb", "soap", "oil")
]
CHAIN = dataset(ring(60, len(TITLES), 7), TITLES)
ANNEALING = {"epochs": 6, "rank": 4, "learning_rate": 1e-2}


def trained(folder: Path, annealing: dict[str, float]) -> LlmBsRecommender:
    options = tiny(tasks={"item_to_index": 1, "index_to_item": 1}, annealing=annealing)
    return LlmBsRecommender.fit(CHAIN, index_of(CHAIN), folder, options)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> LlmBsRecommender:
    """Never had an adapter."""
    return trained(tmp_path_factory.mktemp("first"), {"epochs": 0})


@pytest.fixture(scope="module")
def annealed(tmp_path_factory: pytest.TempPathFactory) -> LlmBsRecommender:
    """The same first stage, then the adapter, which has learnt something."""
    found = trained(tmp_path_factory.mktemp("annealed"), ANNEALING)
    assert found.metrics["annealing"]["best_epoch"] > 0
    return found


def talk(recommender: LlmBsRecommender) -> Surprise:
    with recommender.talking() as (model, tokenizer):
        return surprise(model, tokenizer, TITLES)


@pytest.mark.parametrize("saved", [False, True])
def test_off_is_the_model_that_never_had_an_adapter(
    first: LlmBsRecommender, annealed: LlmBsRecommender, saved: bool, tmp_path: Path
) -> None:
    if saved:
        annealed.save_pretrained(tmp_path / "model")
        annealed = LlmBsRecommender.from_pretrained(tmp_path / "model", device="cpu")
    ids = torch.arange(first.network.tokens.size)[None]
    with annealed.talking() as (model, _), torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, first.network.lm(input_ids=ids).logits)
    assert talk(annealed) == talk(first)


def test_on_is_another_model(first: LlmBsRecommender, annealed: LlmBsRecommender) -> None:
    assert annealed.tokenizer is not None
    on = surprise(annealed.network.lm, annealed.tokenizer, TITLES)
    assert abs(on.perplexity - talk(first).perplexity) > 1e-3


def perplexity(model: Any, ids_NT: torch.Tensor) -> float:  # noqa: ANN401
    with torch.no_grad():
        logits = model(input_ids=ids_NT).logits[:, :-1].transpose(1, 2)
    return float(cross_entropy(logits, ids_NT[:, 1:]).exp())


def test_a_model_that_rereads_itself_forgets_less(tiny_model: Path, tmp_path: Path) -> None:
    """Perplexity of what the base wrote and nobody learns, with the adapter off: the base's own is the least."""
    base = load_causal_lm(str(tiny_model))
    torch.manual_seed(7)
    begin = base.tokenizer.bos_token_id
    written = torch.tensor([[begin, *ids] for ids in of_itself(base.model, base.tokenizer, 24)])
    before = perplexity(base.model, written)
    ratios = {}
    for trained, plain in (("all", 0), ("all", 48), ("adapter", 48)):
        tasks = {"index_to_item": 1, "plain": plain}
        backbone = {"name": str(tiny_model), "trained": trained}
        options = tiny(backbone=backbone, tasks=tasks, epochs=6, learning_rate=2e-3)
        found = LlmBsRecommender.fit(CHAIN, index_of(CHAIN), tmp_path / f"{trained}{plain}", options)
        with found.talking() as (model, _):
            ratios[trained, plain] = perplexity(model, written) / before
    assert ratios["adapter", 48] < 1.1 < ratios["all", 0]
    assert ratios["all", 48] < ratios["all", 0]


def test_text_tasks_teach_the_items_titles(first: LlmBsRecommender) -> None:
    """An untrained model chooses among all tokens evenly."""
    assert talk(first).perplexity < 0.8 * first.network.tokens.size
