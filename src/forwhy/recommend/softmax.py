"""Cross-entropy over the whole catalogue without the whole matrix of logits, or over a part that stands for it.

Shapes: N predictions (C of one chunk), I items, D width, T items that are targets, M negatives.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Context = Any
"""Where autograd keeps tensors."""
CHUNK_LOGITS = 1 << 20
"""Logits held at once (4 bytes each): 4 MiB, so that a chunk stays in a core's cache from product to gradient."""
LEAST_ROWS = 64
"""Of a chunk, however large the catalogue: each chunk walks over the whole table once more."""


def catalogue_cross_entropy(
    states_ND: Tensor, table_ID: Tensor, targets_N: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Mean of -log softmax(states table^T)[target], the target smoothed over all items.

    Equals `torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing)`; loss and gradients come from
    one walk over chunks of predictions, three matrix products each. Time O(N·I·D), memory O(I·D) and `CHUNK_LOGITS`, or
    `LEAST_ROWS`·I where that is more. Under autocast logits and products are of its type, sums over items and over
    chunks are not.
    """
    loss: Tensor = _CrossEntropy.apply(states_ND, table_ID, targets_N, smoothing)  # type: ignore[no-untyped-call]
    return loss


def sampled_cross_entropy(
    states_ND: Tensor, table_ID: Tensor, targets_N: Tensor, negatives: int, smoothing: float = 0.0
) -> Tensor:
    """`catalogue_cross_entropy` over all targets of these predictions and `negatives` of the other items.

    These are drawn evenly, and each weighs as many items as it stands for, (I - T) / M: then the sum over the catalogue
    that a softmax divides by is right on average (stratified sampling), whatever the draw. With 0 negatives, or no
    fewer than there are other items, it is the whole catalogue. `smoothing` spreads over the items that are taken part.
    Time O(N·(T + M)·D + I), memory O(CHUNK_LOGITS + (T + M)·D), with gradients of the table O(I·D).
    """
    own_T = torch.unique(targets_N)
    others = len(table_ID) - len(own_T)
    if not 0 < negatives < others:
        return catalogue_cross_entropy(states_ND, table_ID, targets_N, smoothing)
    ranks_M = torch.randperm(others, device=own_T.device)[:negatives]  # among the items that are no targets
    below_M = torch.searchsorted(own_T - torch.arange(len(own_T), device=own_T.device), ranks_M, right=True)
    part_ID = table_ID[torch.cat([own_T, ranks_M + below_M])]
    # What an item weighs is added to its logit: one number more in each vector, and in each state a one.
    weights_I1 = part_ID.new_zeros(len(part_ID), 1)
    weights_I1[len(own_T) :] = math.log(others / negatives)
    states_ND = torch.cat([states_ND, states_ND.new_ones(len(states_ND), 1)], 1)
    part_ID = torch.cat([part_ID, weights_I1], 1)
    return catalogue_cross_entropy(states_ND, part_ID, torch.searchsorted(own_T, targets_N), smoothing)


class _CrossEntropy(Function):
    """Computes the gradients along with the loss; backward only scales them."""

    @staticmethod
    def forward(context: Context, states: Tensor, table: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else table.dtype
        to_states, to_table = torch.empty_like(states), torch.zeros_like(table)
        total = states.new_zeros((), dtype=torch.float64)
        narrow, narrow_table = states.to(dtype), table.to(dtype)
        size = max(LEAST_ROWS, CHUNK_LOGITS // len(table))
        # One buffer for all chunks: fresh memory of this size costs more than the product that fills it.
        buffer = narrow.new_empty(min(size, len(states)), len(table))
        for start in range(0, len(states), size):
            part = slice(start, start + size)
            logits = torch.mm(narrow[part], narrow_table.T, out=buffer[: len(states[part])])
            loss, sums = _chunk(logits, targets[part], smoothing)
            total += loss
            to_states[part] = torch.mm(logits, narrow_table) / sums
            by_sums = (states[part] / sums).to(dtype)
            if dtype == table.dtype:
                to_table.addmm_(logits.T, by_sums)
            else:  # summed over chunks in full
                to_table += torch.mm(logits.T, by_sums)
        count = max(len(states), 1)
        context.save_for_backward(to_states / count, to_table / count)
        return (total / count).to(table.dtype)

    @staticmethod
    def backward(context: Context, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_states, to_table = context.saved_tensors
        return scale * to_states, scale * to_table, None, None


def _chunk(logits_CI: Tensor, targets_C: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The chunk's losses, summed, and [C, 1] what the logits' gradients, which replace them, are to be divided by."""
    own_C1 = logits_CI.gather(1, targets_C[:, None])
    wide = torch.promote_types(logits_CI.dtype, torch.float32)
    mean = logits_CI.mean(1, dtype=wide).double().sum() if smoothing else 0.0
    top_C1 = logits_CI.amax(1, keepdim=True)
    weights_CI = logits_CI.sub_(top_C1).exp_()
    sums_C1 = weights_CI.sum(1, keepdim=True, dtype=wide)
    all_ = (top_C1 + sums_C1.log()).double().sum()
    loss = all_ - (1 - smoothing) * own_C1.double().sum() - smoothing * mean
    weights_CI.scatter_add_(1, targets_C[:, None], ((smoothing - 1) * sums_C1).to(weights_CI.dtype))
    if smoothing:
        weights_CI.sub_(sums_C1 * (smoothing / logits_CI.shape[1]))
    return loss, sums_C1
