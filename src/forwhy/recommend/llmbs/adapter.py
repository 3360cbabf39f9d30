"""The annealing adapter: what is trained last, and can be switched off (LLM-BS section 3.4.2).

LoRA on the linear layers, by peft, and rows of their own for the index tokens. The first stage's weights stay as they
are; switched off, the model computes what it computed before, bit for bit.

Shapes: V vocabulary, D model width, n index tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from forwhy.recommend.llmbs.config import AnnealingConfig
from forwhy.recommend.llmbs.tokens import Tokens

__all__ = ["Annealing"]

PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Layers that get an update; all linear ones in models that have none of these names."""


class IndexRows(nn.Module):
    """A table whose index rows are trained ones while switched on."""

    def __init__(self, table_VD: Tensor, first: int, count: int) -> None:
        super().__init__()
        self.first, self.on = first, True
        self.rows_nD = nn.Parameter(table_VD[first : first + count].detach().clone())

    def forward(self, table_VD: Tensor) -> Tensor:
        if not self.on:
            return table_VD
        behind = self.first + len(self.rows_nD)
        return torch.cat([table_VD[: self.first], self.rows_nD.to(table_VD.dtype), table_VD[behind:]])


class Annealing(nn.Module):
    """Everything the adapter trains, inside a model that is frozen by it; begins as no change at all."""

    def __init__(self, lm: PreTrainedModel, tokens: Tokens, config: AnnealingConfig) -> None:
        """Changes `lm` in place: its linear layers and tables are wrapped. A_LoRA from torch's generator."""
        super().__init__()
        self._lm = (lm,)  # in a tuple: the frozen model is no part of what is saved
        lm.requires_grad_(False)
        names = {name.rpartition(".")[2] for name, _ in lm.named_modules()}
        targets = [name for name in PARTS if name in names]
        lora = LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,  # type: ignore[arg-type]
            lora_dropout=config.dropout,
            target_modules=targets or "all-linear",
        )
        inject_adapter_in_model(lora, lm, adapter_name="annealing")
        self._tables = _own_rows(lm, tokens)
        self._layers = [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]
        self.trained = nn.ParameterDict(
            {
                name.replace(".", "/"): parameter
                for name, parameter in lm.named_parameters()
                if parameter.requires_grad
            }
        )
        self.on = True

    def switch(self, on: bool) -> None:
        """On: recommends with the adapter. Off: the first stage's model. Takes microseconds."""
        for layer in self._layers:
            layer.enable_adapters(on)
        for table in self._tables:
            table.on = on
        self.on = on

    @contextmanager
    def switched(self, on: bool) -> Iterator[None]:
        """On or off inside the block."""
        before = self.on
        self.switch(on)
        try:
            yield
        finally:
            self.switch(before)

    def train(self, mode: bool = True) -> Annealing:
        """The model around the adapter follows: its dropout, where it has any, is part of training."""
        super().train(mode)
        self._lm[0].train(mode)
        return self


def _own_rows(lm: PreTrainedModel, tokens: Tokens) -> list[IndexRows]:
    """Trained rows in the embedding and, where it is another table, in the head."""
    embedding, head = lm.get_input_embeddings(), lm.get_output_embeddings()
    tied = embedding.weight is head.weight
    rows = [IndexRows(embedding.weight, tokens.first, tokens.count)]
    if not tied:
        rows.append(IndexRows(head.weight, tokens.first, tokens.count))
    for module, own in zip((embedding, head), (rows[0], rows[-1]), strict=True):
        parametrize.register_parametrization(module, "weight", own, unsafe=True)
    return rows
