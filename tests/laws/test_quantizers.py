"""The quantizer laws hold for ours and for vector-quantize-pytorch, and catch wrong ones."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from forwhy.testing import quantizer_laws
from forwhy.vocabulary.quantizer import Quantizer


def points(count: int = 64, dim: int = 5) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("estimator", ["straight-through", "rotation"])
def test_our_quantizer_obeys(
    update: Literal["ema", "gradient"], estimator: Literal["straight-through", "rotation"]
) -> None:
    quantizer = Quantizer(16, 5, update=update, estimator=estimator)
    quantizer(points())
    quantizer_laws(quantizer, points())


def test_an_independent_quantizer_obeys_the_same_laws() -> None:
    library = pytest.importorskip("vector_quantize_pytorch")
    quantizer_laws(library.VectorQuantize(dim=5, codebook_size=16), points())


class Wrong(nn.Module):
    """Offends in one way."""

    def __init__(self, offence: str) -> None:
        super().__init__()
        self.offence = offence
        self.register_buffer("codebook", points(16) * 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        codes = torch.cdist(x, self.codebook).argmin(1)
        if self.offence == "farthest":
            codes = torch.cdist(x, self.codebook).argmax(1)
        if self.offence == "batch" and len(x) == 1:
            codes = (codes + 1) % 16
        vectors = self.codebook[codes]
        if self.offence == "learns":
            self.codebook += 0.01
        return (vectors * 1.1 if self.offence == "scaled" else vectors), codes


@pytest.mark.parametrize("offence", ["farthest", "batch", "scaled", "learns"])
def test_offenders_are_caught(offence: str) -> None:
    quantizer_laws(Wrong("none"), points())
    with pytest.raises(AssertionError):
        quantizer_laws(Wrong(offence), points())
