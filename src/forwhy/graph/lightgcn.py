"""LightGCN propagation with the mean over layers (BEAT eq. 2 and 3; He et al. 2020).

Legend: U users, I items, E edges, D width, K layers.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from forwhy.graph.bipartite import Bipartite

__all__ = ["Propagation"]


class _Multiply(torch.autograd.Function):
    """A constant sparse matrix times a dense one; the backward pass multiplies by the transpose."""

    @staticmethod
    def forward(context: Any, matrix: Tensor, transpose: Tensor, dense: Tensor) -> Tensor:  # noqa: ANN401
        context.transpose = transpose
        return matrix @ dense

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:  # noqa: ANN401
        return None, None, context.transpose @ gradients[0]


class Propagation:
    """Propagates over a fixed graph: no weights, no self loops, no dropout.

    One call costs O(K · E · D) time and K · (U + I) · D numbers of memory.
    """

    def __init__(self, graph: Bipartite, layers: int) -> None:
        self.layers = layers
        matrix = graph.normalised
        self._to_users = _sparse(matrix)
        self._to_items = _sparse(matrix.T.tocsr())

    def __call__(self, user_UD: Tensor, item_ID: Tensor) -> tuple[Tensor, Tensor]:
        """Mean over layers 0..K of the propagated tables, on their device; differentiable in both."""
        user_sum, item_sum = self.total(user_UD, item_ID, self.layers)
        return user_sum / (self.layers + 1), item_sum / (self.layers + 1)

    def total(self, user_UD: Tensor, item_ID: Tensor, layers: int) -> tuple[Tensor, Tensor]:
        """Sum over layers 0 to `layers`; the rest as above."""
        if self._to_users.device != user_UD.device:
            self._to_users = self._to_users.to(user_UD.device)
            self._to_items = self._to_items.to(user_UD.device)
        multiply: Callable[..., Tensor] = _Multiply.apply
        user_sum, item_sum = user_UD, item_ID
        for _ in range(layers):
            user_UD, item_ID = (
                multiply(self._to_users, self._to_items, item_ID),
                multiply(self._to_items, self._to_users, user_UD),
            )
            user_sum, item_sum = user_sum + user_UD, item_sum + item_ID
        return user_sum, item_sum


def _sparse(matrix: Any) -> Tensor:  # noqa: ANN401
    """A scipy CSR matrix as a torch CSR tensor, float32."""
    parts = (matrix.indptr.astype("int64"), matrix.indices.astype("int64"), matrix.data.astype("float32"))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Sparse", category=UserWarning
        )  # "beta state" since torch 1.13
        rows, columns, values = (torch.from_numpy(part) for part in parts)
        return torch.sparse_csr_tensor(rows, columns, values, size=matrix.shape)
