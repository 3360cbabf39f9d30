"""Injection against models patched by hand, an attention layer written out, and finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from forwhy.bridge.backbone import Backbone, PackedLinears, taking
from forwhy.bridge.injection import Injection, fitted
from forwhy.bridge.options import InjectionMode as Mode
from forwhy.models import LoadedModel, load_causal_lm

WIDTH = 24
SEPARATE = ["Llama", "LlamaMHA", "Qwen2", "Qwen3", "Mistral", "Gemma2", "Gemma3"]
FUSED = ["Phi3", "GPTNeoX", "GPT2"]
MakeModel = Callable[..., PreTrainedModel]
PROJECTED = [*SEPARATE, *FUSED]
MODES: list[tuple[str, Mode]] = [
    *((family, "projected") for family in PROJECTED),
    *((family, "identity") for family in SEPARATE),
]


def inputs(rows: int = 3, length: int = 7, width: int = WIDTH) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [B, S, D], two vectors per row, and where they go: elsewhere in every row."""
    random = torch.Generator().manual_seed(1)
    x_BSD = torch.randn(rows, length, width, generator=random)
    a_BKD = torch.randn(rows, 2, width, generator=random)
    at_BK = torch.stack([torch.randperm(length, generator=random)[:2] for _ in range(rows)])
    return x_BSD, a_BKD, at_BK


def everywhere(a_BKD: Tensor, at_BK: Tensor, length: int) -> Tensor:
    """[B, S, D] with the vectors at their places and zeros between."""
    out = torch.zeros(len(a_BKD), length, a_BKD.shape[-1], dtype=a_BKD.dtype)
    for row, places in enumerate(at_BK.tolist()):
        for number, place in enumerate(places):
            out[row, place] = a_BKD[row, number]
    return out


def named(model: nn.Module, *ends: str) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.split(".")[-1] in ends]


def projections(model: nn.Module) -> list[nn.Module]:
    return named(model, "q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn")


@contextmanager
def patched(
    layers: list[nn.Module], change: Callable[[Callable[..., Tensor], Tensor], Tensor]
) -> Iterator[None]:
    """Layers whose function is `change(function, x)`."""
    for layer in layers:
        layer.forward = lambda x, function=layer.forward: change(function, x)  # type: ignore[method-assign]
    yield
    for layer in layers:
        del layer.forward


def logits(model: PreTrainedModel, x_BSD: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(inputs_embeds=x_BSD).logits
    return out


# --- what it computes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "mode"), MODES)
def test_zero_vectors_change_no_bit(model_of: MakeModel, family: str, mode: Mode) -> None:
    model = model_of(family)
    x_BSD, a_BKD, at_BK = inputs()
    plain = logits(model, x_BSD)
    injection = Injection(model, mode)
    with injection.at(torch.zeros_like(a_BKD), at_BK):
        assert torch.equal(logits(model, x_BSD), plain)
    with injection.at(a_BKD[:, :0], at_BK[:, :0]):
        assert torch.equal(logits(model, x_BSD), plain)
    with injection.at(a_BKD, at_BK):
        assert not torch.allclose(logits(model, x_BSD), plain, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_zero_vectors_change_no_bit_of_real_models(name: str, real_tokenizers: dict[str, Path]) -> None:
    if name not in real_tokenizers:
        pytest.skip(f"{name} is not cached; `python -m forwhy.models {name}` fetches it")
    backbone = Backbone(load_causal_lm(str(real_tokenizers[name])))
    x_BSD = backbone.embed(torch.arange(100, 140).view(2, 20))
    ones_BKD, at_BK = torch.ones(2, 2, backbone.width), torch.tensor([[3, 9], [0, 19]])
    plain = logits(backbone.model, x_BSD)
    for mode in get_args(Mode):
        with backbone.injection(mode).at(0 * ones_BKD, at_BK):
            assert torch.equal(logits(backbone.model, x_BSD), plain)
        with backbone.injection(mode).at(ones_BKD, at_BK):
            assert not torch.allclose(logits(backbone.model, x_BSD), plain, atol=1e-2)


@pytest.mark.parametrize("family", PROJECTED)
def test_projected_gives_every_projection_x_plus_a(model_of: MakeModel, family: str) -> None:
    model = model_of(family)
    x_BSD, a_BKD, at_BK = inputs()
    added_BSD = everywhere(a_BKD, at_BK, x_BSD.shape[1])
    with patched(projections(model), lambda function, x: function(x + added_BSD)):
        expected = logits(model, x_BSD)
    with Injection(model).at(a_BKD, at_BK):
        assert torch.equal(logits(model, x_BSD), expected)


def test_projected_is_equation_12_in_an_attention_layer_written_out(model_of: MakeModel) -> None:
    model = model_of("Llama", num_hidden_layers=1).double()
    x_BSD, a_BKD, at_BK = (part.double() if part.is_floating_point() else part for part in inputs())
    attention = model.model.layers[0].self_attn
    heads, length, wide = 4, x_BSD.shape[1], WIDTH // 4
    norm = model.model.layers[0].input_layernorm
    read_BSD = norm(x_BSD) + everywhere(a_BKD, at_BK, length)

    def turned(weight: Tensor) -> Tensor:
        """Heads [B, H, S, E] under rotary positions, as complex numbers of the halves; 2 keys serve 4 queries."""
        states = (read_BSD @ weight.T).unflatten(-1, (-1, wide)).transpose(1, 2)
        states = states.repeat_interleave(heads // states.shape[1], dim=1)
        speed = 10_000.0 ** -(torch.arange(0, wide, 2) / wide)
        angle = torch.arange(length)[:, None] * speed.float()
        halves = torch.complex(*states.chunk(2, dim=-1)) * torch.polar(torch.ones_like(angle), angle)
        return torch.cat([halves.real, halves.imag], dim=-1)

    values = (read_BSD @ attention.v_proj.weight.T).unflatten(-1, (-1, wide)).transpose(1, 2)
    scores = turned(attention.q_proj.weight) @ turned(attention.k_proj.weight).transpose(-1, -2) / wide**0.5
    scores = scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), float("-inf"))
    mixed = scores.softmax(dim=-1) @ values.repeat_interleave(2, dim=1)
    expected = mixed.transpose(1, 2).flatten(2) @ attention.o_proj.weight.T

    seen: list[Tensor] = []
    handle = attention.register_forward_hook(lambda _, __, out: seen.append(out[0]))
    with Injection(model).at(a_BKD, at_BK):
        logits(model, x_BSD)
    handle.remove()
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "norm"), [("LlamaMHA", "input_layernorm"), ("Gemma3", "input_layernorm"), ("GPT2", "ln_1")]
)
def test_projected_in_one_layer_is_adding_to_what_its_norm_gives(
    model_of: MakeModel, family: str, norm: str
) -> None:
    changes = {"layer_types": ["sliding_attention"]} if family == "Gemma3" else {}
    model = model_of(family, num_hidden_layers=1, **changes)
    x_BSD, a_BKD, at_BK = inputs()
    added_BSD = everywhere(a_BKD, at_BK, x_BSD.shape[1])
    with patched(named(model, norm), lambda function, x: function(x) + added_BSD):
        expected = logits(model, x_BSD)
    with Injection(model).at(a_BKD, at_BK):
        torch.testing.assert_close(logits(model, x_BSD), expected)


@pytest.mark.parametrize("family", ["Qwen2", "Phi3", "GPT2"])
def test_a_projection_changes_by_w_a_there_and_not_at_all_elsewhere(model_of: MakeModel, family: str) -> None:
    model = model_of(family).double()
    x_BSD, a_BKD, at_BK = (part.double() if part.is_floating_point() else part for part in inputs())
    first, seen = projections(model)[0], []
    weight = first.weight if family == "GPT2" else first.weight.T
    handle = first.register_forward_hook(lambda _, __, out: seen.append(out))
    logits(model, x_BSD)
    with Injection(model).at(a_BKD, at_BK):
        logits(model, x_BSD)
    handle.remove()
    difference = seen[1] - seen[0]
    torch.testing.assert_close(difference, everywhere(a_BKD @ weight, at_BK, x_BSD.shape[1]))


def test_identity_is_the_released_codes_formula_where_widths_are_equal(model_of: MakeModel) -> None:
    model = model_of("LlamaMHA")
    x_BSD, a_BKD, at_BK = inputs()
    added_BSD = everywhere(a_BKD, at_BK, x_BSD.shape[1])
    with patched(projections(model), lambda function, x: function(x) + added_BSD):
        expected = logits(model, x_BSD)
    with Injection(model, "identity").at(a_BKD, at_BK):
        assert torch.equal(logits(model, x_BSD), expected)


@pytest.mark.parametrize("family", SEPARATE)
def test_identity_brings_the_vectors_to_every_projections_width(model_of: MakeModel, family: str) -> None:
    model = model_of(family)
    x_BSD, a_BKD, at_BK = inputs()

    def changed(function: Callable[..., Tensor], x: Tensor) -> Tensor:
        out = function(x)
        return out + everywhere(fitted(a_BKD, out.shape[-1]), at_BK, x.shape[1])

    with patched(projections(model), changed):
        expected = logits(model, x_BSD)
    with Injection(model, "identity").at(a_BKD, at_BK):
        assert torch.equal(logits(model, x_BSD), expected)


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (5, [1, 2, 3, 4, 5]),
        (8, [1, 2, 3, 4, 5, 1, 2, 3]),
        (12, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]),
        (3, [(1 + 4) / 2, (2 + 5) / 2, 3 / 2]),
        (2, [(1 + 3 + 5) / 3, (2 + 4) / 3]),
        (1, [3]),
    ],
)
def test_the_width_rule(width: int, expected: list[float]) -> None:
    assert fitted(torch.arange(1.0, 6.0)[None, None], width)[0, 0].tolist() == pytest.approx(expected)


# --- gradients and precision --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "mode"), [("Llama", "projected"), ("Llama", "identity"), ("GPT2", "projected")]
)
def test_gradients_of_the_vectors_are_finite_differences(
    model_of: MakeModel, family: str, mode: Mode
) -> None:
    model = model_of(family)
    if family == "Llama":  # its own norms compute in float32
        model.model.norm = nn.RMSNorm(WIDTH)
        for layer in model.model.layers:
            layer.input_layernorm = layer.post_attention_layernorm = nn.RMSNorm(WIDTH)
    model = model.double().requires_grad_(False)
    x_BSD, a_BKD, at_BK = (
        part.double() if part.is_floating_point() else part for part in inputs(rows=2, length=4)
    )
    injection = Injection(model, mode)

    def score(vectors: Tensor) -> Tensor:
        with injection.at(vectors, at_BK):
            out: Tensor = model(inputs_embeds=x_BSD).logits.square().mean()
        return out

    assert torch.autograd.gradcheck(score, a_BKD.requires_grad_(), atol=1e-6)
    score(a_BKD).backward()
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mode", ["projected", "identity"])
def test_vectors_are_cast_to_what_the_model_computes_in(model_of: MakeModel, mode: Mode) -> None:
    x_BSD, a_BKD, at_BK = inputs()
    half = model_of("Llama").to(torch.bfloat16)
    with Injection(half, mode).at(a_BKD, at_BK), torch.inference_mode():
        read = half(inputs_embeds=x_BSD.bfloat16()).logits
    whole = model_of("Llama")
    with (
        Injection(whole, mode).at(a_BKD.requires_grad_(), at_BK),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        cast = whole(inputs_embeds=x_BSD).logits
    assert (read.dtype, cast.dtype) == (torch.bfloat16, torch.bfloat16)
    cast.float().sum().backward()
    assert a_BKD.grad is not None
    assert a_BKD.grad.dtype == torch.float32
    with Injection(whole, mode).at(a_BKD, at_BK):
        exact = logits(whole, x_BSD)
    scale = float(exact.std())
    for rough in (read, cast):
        assert float((rough.detach().float() - exact).abs().mean()) < 0.05 * scale


# --- rows, positions, caches --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["projected", "identity"])
def test_a_row_reads_its_own_vectors_only(model_of: MakeModel, mode: Mode) -> None:
    model = model_of("Llama")
    x_BSD, a_BKD, at_BK = inputs()
    injection = Injection(model, mode)
    with injection.at(a_BKD, at_BK):
        together = logits(model, x_BSD)
    for row in range(len(x_BSD)):
        one = slice(row, row + 1)
        with injection.at(a_BKD[one], at_BK[one]):
            torch.testing.assert_close(logits(model, x_BSD[one]), together[one])


def test_two_passes_in_one_block_are_as_in_two_blocks(model_of: MakeModel) -> None:
    model = model_of("Llama")
    x_BSD, a_BKD, at_BK = inputs()
    injection = Injection(model)
    expected = []
    for sign in (1, -1):
        with injection.at(a_BKD, at_BK):
            expected.append(logits(model, sign * x_BSD))
    with injection.at(a_BKD, at_BK):
        assert torch.equal(logits(model, x_BSD), expected[0])
        assert torch.equal(logits(model, -x_BSD), expected[1])


def test_a_single_position_is_injected_too(model_of: MakeModel) -> None:
    model = model_of("Llama")
    x_BSD, a_BKD, _ = inputs(length=2)
    x_B1D, a_B1D, zero_B1 = x_BSD[:, :1], a_BKD[:, :1], torch.zeros(3, 1, dtype=torch.long)
    with patched(projections(model), lambda function, x: function(x + a_B1D)):
        expected = logits(model, x_B1D)
    with Injection(model).at(a_B1D, zero_B1):
        assert torch.equal(logits(model, x_B1D), expected)


@pytest.mark.parametrize("mode", ["projected", "identity"])
@pytest.mark.parametrize("family", ["Llama", "Gemma3"])
def test_positions_do_not_count_a_cached_beginning(model_of: MakeModel, family: str, mode: Mode) -> None:
    model = model_of(family)
    backbone = Backbone(LoadedModel(model, None, None))  # type: ignore[arg-type]
    ids = [5, 6, 7, 8, 9]
    prefix = backbone.prefix(ids)
    x_BSD, a_BKD, at_BK = inputs()
    keep_BS = torch.ones(x_BSD.shape[:2], dtype=torch.bool)
    with torch.no_grad(), backbone.injection(mode).at(a_BKD, at_BK):
        behind = backbone.logits(prefix, x_BSD, keep_BS)
    words = backbone.embed(torch.tensor(ids)).expand(len(x_BSD), -1, -1)
    with backbone.injection(mode).at(a_BKD, at_BK + len(ids)):
        whole = logits(model, torch.cat([words, x_BSD], dim=1))
    torch.testing.assert_close(behind, whole[:, len(ids) :].flatten(0, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["projected", "identity"])
@pytest.mark.parametrize("family", ["Llama", "Gemma3", "Qwen3"])
def test_injecting_at_the_start_only_writes_what_injecting_without_a_cache_does(
    model_of: MakeModel, family: str, mode: Mode
) -> None:
    model = model_of(family)
    x_BSD, a_BKD, at_BK = inputs()
    injection, words = Injection(model, mode), model.get_input_embeddings()
    with torch.no_grad():
        with injection.at(a_BKD, at_BK):
            out = model(inputs_embeds=x_BSD, use_cache=True)
        grown_BSD, plain = x_BSD, logits(model, x_BSD)[:, -1]
        for _ in range(6):
            with injection.at(a_BKD, at_BK):
                whole = logits(model, grown_BSD)[:, -1]
            torch.testing.assert_close(out.logits[:, -1], whole, atol=1e-4, rtol=1e-4)
            next_B1 = whole.argmax(dim=-1)[:, None]
            grown_BSD = torch.cat([grown_BSD, words(next_B1)], dim=1)
            out = model(input_ids=next_B1, **taking(model, out.past_key_values), use_cache=True)
    assert not torch.allclose(plain, logits(model, grown_BSD)[:, -1])


# --- other people's layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["projected", "identity"])
def test_packed_layers_are_injected_too(model_of: MakeModel, mode: Mode) -> None:
    model = model_of("Llama")
    packed, injection = PackedLinears(model), Injection(model, mode)
    x_BSD, a_BKD, at_BK = inputs(rows=8)
    with injection.at(a_BKD, at_BK):
        expected = logits(model, x_BSD)
        with packed.used(len(x_BSD)):
            assert "forward" in projections(model)[0].__dict__
            torch.testing.assert_close(logits(model, x_BSD), expected, atol=1e-4, rtol=1e-4)
    with packed.used(len(x_BSD)), injection.at(a_BKD, at_BK):
        torch.testing.assert_close(logits(model, x_BSD), expected, atol=1e-4, rtol=1e-4)


class LowRank(nn.Module):
    """A linear layer with a low-rank change beside it, as adapters wrap it."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base_layer, self.down = base, nn.Linear(WIDTH, 2)
        self.up = nn.Linear(2, base.out_features)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base_layer(x) + self.up(self.down(x))
        return out


def test_wrapped_layers_are_injected_as_a_whole(model_of: MakeModel) -> None:
    model = model_of("Llama")
    for layer in model.model.layers:
        layer.self_attn.q_proj = LowRank(layer.self_attn.q_proj)
    x_BSD, a_BKD, at_BK = inputs()
    added_BSD = everywhere(a_BKD, at_BK, x_BSD.shape[1])
    with patched(projections(model), lambda function, x: function(x + added_BSD)):
        expected = logits(model, x_BSD)
    with Injection(model).at(a_BKD, at_BK):
        assert torch.equal(logits(model, x_BSD), expected)
