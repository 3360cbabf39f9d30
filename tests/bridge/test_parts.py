"""SAR against a loop, the projector's promises, start words, the word cap, packed layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedTokenizerBase

from forwhy.bridge.backbone import PackedLinears
from forwhy.bridge.generation import finish, pieces
from forwhy.bridge.options import ProjectorConfig, SarConfig
from forwhy.bridge.projectors import Bridge, Codes, SideProjector, start_ids
from forwhy.explain.beat import sar_loss

# --- SAR ----------------------------------------------------------------------------------------------------


def sar_by_hand(words: Tensor, lengths: list[int], candidates: Tensor, metric: str) -> float:
    """Equations 10 and 11, pair by pair."""
    errors = []
    for row, length in enumerate(lengths):
        options = candidates if candidates.dim() == 2 else candidates[row]

        def nearest(word: Tensor, options: Tensor = options) -> Tensor:
            if metric == "cosine":
                return options[int(cosine_similarity(word[None], options).argmax())]
            return options[int((options - word).norm(dim=1).argmin())]

        for i in range(length):
            for j in range(i + 1, length):
                a, b = words[row, i], words[row, j]
                relation = cosine_similarity(nearest(a), nearest(b), dim=0)
                errors.append(float((relation - cosine_similarity(a, b, dim=0)) ** 2))
    return float(np.mean(errors))


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("per_row", [True, False])
def test_sar_is_equations_10_and_11(metric: str, per_row: bool) -> None:
    random = torch.Generator().manual_seed(0)
    words = torch.randn(3, 6, 8, generator=random)
    lengths = [6, 4, 1]
    valid = torch.arange(6)[None] < torch.tensor(lengths)[:, None]
    candidates = torch.randn(*((3,) if per_row else ()), 5, 8, generator=random).requires_grad_()
    config = SarConfig(gamma=1.0, metric=metric, pairs=0)
    loss = sar_loss(words, valid, candidates, config)
    assert float(loss.detach()) == pytest.approx(
        sar_by_hand(words, lengths, candidates.detach(), metric), abs=1e-6
    )
    loss.backward()
    assert float(candidates.grad.abs().sum()) > 0


def test_sampled_pairs_estimate_the_mean_and_are_real() -> None:
    torch.manual_seed(0)
    words, candidates = torch.randn(4, 9, 8), torch.randn(7, 8)
    valid = torch.arange(9)[None] < torch.tensor([9, 9, 9, 9])[:, None]
    exact = sar_loss(words, valid, candidates, SarConfig(pairs=0))
    drawn = sar_loss(words, valid, candidates, SarConfig(pairs=20_000))
    assert float(drawn) == pytest.approx(float(exact), rel=0.05)
    alone = sar_loss(words, torch.arange(9)[None].expand(4, -1) < 1, candidates, SarConfig(pairs=10))
    assert float(alone) == 0.0


def test_sar_is_zero_when_the_words_are_the_tokens() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(5, 8)
    valid = torch.ones(1, 5, dtype=torch.bool)
    assert float(sar_loss(tokens[None], valid, tokens, SarConfig(pairs=0))) == pytest.approx(0.0, abs=1e-10)


# --- projector ----------------------------------------------------------------------------------------------


def side(**options: object) -> SideProjector:
    random = np.random.default_rng(0)
    books = {"macro": random.normal(3, 2, (4, 6)).astype(np.float32), "micro": random.normal(size=(5, 6))}
    starts = {"macro": [1, 2, 3, 4], "micro": [5, 6, 7, 8, 9]}
    codes = Codes.build(books, ["macro", "micro", "micro"], starts)
    torch.manual_seed(0)
    start = torch.randn(9, 16)
    return SideProjector(codes, ProjectorConfig.model_validate(options), start, word_norm=2.5)


def test_training_starts_at_the_words_and_outputs_have_a_words_norm() -> None:
    made = side()
    out = made(torch.tensor([[0, 1, 4]]))
    expected = made.start_CD[[0, 4 + 1, 4 + 4]]
    torch.testing.assert_close(out[0], 2.5 * expected / expected.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(made.every().norm(dim=-1), torch.full((9,), 2.5))


def test_all_codes_are_those_that_slots_read() -> None:
    made = side(slot_embedding=False, zero_last=False, code_offsets=True)
    every = made.every()
    torch.testing.assert_close(made(torch.tensor([[3, 2, 0]]))[0], every[[3, 4 + 2, 4 + 0]])
    macro = made.codewords_CM[:4]
    assert float(macro.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(macro.std(unbiased=False)) == pytest.approx(1.0, abs=1e-4)


def test_the_released_codes_projector_is_linear() -> None:
    made = side(
        kind="linear", start="none", scale="raw", zero_last=False, standardise=False, slot_embedding=False
    )
    made.start_CD.zero_()
    codes = torch.arange(4)
    out = made(torch.stack([codes, codes, codes], dim=1))[:, 0]
    first, last = made.network[0], made.network[-1]
    expected = made.codewords_CM[:4] @ (last.weight @ first.weight).T + last.weight @ first.bias + last.bias
    torch.testing.assert_close(out, expected)
    assert first.out_features == (6 + 16) // 2
    assert {name for name, _ in made.named_parameters()} == {
        f"network.{n}.{kind}" for n in (0, 1) for kind in ("weight", "bias")
    }


def test_codewords_and_words_of_the_model_are_not_in_the_state() -> None:
    assert set(side().state_dict()) == {
        *(f"network.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")),
        "slot_LM",
    }
    assert "codewords_CM" in side(train_codebooks=True).state_dict()


@pytest.mark.parametrize("order", ["user-item", "item-user"])
def test_tokens_stand_in_prompt_order(order: str) -> None:
    user, item = side(), side()
    bridge = Bridge(user, item, torch.randn(2, 16), order, 1.0)
    user_codes, item_codes = torch.tensor([[0, 1, 2]]), torch.tensor([[3, 4, 0]])
    parts = {"user": user(user_codes), "item": item(item_codes)}
    expected = torch.cat([parts[name] for name in order.split("-")], dim=1)
    torch.testing.assert_close(bridge(user_codes, item_codes), expected)
    assert bridge.every().shape == (18, 16)


def test_start_words_are_single_tokens(
    make_tokenizer: Callable[..., PreTrainedTokenizerBase],
) -> None:
    words = make_tokenizer()
    single = {word: words(f" {word}")["input_ids"] for word in ("user", "coffee", "terrace")}
    assert all(len(ids) == 1 for ids in single.values())
    keywords = [["xqzw", "coffee", "user"], ["coffee", "user"], ["coffee"], ["qqqxz"], []]
    coffee = single["coffee"][0]
    assert start_ids(keywords, words) == [coffee, coffee, coffee, -1, -1]


def test_a_start_word_may_be_a_name(make_tokenizer: Callable[..., PreTrainedTokenizerBase]) -> None:
    words = make_tokenizer()
    assert len(words(" say")["input_ids"]) > 1
    assert start_ids([["say"], ["the"]], words) == [
        words(f" {word}")["input_ids"][0] for word in ("Say", "the")
    ]


# --- wording ------------------------------------------------------------------------------------------------

LONG = 'The user likes tea. The cake is "fresh." And then it goes on and on without end'


def test_a_text_is_cut_at_its_last_sentence_end_within_the_cap() -> None:
    assert finish("  One  two.\nThree four. ", True, 4) == "One two. Three four."
    assert finish(LONG, True, 12) == 'The user likes tea. The cake is "fresh."'
    assert finish(LONG, True, 7) == "The user likes tea."
    assert finish(LONG, True, 3) == "The user likes"
    assert finish(LONG, False, 60) == 'The user likes tea. The cake is "fresh."'
    assert finish("It costs 3.50 euros. Or", False, 60) == "It costs 3.50 euros."
    assert finish("", True, 5) == ""


@given(st.text(alphabet="ab. !\n", max_size=60), st.integers(1, 8), st.integers(1, 5), st.booleans())
def test_pieces_are_never_taken_back(text: str, cap: int, step: int, ended: bool) -> None:
    grown = [(text[:end], False) for end in range(step, len(text), step)] + [(text, ended)]
    assert "".join(pieces(grown, cap)) == finish(text, ended, cap)


def test_the_first_sentence_comes_word_by_word() -> None:
    grown = [("The", False), ("The user", False), ("The user likes", False), ("The user likes tea.", True)]
    assert list(pieces(grown, 60)) == ["The", " user", " likes", " tea."]


# --- packed layers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 4, 16, 200])
def test_packed_layers_compute_the_same_and_leave_no_trace(rows: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=False), nn.ReLU(), nn.Linear(40, 10))
    packed, inputs = PackedLinears(model), torch.randn(rows, 3, 24)
    with torch.no_grad():
        expected = model(inputs)
        with packed.used(rows):
            assert ("forward" in model[0].__dict__) == (rows >= 4)
            torch.testing.assert_close(model(inputs), expected)
            torch.testing.assert_close(model(inputs[:1, :1]), expected[:1, :1])
    assert "forward" not in model[0].__dict__
    model(inputs).sum().backward()
    assert model[0].weight.grad is not None


def test_packed_layers_of_other_kinds_are_left_alone() -> None:
    with PackedLinears(nn.Linear(8, 8).to(torch.bfloat16)).used(16):
        pass
    layer = nn.Linear(8, 8)
    layer.forward = lambda inputs: inputs  # type: ignore[method-assign]
    with PackedLinears(layer).used(16):
        assert layer.forward(torch.ones(1)) == 1
