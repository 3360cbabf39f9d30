"""All prefixes in one pass: the loss and the gradients of one pass each."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from forwhy.data.histories import Histories
from forwhy.recommend.llmbs.network import Contrast, LlmBsNetwork, Tokens, bare_tokens, cut, info_nce
from forwhy.recommend.options import ContrastConfig
from forwhy.vocabulary.index import ItemIndex

from ..conftest import dataset, index_of, two_names
from .conftest import FAMILIES, language_model

ITEMS, WINDOW = 9, 3
HISTORIES = [[3, 1, 4, 1, 5, 8, 2, 6], [5, 3], [7], [0, 1, 2, 3, 4]]
INDEX = index_of(dataset([list(range(ITEMS))]))
BARE = bare_tokens(INDEX)
TOKENS = Tokens(BARE.items_NL, BARE.levels, (0, 1, 0), BARE.con, BARE.end)  # a prompt of three tokens
VECTORS = {"semantic": np.random.default_rng(1).normal(size=(ITEMS, 6))}


def examples(window: int, stride: int) -> list[tuple[list[int], int]]:
    """(items read, target) of every training item, one by one."""
    found = []
    for history in HISTORIES:
        for place, target in enumerate(history):
            # Beyond the window targets come in groups that share the beginning of the last one's window.
            group = max(place - window - 1, 0) // stride
            last = min(window + 1 + (group + 1) * stride, len(history)) - 1 if place > window else window
            found.append((history[max(0, last - window) : place], target))
    return found


def one_by_one(network: LlmBsNetwork, window: int, stride: int) -> Tensor:
    """Mean loss of all codes, each target in a row of its own, by the model's plain logits."""
    losses = []
    for context, target in examples(window, stride):
        prompt = TOKENS.history(context)
        codes = TOKENS.items_NL[target]
        logits = network.lm(input_ids=torch.tensor([[*prompt, *codes.tolist()]])).logits[0].float()
        for level, code in enumerate(codes):
            row = logits[len(prompt) - 1 + level]
            ids = TOKENS.levels[level]
            if network.softmax == "level":
                losses.append(F.cross_entropy(row[ids], code - ids[0]))
            else:
                losses.append(F.cross_entropy(row, code))
    return torch.stack(losses).mean()


def network_of(
    family: str, softmax: str, contrast: Contrast | None = None, tokens: Tokens = TOKENS, cut: int = 0
) -> LlmBsNetwork:
    return LlmBsNetwork(language_model(family, tokens.size), tokens, softmax, contrast, cut)  # type: ignore[arg-type]


def with_prompt(index: ItemIndex) -> Tokens:
    bare = bare_tokens(index)
    return Tokens(bare.items_NL, bare.levels, (0, 1, 0), bare.con, bare.end)


def gradients(network: LlmBsNetwork, loss: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in network.lm.named_parameters() if p.grad is not None}


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=6), st.integers(1, 8), st.data())
def test_every_training_item_is_a_target_once_after_its_window(
    lengths: list[int], window: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, window))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    train = Histories(np.arange(starts[-1]), starts)  # every item is its own place
    pieces = cut(train, window, stride)
    context = {}
    for piece in range(len(pieces)):
        row, skipped = pieces.histories[piece], int(pieces.context[piece])
        assert len(row) <= window + 1
        assert np.all(np.diff(row) == 1), "neighbours in a history stay neighbours"
        for place in range(skipped, len(row)):
            assert row[place] not in context
            context[int(row[place])] = place
    for user in range(len(lengths)):
        for place in range(lengths[user]):
            read = context.pop(int(starts[user]) + place)
            assert min(place, window - stride + 1) <= read <= min(place, window)
            if stride == 1:
                assert read == min(place, window)
    assert not context


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(("softmax", "stride"), [("level", 1), ("vocab", 2)])
def test_packed_loss_and_gradients_equal_those_one_by_one(family: str, softmax: str, stride: int) -> None:
    network = network_of(family, softmax)
    pieces = cut(Histories.of(HISTORIES), WINDOW, stride)
    packed = network(pieces.take(np.arange(len(pieces))[::-1].copy()))["loss"]
    plain = one_by_one(network, WINDOW, stride)
    torch.testing.assert_close(packed, plain, rtol=1e-5, atol=1e-6)
    expected = gradients(network, plain)
    found = gradients(network, packed)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_con_changes_no_code_and_reads_its_own_target_only(family: str) -> None:
    contrast = Contrast(32, ITEMS, VECTORS, ContrastConfig(temperature=0.5))
    assert contrast.weights == {"semantic": 0.1}, "a source without vectors is left out"
    with_con, without = network_of(family, "vocab", contrast), network_of(family, "vocab")
    pieces = cut(Histories.of(HISTORIES), WINDOW, 1)
    batch, negatives = pieces.take(np.arange(len(pieces))), torch.arange(ITEMS)
    found = with_con(batch, negatives)
    torch.testing.assert_close(found["generation"], without(batch)["generation"], rtol=1e-6, atol=1e-6)
    states, targets = [], []
    for context, target in examples(WINDOW, 1):
        ids = [*TOKENS.history([*context, target]), TOKENS.con]
        states.append(without.lm.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1])
        targets.append(target)
    expected = contrast(torch.stack(states), torch.tensor(targets), negatives)["contrast"]
    torch.testing.assert_close(found["loss"] - found["generation"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize(("width", "contrast"), [(4, False), (2, True), (ITEMS, False)])
def test_each_half_is_learnt_as_if_it_followed_the_history(family: str, width: int, contrast: bool) -> None:
    """Of two levels, four and one; with a CON token too, whose state is the same as without halves."""
    index = two_names(dataset([list(range(ITEMS))]), width)
    tokens, half = with_prompt(index), len(index.sizes) // 2
    con = Contrast(32, ITEMS, VECTORS, ContrastConfig(temperature=0.5)) if contrast else None
    network = network_of(family, "level", con, tokens, half)
    pieces = cut(Histories.of(HISTORIES), WINDOW, 1)
    negatives = torch.arange(ITEMS)
    found = network(pieces.take(np.arange(len(pieces))), negatives)
    losses = []
    for context, target in examples(WINDOW, 1):
        prompt, codes = tokens.history(context), tokens.items_NL[target]
        for first in (0, half):
            written = codes[first : first + half]
            logits = network.lm(input_ids=torch.tensor([[*prompt, *written.tolist()]])).logits[0].float()
            for place, code in enumerate(written):
                ids = tokens.levels[first + place]
                losses.append(F.cross_entropy(logits[len(prompt) - 1 + place][ids], code - ids[0]))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(found["generation"], expected.detach(), rtol=1e-5, atol=1e-6)
    if con is not None:
        joined = network_of(family, "level", con, tokens)(pieces.take(np.arange(len(pieces))), negatives)
        torch.testing.assert_close(found["semantic"], joined["semantic"], rtol=1e-5, atol=1e-6)
        return
    wanted, packed = gradients(network, expected), gradients(network, found["loss"])
    for name, gradient in wanted.items():
        torch.testing.assert_close(packed[name], gradient, rtol=1e-3, atol=1e-5)


def test_contrast_is_cross_entropy_over_the_target_and_the_other_items() -> None:
    rng = np.random.default_rng(0)
    z_NE = F.normalize(torch.tensor(rng.normal(size=(7, 4))), dim=1)
    found_TE = torch.tensor(rng.normal(size=(3, 4)))
    targets, others = torch.tensor([2, 5, 2]), torch.tensor([0, 2, 6])
    losses = []
    for row, target in zip(found_TE, targets.tolist(), strict=True):
        candidates = [target, *(item for item in others.tolist() if item != target)]
        logits = torch.stack([F.cosine_similarity(row, z_NE[item], dim=0) for item in candidates]) / 0.1
        losses.append(F.cross_entropy(logits, torch.tensor(0)))
    found = info_nce(found_TE, z_NE, targets, others, 0.1)
    torch.testing.assert_close(found, torch.stack(losses).mean())
    alone = info_nce(found_TE[:1], z_NE, targets[:1], torch.tensor([2]), 0.1)
    assert float(alone) == pytest.approx(0.0, abs=1e-12), "the positive is no negative"


def test_targets_of_the_batch_join_the_negatives_where_asked_for() -> None:
    states = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    alone = Contrast(32, ITEMS, VECTORS, ContrastConfig())
    joined = Contrast(32, ITEMS, VECTORS, ContrastConfig(in_batch=True))
    joined.load_state_dict(alone.state_dict())
    targets = torch.tensor([1, 2])
    same = alone(states, targets, torch.tensor([1, 2, 5]))["semantic"]
    torch.testing.assert_close(joined(states, targets, torch.tensor([5]))["semantic"], same)
    assert float(alone(states, targets, torch.tensor([5]))["semantic"]) < float(same)
