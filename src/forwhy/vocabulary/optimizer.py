"""Adam that touches only the rows of a table that a step read.

Legend: N rows of a table, D width, R rows with a gradient.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["LazyAdam"]


class LazyAdam(Optimizer):
    """Adam for dense gradients, and its lazy form (torch's SparseAdam) for sparse ones, in one optimiser.

    A step costs O(R·D) for a table [N, D] with a sparse gradient, so an epoch over E interactions costs O(E·D)
    whatever N is. Rows that a step doesn't touch keep their moments as they are.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. A closure is not supported."""
        if closure is not None:
            raise ValueError("LazyAdam takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        (first, second), step = group["betas"], state["step"]
        rows, gradient = _rows(parameter.grad)
        mean = state["exp_avg"][rows].lerp_(gradient, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        size = group["lr"] / (1 - first**step)
        parameter[rows] -= size * mean / ((square / (1 - second**step)).sqrt() + group["eps"])


def _rows(gradient: Tensor | None) -> tuple[Any, Tensor]:
    """Which rows have a gradient, and what it is; everything for a dense one."""
    assert gradient is not None
    if not gradient.is_sparse:
        return ..., gradient
    together = gradient.coalesce()
    return together.indices()[0], together.values()
