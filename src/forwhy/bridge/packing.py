"""Linear layers in oneDNN's own weight layout while writing on a CPU.

At a few rows per step a matrix product spends its time on reading and repacking the weights. Packed once and
kept, they make decoding about 1.3x faster on two cores (docs/results.md), and reading the prompts 1.1 to 1.2x;
the model's own weights stay where they are.
Shapes: B rows, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_LEAST_ROWS = 4
_USUAL_ROWS = 16
_LARGEST_BYTES = 2 << 30


class PackedLinears:
    """A second copy of a model's linear weights, made at first use.

    Only float32 weights on a CPU, at most 2 GiB of them, with a torch built with oneDNN; otherwise nothing
    happens.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, nn.Linear) and _is_plain(m)]
        total = sum(layer.weight.nbytes for layer in self._layers)
        if total > _LARGEST_BYTES or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            self._layers = []
        self._forwards: list[Callable[[Tensor], Tensor]] | None = None

    @contextmanager
    def used(self, rows: int) -> Iterator[None]:
        """Use the packed weights inside the block, for 4 rows or more; no gradients flow through them."""
        if not self._layers or rows < _LEAST_ROWS:
            yield
            return
        if self._forwards is None:
            self._forwards = [_packed(layer) for layer in self._layers]
        try:
            for layer, forward in zip(self._layers, self._forwards, strict=True):
                layer.__dict__["forward"] = forward
            yield
        finally:
            for layer in self._layers:
                layer.__dict__.pop("forward", None)


def _is_plain(layer: nn.Linear) -> bool:
    """A linear layer as torch made it: no subclass, no forward of somebody else's, float32 on a CPU."""
    if type(layer) is not nn.Linear or "forward" in layer.__dict__:
        return False
    return bool(layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu")


def _packed(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The layer's function on packed weights."""
    weight_OI, bias_O = layer.weight.detach(), layer.bias
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI, _USUAL_ROWS)

    def forward(inputs: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias_O, "none", [], "")
        return out

    return forward
