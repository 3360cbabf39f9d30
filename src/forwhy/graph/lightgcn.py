"""LightGCN propagation (BEAT eq. 2 and 3; XRec eq. 7 and 8; He et al. 2020).

Legend: U users, I items, E edges, D width, K layers.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from forwhy.graph.bipartite import Bipartite

__all__ = ["Propagation"]

Pair = tuple[Tensor, Tensor]


def _layers(matrices: Pair, layers: int, scale: float, user_UD: Tensor, item_ID: Tensor) -> Pair:
    """Scale · (1 + S + … + S^K) of both tables, S = [0 A; A^T 0], as e + S(e + S(e + …)): products add in place."""
    if not layers:
        return scale * user_UD, scale * item_ID
    to_users, to_items = matrices
    user, item = user_UD, item_ID
    for layer in range(layers):
        share = scale if layer == layers - 1 else 1.0
        user, item = (
            torch.addmm(user_UD, to_users, item, beta=share, alpha=share),
            torch.addmm(item_ID, to_items, user, beta=share, alpha=share),
        )
    return user, item


class _Propagate(Function):
    """`_layers`; it is linear and symmetric, so its backward pass is itself and nothing is kept for it."""

    @staticmethod
    def forward(context: Any, matrices: Pair, layers: int, scale: float, user: Tensor, item: Tensor) -> Pair:  # noqa: ANN401
        context.map = (matrices, layers, scale)
        return _layers(matrices, layers, scale, user, item)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor, Tensor]:  # noqa: ANN401
        user, item = (gradient.contiguous() for gradient in gradients)
        matrices, layers, scale = context.map
        return None, None, None, *_layers(matrices, layers, scale, user, item)


class Propagation:
    """Propagates over a fixed graph: no weights, no self loops, no dropout.

    One call costs O(K · E · D) time and 2 · (U + I) · D numbers of memory, its gradient as much again.
    """

    def __init__(self, graph: Bipartite, layers: int) -> None:
        self.layers = layers
        matrix = graph.normalised
        self._matrices = _sparse(matrix), _sparse(matrix.T.tocsr())

    def __call__(self, user_UD: Tensor, item_ID: Tensor) -> Pair:
        """Mean over layers 0..K of the propagated tables, on their device; differentiable in both."""
        return self.combined(user_UD, item_ID, self.layers, 1 / (self.layers + 1))

    def combined(self, user_UD: Tensor, item_ID: Tensor, layers: int, scale: float) -> Pair:
        """`scale` times the sum over layers 0 to `layers`; the rest as above."""
        if self._matrices[0].device != user_UD.device:
            self._matrices = self._matrices[0].to(user_UD.device), self._matrices[1].to(user_UD.device)
        propagate: Callable[..., Pair] = _Propagate.apply
        return propagate(self._matrices, layers, scale, user_UD, item_ID)


def _sparse(matrix: Any) -> Tensor:  # noqa: ANN401
    """A scipy CSR matrix as a torch CSR tensor, float32; with 32-bit indices, which MKL reads without a copy."""
    parts = (matrix.indptr.astype("int32"), matrix.indices.astype("int32"), matrix.data.astype("float32"))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse", category=UserWarning
        )  # "beta state" since torch 1.13
        rows, columns, values = (torch.from_numpy(part) for part in parts)
        return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape)
