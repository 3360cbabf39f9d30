"""Cross-entropy over the whole catalogue without the whole matrix of logits.

Shapes: N predictions (C of one chunk), I items, D width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["CHUNK_LOGITS", "catalogue_cross_entropy"]

CHUNK_LOGITS = 1 << 20
"""Logits held at once (4 bytes each): 4 MiB, so that a chunk stays in a core's cache from product to gradient."""


def catalogue_cross_entropy(
    states_ND: Tensor, table_ID: Tensor, targets_N: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Mean of -log softmax(states table^T)[target], the target smoothed over all items.

    Equals `torch.nn.functional.cross_entropy(states @ table.T, targets, label_smoothing=smoothing)`; loss and
    gradients come from one walk over chunks of predictions, three matrix products each. Time O(N·I·D), memory
    O(CHUNK_LOGITS + I·D) whatever N.
    """
    loss: Tensor = _CrossEntropy.apply(states_ND, table_ID, targets_N, smoothing)  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(Function):
    """Computes the gradients along with the loss; backward only scales them."""

    @staticmethod
    def forward(context: Any, states: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> Tensor:  # noqa: ANN401
        to_states, to_table = torch.empty_like(states), torch.zeros_like(table)
        total = states.new_zeros((), dtype=torch.float64)
        size = max(1, CHUNK_LOGITS // len(table))
        for start in range(0, len(states), size):
            part = slice(start, start + size)
            total += _chunk(states[part], table, targets[part], smoothing, to_states[part], to_table)
        count = max(len(states), 1)
        context.save_for_backward(to_states / count, to_table / count)
        return (total / count).to(states.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:  # noqa: ANN401
        to_states, to_table = context.saved_tensors
        return gradients[0] * to_states, gradients[0] * to_table, None, None


def _chunk(
    states_CD: Tensor,
    table_ID: Tensor,
    targets_C: Tensor,
    smoothing: float,
    to_states_CD: Tensor,
    to_table_ID: Tensor,
) -> Tensor:
    """The sum of the chunk's losses; writes its states' gradient, adds its share to the table's."""
    logits_CI = states_CD @ table_ID.T
    own_C1 = logits_CI.gather(1, targets_C[:, None])
    mean = logits_CI.mean(1).double().sum() if smoothing else 0.0
    top_C1 = logits_CI.amax(1, keepdim=True)
    weights_CI = logits_CI.sub_(top_C1).exp_()
    sums_C1 = weights_CI.sum(1, keepdim=True)
    loss = (
        (top_C1 + sums_C1.log()).double().sum() - (1 - smoothing) * own_C1.double().sum() - smoothing * mean
    )
    weights_CI.div_(sums_C1)
    weights_CI.scatter_add_(1, targets_C[:, None], torch.full_like(own_C1, smoothing - 1))
    if smoothing:
        weights_CI.sub_(smoothing / len(table_ID))
    torch.mm(weights_CI, table_ID, out=to_states_CD)
    to_table_ID.addmm_(weights_CI.T, states_CD)
    return loss
