"""What turns codes and graph vectors into a model's own, against the equations written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from forwhy.bridge.options import AdapterConfig, ProjectorConfig
from forwhy.bridge.projectors import (
    Bridge,
    ExpertAdapter,
    PairBridge,
    SideProjector,
    start_ids,
)
from forwhy.errors import UserError


def side(**options: object) -> SideProjector:
    random = np.random.default_rng(0)
    books = {"macro": random.normal(3, 2, (4, 6)).astype(np.float32), "micro": random.normal(size=(5, 6))}
    torch.manual_seed(0)
    start, slots = torch.randn(9, 16), ["macro", "micro", "micro"]
    return SideProjector(books, slots, ProjectorConfig.model_validate(options), start, word_norm=2.5)


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


AS_RELEASED = {"standardise": False, "scale": "raw"}


def adapter(inner: int = 6, width: int = 10, seed: int = 0, **options: object) -> ExpertAdapter:
    """An adapter whose every parameter is random, in evaluation mode."""
    torch.manual_seed(seed)
    vectors = 5 + 3 * torch.randn(50, inner)
    made = ExpertAdapter(AdapterConfig.model_validate(options), vectors, width, word_norm=2.5)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return made.eval()


def test_two_experts_by_hand() -> None:
    made = adapter(inner=2, width=1, experts=2, **AS_RELEASED)
    with torch.no_grad():
        made.weight_EdD.copy_(torch.tensor([[[1.0], [2.0]], [[3.0], [-1.0]]]))
        made.bias_Ed.copy_(torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
        made.gate_dE.copy_(torch.tensor([[np.log(3.0), 0.0], [0.0, 0.0]]))
    x = torch.tensor([[1.0, 4.0]])
    torch.testing.assert_close(made.gate(x), torch.tensor([[0.75, 0.25]]))
    first, second = (1 - 0.5) * 1 + 4 * 2, 1 * 3 + (4 - 1) * -1
    assert float(made(x).detach()) == pytest.approx(0.75 * first + 0.25 * second)


@pytest.mark.parametrize("top", [0, 2])
@pytest.mark.parametrize("scale", ["raw", "word-size"])
def test_the_mixture_is_the_sum_over_experts(top: int, scale: str) -> None:
    made = adapter(top=top, scale=scale, standardise=False).requires_grad_(False)
    x_Bd = torch.randn(4, 6)
    expected = torch.zeros(4, 10)
    for row in range(4):
        logits = [float(x_Bd[row] @ made.gate_dE[:, k]) for k in range(8)]
        kept = sorted(range(8), key=logits.__getitem__)[-(top or 8) :]
        total = sum(np.exp(logits[k]) for k in kept)
        for k in kept:
            out = torch.einsum("d,dD->D", x_Bd[row] - made.bias_Ed[k], made.weight_EdD[k])
            expected[row] += float(np.exp(logits[k]) / total) * out
    size = 1.0 if scale == "raw" else 2.5 / 10**0.5
    torch.testing.assert_close(made(x_Bd), size * expected)


def test_inputs_are_centred_and_brought_to_one_size() -> None:
    torch.manual_seed(0)
    vectors = torch.tensor([5.0, -70.0, 0.0]) + 0.01 * torch.randn(100, 3)
    config = AdapterConfig(scale="raw")
    made, plain = (
        ExpertAdapter(config.model_copy(update={"standardise": on}), vectors, 7, 1.0).eval() for on in (1, 0)
    )
    plain.load_state_dict({**made.state_dict(), "mean_d": torch.zeros(3), "deviation": torch.ones(())})
    scaled = (vectors - vectors.mean(dim=0)) / float(vectors.sub(vectors.mean(dim=0)).square().mean().sqrt())
    torch.testing.assert_close(made(vectors), plain(scaled), atol=1e-4, rtol=1e-3)
    constant = ExpertAdapter(config, torch.ones(4, 3), 7, 1.0)
    assert bool(constant(torch.ones(2, 3)).isfinite().all())


def test_at_the_start_all_experts_share_alike() -> None:
    torch.manual_seed(0)
    made = ExpertAdapter(AdapterConfig(), torch.randn(9, 64), 4096, 1.0).eval()
    torch.testing.assert_close(made.gate(torch.randn(3, 64)), torch.full((3, 8), 1 / 8))
    assert float(made.weight_EdD.detach().std()) == pytest.approx(0.02, rel=0.01)
    assert float(made.bias_Ed.detach().abs().sum()) == 0
    assert sum(parameter.numel() for parameter in made.parameters()) == 8 * 64 * (4096 + 3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("top", [0, 1, 3])
def test_shares_sum_to_one_over_the_chosen_experts(training: bool, top: int) -> None:
    made = adapter(top=top).train(training)
    shares_BE = made.gate(torch.randn(20, 6))
    torch.testing.assert_close(shares_BE.sum(dim=-1), torch.ones(20))
    assert ((shares_BE > 0).sum(dim=-1) <= (top or 8)).all()


def test_noise_has_the_learned_size_and_only_in_training() -> None:
    made = adapter(experts=2).requires_grad_(False)
    x_1d = torch.randn(1, 6)
    many = x_1d.expand(40_000, -1)
    still, noisy = made.gate(many), made.train().gate(many)
    assert bool((still == still[0]).all())
    odds = (noisy[:, 0] / noisy[:, 1]).log().double()
    size_E = nn.functional.softplus(x_1d @ made.noise_dE) + 0.01
    logits_E = x_1d @ made.gate_dE
    assert float(odds.mean()) == pytest.approx(float(logits_E[0, 0] - logits_E[0, 1]), abs=0.05)
    assert float(odds.std()) == pytest.approx(float(size_E.norm()), rel=0.02)


def test_without_noise_and_dropout_training_computes_as_evaluation_does() -> None:
    made = adapter(noise=False, dropout=0.0)
    x_Bd = torch.randn(5, 6)
    assert torch.equal(made(x_Bd), made.train()(x_Bd))
    assert {name for name, _ in made.named_parameters()} == {"weight_EdD", "bias_Ed", "gate_dE"}


def test_each_expert_drops_coordinates_of_its_own_and_the_mean_stays() -> None:
    made = adapter(noise=False, dropout=0.5)
    x_1d = torch.randn(1, 6)
    torch.manual_seed(1)
    drawn = made.train()(x_1d.expand(40_000, -1))
    torch.testing.assert_close(drawn.mean(dim=0), made.eval()(x_1d)[0], atol=0.25, rtol=0.02)
    spread = (drawn - drawn.mean(dim=0)).detach()
    assert int(torch.linalg.matrix_rank(spread)) == 10  # one mask for all experts would give 6


def test_same_seed_same_numbers() -> None:
    one, two = (adapter(seed=3).train() for _ in range(2))
    outputs = []
    for made in (one, two):
        torch.manual_seed(5)
        outputs.append(made(torch.ones(4, 6)))
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], one(torch.ones(4, 6)))


@pytest.mark.parametrize("noise", [True, False])
def test_gradients_reach_every_expert_and_every_parameter(noise: bool) -> None:
    made = adapter(noise=noise, dropout=0.0).train()
    made(torch.randn(3, 6)).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name
    assert bool((made.weight_EdD.grad.abs().sum(dim=(1, 2)) > 0).all())


def test_with_top_the_others_get_no_gradient() -> None:
    made = adapter(top=1)
    x_1d = torch.randn(1, 6)
    made(x_1d).sum().backward()
    chosen = int((x_1d.sub(made.mean_d) @ made.gate_dE).argmax())
    assert made.weight_EdD.grad.abs().sum(dim=(1, 2)).nonzero().flatten().tolist() == [chosen]


def test_more_chosen_experts_than_there_are_is_an_error() -> None:
    with pytest.raises(UserError, match="top = 9 of 8 experts"):
        AdapterConfig(top=9)


# --- bridges ------------------------------------------------------------------------------------------------


def states(layers: int = 2) -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    return [(torch.randn(1, 2, 5, 3), 4 * torch.randn(1, 2, 5, 3)) for _ in range(layers)]


def sides() -> list[SideProjector]:
    books = {"macro": np.eye(4, 6, dtype=np.float32)}
    return [SideProjector(books, ["macro"], ProjectorConfig(), torch.ones(4, 10), 2.5) for _ in range(2)]


@pytest.mark.parametrize("order", ["user-item", "item-user"])
def test_a_pairs_two_vectors_stand_in_prompt_order(order: str) -> None:
    user, item = adapter(seed=1), adapter(seed=2)
    bridge = PairBridge(user, item, torch.randn(2, 10), order, 2.5).eval()
    user_Bd, item_Bd = torch.randn(3, 6), torch.randn(3, 6)
    out = bridge(user_Bd, item_Bd)
    parts = {"user": user(user_Bd), "item": item(item_Bd)}
    assert out.shape == (3, 2, 10)
    for place, side in enumerate(order.split("-")):
        assert torch.equal(out[:, place], parts[side])


def test_both_bridges_have_the_same_task_tokens() -> None:
    task = torch.randn(2, 10)
    one = Bridge(*sides(), task, "user-item", 2.5, states())
    two = PairBridge(adapter(), adapter(), task, "user-item", 2.5, states())
    for bridge in (one, two):
        torch.testing.assert_close(bridge.task(), task)
        assert all(not shift.any() for shift in bridge.shifts())
        with torch.no_grad():
            for deep in bridge.deep:
                deep.fill_(1.0)
        for shift, (keys, values) in zip(bridge.shifts(), states(), strict=True):
            assert shift.shape == (2, 2, 2, 3)
            torch.testing.assert_close(shift[0], keys.std().expand(2, 2, 3))
            torch.testing.assert_close(shift[1], values.std().expand(2, 2, 3))


def test_parameters_keep_the_names_and_the_order_that_saved_explainers_have() -> None:
    bridge = Bridge(*sides(), torch.randn(2, 10), "user-item", 2.5, states())
    network = [f"network.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")]
    side_names = ["slot_LM", *network]
    assert [name for name, _ in bridge.named_parameters()] == [
        "task_TD",
        *(f"user.{name}" for name in side_names),
        *(f"item.{name}" for name in side_names),
        "deep.0",
        "deep.1",
    ]


def test_a_collaborative_bridges_state_brings_its_numbers_back() -> None:
    def made(seed: int) -> PairBridge:
        parts = adapter(seed=seed), adapter(seed=seed + 1)
        return PairBridge(*parts, torch.randn(2, 10), "user-item", 2.5, states()).eval()

    one, two, x_Bd = made(0), made(7), torch.randn(4, 6)
    assert not torch.equal(one(x_Bd, x_Bd), two(x_Bd, x_Bd))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(x_Bd, x_Bd), two(x_Bd, x_Bd))
    assert torch.equal(one.task(), two.task())
