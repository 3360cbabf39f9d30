"""The passes through Llama's layers against the model's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from forwhy.recommend.causal import TreeModel, evaluating
from forwhy.recommend.head import LlamaHead, PlainHead

from .conftest import FAMILIES, language_model, prompts

Change = Callable[[PreTrainedModel], object]
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}  # fmt: skip


def adapted(model: PreTrainedModel) -> None:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    inject_adapter_in_model(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), model)


class Doubled(nn.Module):
    def forward(self, given: Tensor) -> Tensor:
        return 2 * given


def hooked(module: nn.Module) -> None:
    module.register_forward_hook(lambda *given: 1.5 * given[-1])


def hooked_before(module: nn.Module) -> None:
    module.register_forward_pre_hook(lambda _, given: (given[0] // 2,))


def hooked_with_names(module: nn.Module) -> None:
    module.register_forward_hook(lambda *given: 1.5 * given[-1], with_kwargs=True)


def replaced(module: nn.Module) -> None:
    forward = module.forward
    module.forward = lambda *given, **named: 1.5 * forward(*given, **named)  # type: ignore[method-assign]


CHANGES: dict[str, Change] = {
    "an adapter": adapted,
    "a parametrization": lambda lm: parametrize.register_parametrization(
        lm.get_input_embeddings(), "weight", Doubled()
    ),
    **{
        f"{change.__name__} {name}": lambda lm, change=change, name=name: change(lm.get_submodule(name))
        for change in (hooked, hooked_before, hooked_with_names, replaced)
        for name in (
            "model.embed_tokens", "model.layers.1.self_attn.k_proj", "model.layers.0.mlp.down_proj",
            "model.layers.1.mlp", "model.layers.0.post_attention_layernorm", "model.norm",
        )
    },
}  # fmt: skip


def every_state(lm: TreeModel, users: Sequence[Sequence[int]], begun: int) -> list[Tensor]:
    """The states that a search asks for: prompts behind a shared beginning, a level of beams, a tail."""
    prefix = lm.prefix(users[0][:begun]) if begun else None
    read = lm.read([row[begun:] for row in users], 6, prefix)
    seen = torch.eye(2, dtype=torch.bool).repeat(3, 3)[None].tril()
    ids = torch.arange(20, 20 + 6 * len(users)).view(-1, 6)
    first = lm.grow(read, ids[:, :2], torch.zeros(2, dtype=torch.long), seen[:, :2, :2])
    rest = lm.grow(read, ids[:, 2:], torch.tensor([1, 1, 2, 2]), seen[:, 2:])
    return [read.last, first, rest]


@torch.no_grad()
def compare(lm: TreeModel) -> None:
    """The head in use against the model's own passes."""
    users = [[*prompts(6)[0], *rest] for rest in prompts(3, 1, 8)]
    with evaluating(lm.model):
        for begun, rows in ((0, users), (5, users), (0, users[:1]), (5, users[:1])):
            own, lm.head = lm.head, PlainHead(lm.model)
            wanted = every_state(lm, rows, begun)
            lm.head = own
            for found, plain in zip(every_state(lm, rows, begun), wanted, strict=True):
                torch.testing.assert_close(found, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True},
        {"hidden_act": "gelu", "num_hidden_layers": 1},
        {"rope_parameters": LLAMA3},
        {"attn_implementation": "eager"},
    ],
    ids=["groups", "biases", "one layer", "scaled positions", "eager"],
)
def test_states_are_those_of_the_model(changes: dict[str, Any]) -> None:
    lm = TreeModel(language_model("llama", **changes))
    assert isinstance(lm.head, LlamaHead)
    compare(lm)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_what_is_put_on_a_model_works_before_and_after_it_is_opened(change: str, late: bool) -> None:
    model = language_model("llama")
    if not late:
        CHANGES[change](model)
    lm = TreeModel(model)
    if late:
        CHANGES[change](model)
    assert isinstance(lm.head, LlamaHead)
    compare(lm)


def test_an_adapter_can_be_switched() -> None:
    model = language_model("llama")
    lm, users = TreeModel(model), prompts(4, 7)
    with torch.no_grad():
        before = every_state(lm, users, 0)
        adapted(model.eval())
        on = every_state(lm, users, 0)
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.enable_adapters(False)
        off = every_state(lm, users, 0)
    for one, other, changed in zip(before, off, on, strict=True):
        torch.testing.assert_close(one, other)
        assert (one - changed).abs().max() > 0.1


@torch.no_grad()
def test_the_last_layer_works_for_the_positions_asked_for_only() -> None:
    lm, widths = TreeModel(language_model("llama")), []
    for name in ("k_proj", "q_proj", "o_proj"):
        module = lm.model.get_submodule(f"model.layers.1.self_attn.{name}")
        module.register_forward_hook(lambda _, given, __: widths.append(given[0].shape[1]))
    lm.read(prompts(9, 7, 8), room=0)
    assert widths == [9, 3, 3]


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "llama"])
def test_other_families_are_left_to_themselves(family: str) -> None:
    assert not isinstance(TreeModel(language_model(family)).head, LlamaHead)


def test_positions_that_depend_on_the_length_are_left_to_the_model() -> None:
    dynamic = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 2.0}
    assert type(TreeModel(language_model("llama", rope_parameters=dynamic)).head) is PlainHead


def test_gradients_go_through_the_model() -> None:
    lm = TreeModel(language_model("llama"))
    lm.read(prompts(4), room=0).last.sum().backward()
    assert lm.model.model.layers[0].mlp.up_proj.weight.grad is not None
