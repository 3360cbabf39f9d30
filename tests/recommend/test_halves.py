"""Halves decoded in parallel against reading each half of every item plainly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from forwhy.errors import UserError
from forwhy.recommend.causal import TreeModel
from forwhy.recommend.halves import NEVER_LESS, HalvesDecoder, likeliest_share
from forwhy.recommend.trie import CodeTrie

from .conftest import catalogue, plain_scores, prompts, token_ids

SIZES = [[6, 7, 8], [9, 8]]
HALVES = [catalogue(50, sizes, seed) for seed, sizes in enumerate(SIZES)]
IDS = token_ids([*SIZES[0], *SIZES[1]])
SHARE, USERS = 0.3, prompts(8, 3, 5, 9, 1)


def decoder(
    model: PreTrainedModel, items: int = 50, normalise: str = "level", beam: int = 100
) -> HalvesDecoder:
    tries = [CodeTrie.from_codes(half[:items], sizes) for half, sizes in zip(HALVES, SIZES, strict=True)]
    return HalvesDecoder(TreeModel(model), tries, IDS, normalise, beam, SHARE)  # type: ignore[arg-type]


def plainly(model: PreTrainedModel, prompt: list[int], items: int, normalise: str) -> Tensor:
    """[N] by definition: the mixture of two probabilities, each read after the prompt by itself."""
    ids = IDS[:3], IDS[3:]
    first, second = (
        plain_scores(model, prompt, half[:items], own, normalise).double().exp()
        for half, own in zip(HALVES, ids, strict=True)
    )
    return ((1 - SHARE) * first + SHARE * second).log().float()


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@pytest.mark.parametrize("normalise", ["level", "vocab"])
@pytest.mark.parametrize("items", [1, 3, 50])
def test_lists_and_exact_scores_are_brute_force(
    model_of: Callable[[str], PreTrainedModel], family: str, normalise: str, items: int
) -> None:
    model = model_of(family)
    made = decoder(model, items, normalise)
    found, exact = made.search(USERS), made.exact(USERS)
    for user, prompt in enumerate(USERS):
        plain = plainly(model, prompt, items, normalise)
        torch.testing.assert_close(exact[user], plain, atol=1e-4, rtol=0)
        assert sorted(found.items[user].tolist()) == list(range(items)), "each once"
        torch.testing.assert_close(found.scores[user], plain.sort(descending=True).values, atol=1e-4, rtol=0)
        torch.testing.assert_close(plain[found.items[user]], found.scores[user], atol=1e-4, rtol=0)


def test_a_narrow_beam_lists_the_best_of_what_either_half_finds(
    model_of: Callable[[str], PreTrainedModel],
) -> None:
    model, beam = model_of("llama"), 5
    made = decoder(model, beam=beam)
    found, exact = made.search(USERS, 4), made.exact(USERS)
    for user in range(len(USERS)):
        either = {item for part in made.parts for item in part.search([USERS[user]]).items[0].tolist()}
        assert beam < len(either) <= 2 * beam
        best = sorted(either, key=lambda item: -float(exact[user][item]))[:4]
        assert found.items[user].tolist() == best
        torch.testing.assert_close(found.scores[user], exact[user][best], atol=1e-4, rtol=0)


def test_the_company_of_a_prompt_changes_nothing(model_of: Callable[[str], PreTrainedModel]) -> None:
    users = prompts(*range(1, 17))
    made = decoder(model_of("llama"), beam=6)
    together = made.search(users, 6)
    for user, prompt in enumerate(users):
        alone = made.search([prompt], 6)
        assert torch.equal(alone.items[0], together.items[user])
        torch.testing.assert_close(alone.scores[0], together.scores[user], atol=1e-5, rtol=0)
    targets = torch.arange(16)
    halves = made.of_targets(users, targets)
    fused = torch.logaddexp(halves[0] + np.log(1 - SHARE), halves[1] + np.log(SHARE))
    torch.testing.assert_close(fused, made.exact(users)[torch.arange(16), targets], atol=1e-4, rtol=0)


def test_legal_is_refused(model_of: Callable[[str], PreTrainedModel]) -> None:
    with pytest.raises(UserError, match="legal|normalise"):
        decoder(model_of("llama"), normalise="legal")


def test_the_share_is_the_likeliest() -> None:
    draws = np.random.default_rng(0)
    first, second = np.log(draws.uniform(size=(2, 300)) ** [[3], [1]]) - 900  # far below what exp holds
    grid = np.linspace(NEVER_LESS, 1 - NEVER_LESS, 981)
    sums = [np.logaddexp(first + np.log(1 - w), second + np.log(w)).sum() for w in grid]
    assert likeliest_share(first, second) == pytest.approx(grid[int(np.argmax(sums))], abs=1e-3)
    assert likeliest_share(first, first - 5) == pytest.approx(NEVER_LESS, abs=1e-3)
    assert likeliest_share(first[:0], first[:0]) == 0.5
