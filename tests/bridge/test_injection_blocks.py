"""Blocks that leave no trace, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.injection import Injection
from forwhy.bridge.options import InjectionMode as Mode
from forwhy.errors import UserError
from forwhy.models import LoadedModel

MakeModel = Callable[..., PreTrainedModel]


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [B, S, D], two vectors per row, and where they go."""
    torch.manual_seed(0)
    return torch.randn(3, 7, 24), torch.randn(3, 2, 24), torch.tensor([[0, 4], [6, 1], [2, 3]])


@torch.no_grad()
def logits(model: PreTrainedModel, x_BSD: Tensor) -> Tensor:
    out: Tensor = model(inputs_embeds=x_BSD).logits
    return out


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("mode", ["projected", "identity"])
def test_no_hook_is_left_whatever_happens_in_the_block(model_of: MakeModel, mode: Mode) -> None:
    model = model_of("Llama")
    x_BSD, a_BKD, at_BK = inputs()
    plain, injection = logits(model, x_BSD), Injection(model, mode)
    with injection.at(a_BKD, at_BK):
        assert hooks(model) == 6
    with pytest.raises(RuntimeError, match="size of tensor"), injection.at(a_BKD, at_BK):
        logits(model, x_BSD[..., :5])
    assert hooks(model) == 0
    assert torch.equal(logits(model, x_BSD), plain)
    with injection.at(a_BKD, at_BK):
        assert not torch.equal(logits(model, x_BSD), plain)


@pytest.mark.parametrize("inner", ["projected", "identity"])
def test_blocks_on_one_model_are_not_nested(model_of: MakeModel, inner: Mode) -> None:
    model, other = model_of("Llama"), model_of("Llama")
    x_BSD, a_BKD, at_BK = inputs()
    with Injection(model).at(a_BKD, at_BK):
        expected = logits(model, x_BSD)
        with pytest.raises(RuntimeError, match="nested"), Injection(model, inner).at(a_BKD, at_BK):
            pass
        assert torch.equal(logits(model, x_BSD), expected)
        with Injection(other, inner).at(a_BKD, at_BK):
            pass


def test_vectors_that_do_not_fit_are_refused(model_of: MakeModel) -> None:
    model = model_of("Llama")
    x_BSD, a_BKD, at_BK = inputs()
    injection = Injection(model)
    with (
        pytest.raises(ValueError, match=r"vectors \[3, 2, 24\] at positions \[3, 1\]"),
        injection.at(a_BKD, at_BK[:, :1]),
    ):
        pass
    with (
        pytest.raises(ValueError, match="vectors for 3 rows, but the model is fed 2"),
        injection.at(a_BKD, at_BK),
    ):
        logits(model, x_BSD[:2])
    with pytest.raises(IndexError), injection.at(a_BKD, at_BK):
        logits(model, x_BSD[:, :1])
    assert hooks(model) == 0


@pytest.mark.parametrize("family", ["Phi3", "GPTNeoX", "GPT2"])
def test_identity_needs_projections_of_its_own(model_of: MakeModel, family: str) -> None:
    with pytest.raises(UserError, match=r'layer 0 \(.*in one projection.*use mode "projected"'):
        Injection(model_of(family), "identity")


def test_a_model_without_attention_is_refused_by_name() -> None:
    config = transformers.MambaConfig(vocab_size=40, hidden_size=24, num_hidden_layers=2, state_size=4)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError) as caught:
        Injection(model)
    message = str(caught.value)
    assert "MambaForCausalLM" in message
    assert "layer 0 (MambaBlock)" in message
    assert all(name in message for name in ("q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn"))
    assert "\n" not in message


def test_one_layer_without_projections_is_enough_to_refuse(model_of: MakeModel) -> None:
    model = model_of("Llama")
    model.model.layers[1].self_attn.k_proj = None
    with pytest.raises(UserError, match=r"layer 1 \(LlamaDecoderLayer\)"):
        Injection(model)


def test_two_attentions_in_a_layer_are_not_guessed_between(model_of: MakeModel) -> None:
    with pytest.raises(UserError, match="no single attention"):
        Injection(model_of("GPT2", add_cross_attention=True))


def test_a_model_whose_layers_are_not_found_is_refused(model_of: MakeModel) -> None:
    model = model_of("Llama")
    model.config.num_hidden_layers = 7
    with pytest.raises(UserError, match="LlamaModel holds no list of 7 layers"):
        Injection(model)


def test_a_backbone_keeps_one_injection_per_mode(model_of: MakeModel) -> None:
    backbone = Backbone(LoadedModel(model_of("Llama"), None, None))  # type: ignore[arg-type]
    assert backbone.injection("projected") is backbone.injection("projected")
    assert backbone.injection("identity").mode == "identity"
