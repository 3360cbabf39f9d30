"""From a model's states to the log-probabilities of one level's codes.

Shapes: B users, T tokens of the tree, D model width, V vocabulary, W codes of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Normalise = Literal["vocab", "level", "legal"]
"""What a code's probability is shared with, before the log-probabilities of a path are added up.

`vocab`: every token of the vocabulary, as Hugging Face's constrained beam search scores; costs the whole
head. `level`: the codes of the level, for models trained with a loss over them. `legal`: the children of the
node only; a forced code then says nothing, and paths with few siblings are favoured.
"""

LOWEST = -1e30
"""Log-probability of a legal code that the model gives none: still above any that does not exist."""


class CodeHead(Protocol):
    """How a model's states become logits."""

    def vocabulary(self, states: Tensor) -> Tensor:
        """Logits [..., V] of all tokens, float32."""

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """Logits [..., W] of some tokens, float32."""


class Head(CodeHead, Protocol):
    """The same with the causal language model that the states come from."""

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401 (passed on to the model)
        """What the model computes at its last `keep` positions, [B, keep, ...]; all where 0."""


class PlainHead:
    """A linear head over the base model's last states: only the rows asked for are multiplied.

    Scaled as the model's configuration says (Gemma's soft cap, Cohere's and Granite's factors).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.base: nn.Module = model.base_model
        self.linear: nn.Module = model.get_output_embeddings()
        config = model.config.get_text_config()
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)
        self.factor = float(getattr(config, "logit_scale", 1.0)) / float(
            getattr(config, "logits_scaling", 1.0)
        )

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Last hidden states [B, keep, D]."""
        hidden: Tensor = self.base(**inputs, use_cache=True).last_hidden_state
        return hidden[:, -keep:]

    def vocabulary(self, states: Tensor) -> Tensor:
        """The whole head."""
        return self._finished(self.linear(states))

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """The rows `ids_W` of the head, read anew each time, so that training between calls is seen."""
        bias: Tensor | None = getattr(self.linear, "bias", None)
        chosen = None if bias is None else bias[ids_W]
        weight_VD: Tensor = self.linear.weight  # type: ignore[assignment]
        return self._finished(nn.functional.linear(states, weight_VD[ids_W], chosen))

    def _finished(self, logits: Tensor) -> Tensor:
        scaled = logits * self.factor if self.factor != 1.0 else logits
        capped = scaled if self.cap is None else torch.tanh(scaled / self.cap) * self.cap
        return capped.float()


class OwnHead:
    """The model's own forward to the logits, for heads that are not a plain linear layer."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    def states(self, keep: int, **inputs: Any) -> Tensor:  # noqa: ANN401
        """Logits [B, keep, V]."""
        logits: Tensor = self.model(**inputs, use_cache=True, logits_to_keep=keep).logits
        return logits[:, -keep:]

    def vocabulary(self, states: Tensor) -> Tensor:
        """The states are the logits."""
        return states.float()

    def rows(self, states: Tensor, ids_W: Tensor) -> Tensor:
        """The logits of these tokens."""
        return states[..., ids_W].float()


class LevelHead:
    """Log-probabilities of a level's codes, under one of the three ways to normalise."""

    def __init__(self, head: CodeHead, level_ids: Sequence[Tensor], normalise: Normalise) -> None:
        self.head, self.level_ids, self.normalise = head, list(level_ids), normalise

    def codes(self, states: Tensor, level: int) -> Tensor:
        """[..., W] of all codes of the level; not normalised yet under `legal`."""
        if self.normalise == "vocab":
            logits = self.head.vocabulary(states)
            return logits[..., self.level_ids[level]] - logits.logsumexp(dim=-1, keepdim=True)
        logits = self.head.rows(states, self.level_ids[level])
        return logits if self.normalise == "legal" else logits.log_softmax(dim=-1)

    def children(self, states: Tensor, level: int, child: Tensor, code: Tensor | None) -> Tensor:
        """[..., M] of children as `Depth.below` gives them; -inf where there is none."""
        all_codes = self.codes(states, level)
        values = all_codes if code is None else all_codes.gather(-1, code)
        values = values.clamp_min(LOWEST).masked_fill(child < 0, -torch.inf)
        return values.log_softmax(dim=-1) if self.normalise == "legal" else values
