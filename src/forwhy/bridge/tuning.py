"""Weights of a language model that learn: all, or LoRA updates of its linear layers (Hu et al. 2022), by peft."""

from collections.abc import Sequence
from typing import Any, Literal

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Layers that get an update; all linear ones in models that have none of these names."""


def add_adapter(
    lm: PreTrainedModel, name: str, rank: int, alpha: float, dropout: float = 0.0
) -> list[BaseTunerLayer]:
    """Wrap the linear layers of a model, which is frozen by it; begins as no change, its A from torch's generator.

    What learns is in float32, whatever the model is in: a step of 1e-4 is lost in half precision.
    """
    lm.requires_grad_(False)
    names = {module.rpartition(".")[2] for module, _ in lm.named_modules()}
    targets = [part for part in PARTS if part in names]
    sizes: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
    inject_adapter_in_model(
        LoraConfig(**sizes, target_modules=targets or "all-linear"), lm, adapter_name=name
    )
    for parameter in filter(lambda it: it.requires_grad, lm.parameters()):
        parameter.data = parameter.data.float()
    return [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]


def fold_adapter(lm: PreTrainedModel) -> None:
    """Put what an adapter learned into the model's own weights, and take it out."""
    for name, layer in [*lm.named_modules()]:
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            lm.set_submodule(name, layer.get_base_layer())
    del lm.peft_config  # else the next one takes this one for its neighbour


def learning(lm: nn.Module) -> nn.ParameterDict:
    """The parameters that learn, each once, by their names with "/" in place of "."."""
    return nn.ParameterDict(
        {name.replace(".", "/"): it for name, it in lm.named_parameters() if it.requires_grad}
    )


class Tuning(nn.Module):
    """What a model's own training changes: a module whose state is only that, beside a model that it changes."""

    def __init__(self, lm: PreTrainedModel, how: Literal["adapter", "all"], rank: int, alpha: float) -> None:
        """Frees the model's weights in place, or wraps its linear layers."""
        super().__init__()
        self._lm: Sequence[PreTrainedModel] = (lm,)  # in a tuple: frozen weights are no part of the state
        self.how = how
        if how == "adapter":
            add_adapter(lm, "tuning", rank, alpha)
        else:
            lm.requires_grad_(True)
        self.trained = learning(lm)

    def settle(self) -> None:
        """Freeze the model again as it has become; an adapter goes into its weights, at no cost from then on."""
        if self.how == "adapter":
            fold_adapter(self._lm[0])
        self._lm[0].requires_grad_(False)
