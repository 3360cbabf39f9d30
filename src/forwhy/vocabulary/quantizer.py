"""Vector quantisation: nearest codeword, straight-through gradients, living codebooks.

Source: BEAT eq. 4 and 5; van den Oord et al. 2017 (VQ-VAE); Fifty et al. 2024 (rotation trick).
Legend: B vectors, K codewords, M width.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Quantized", "Quantizer", "kmeans", "nearest"]


class Quantized(NamedTuple):
    """What quantising B vectors gives."""

    vectors: Tensor
    """[B, M] codewords, with gradients to the inputs."""
    codes: Tensor
    """[B] index of each codeword."""
    loss: Tensor
    """eq. 5, L_VQ as means: codebook term (gradient codebooks only) + eta · commitment."""


def nearest(x_BM: Tensor, codebook_KM: Tensor, block: int = 65536) -> Tensor:
    """[B] index of the codeword at the smallest L2 distance (eq. 4); O(B·K·M) time, block·K memory."""
    half_K = 0.5 * (codebook_KM * codebook_KM).sum(1)
    parts = [torch.addmm(-half_K, part, codebook_KM.T).argmax(1) for part in torch.split(x_BM, block)]
    return torch.cat(parts) if parts else x_BM.new_zeros(0, dtype=torch.long)


@torch.no_grad()
def kmeans(x_BM: Tensor, codes: int, generator: torch.Generator, iterations: int = 15) -> Tensor:
    """[K, M] centres by Lloyd's iterations from random members; empty centres restart at random members.

    With fewer vectors than codes the spare centres are slightly moved copies. Time O(iterations·B·K·M).
    """
    rows = torch.randperm(len(x_BM), generator=generator)
    rows = rows.repeat(-(-codes // max(len(rows), 1)))[:codes]
    noise = torch.randn(codes, x_BM.shape[1], generator=generator) * 1e-4
    centres = x_BM[rows] + noise.to(x_BM) * x_BM.std()
    for _ in range(iterations):
        members = nearest(x_BM, centres)
        counts = torch.bincount(members, minlength=codes)
        sums = torch.zeros_like(centres).index_add_(0, members, x_BM)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
        empty = (~filled).nonzero().ravel()
        centres[empty] = x_BM[torch.randint(len(x_BM), (len(empty),), generator=generator)]
    return centres


class Quantizer(nn.Module):
    """One codebook. Training calls move it (EMA) or let gradients do so; evaluation calls only read it."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        *,
        commitment: float = 0.5,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        estimator: Literal["straight-through", "rotation"] = "straight-through",
        restart_after: int = 0,
    ) -> None:
        """`restart_after`: steps without a win after which a codeword restarts; 0 = never."""
        super().__init__()
        self.commitment, self.update, self.decay = commitment, update, decay
        self.estimator, self.restart_after = estimator, restart_after
        start = torch.empty(codes, dim).uniform_(-1 / codes, 1 / codes)
        if update == "gradient":
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("counts", torch.ones(codes))
            self.register_buffer("sums", start.clone())
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))

    @torch.no_grad()
    def start_at(self, centres_KM: Tensor, members: Tensor) -> None:
        """Put the codewords at given centres; `members` [B], the code of each vector, set the EMA counts."""
        self.codebook.copy_(centres_KM)
        if self.update == "ema":
            counts = torch.bincount(members, minlength=len(centres_KM)).to(self.counts)
            self.counts.copy_(counts.clamp_min(1e-3) / counts.mean())
            self.sums.copy_(self.codebook * self.counts[:, None])

    def forward(self, x_BM: Tensor, learn: bool = True) -> Quantized:
        """Quantise B vectors; in training mode, unless told not to `learn`, also update the codebook's statistics."""
        codes = nearest(x_BM.detach(), self.codebook.detach())
        words = F.embedding(codes, self.codebook)
        loss = self.commitment * F.mse_loss(x_BM, words.detach())
        if self.update == "gradient":
            loss = loss + F.mse_loss(words, x_BM.detach())
        if self.training and learn:
            self._learn(x_BM.detach(), codes)
        return Quantized(self._pass_gradients(x_BM, words.detach()), codes, loss)

    def _pass_gradients(self, x_BM: Tensor, words_BM: Tensor) -> Tensor:
        if self.estimator == "straight-through":
            return x_BM + (words_BM - x_BM).detach()
        return _rotate(x_BM, words_BM)

    @torch.no_grad()
    def _learn(self, x_BM: Tensor, codes: Tensor) -> None:
        wins = torch.bincount(codes, minlength=len(self.codebook))
        self.idle.add_(1).masked_fill_(wins > 0, 0)
        if self.update == "ema":
            share = wins.to(x_BM) * (len(wins) / max(len(codes), 1))
            sums = torch.zeros_like(self.sums).index_add_(0, codes, x_BM) * (len(wins) / max(len(codes), 1))
            self.counts.lerp_(share, 1 - self.decay)
            self.sums.lerp_(sums, 1 - self.decay)
            self.codebook.copy_(self.sums / self.counts.clamp_min(1e-6)[:, None])
        if self.restart_after:
            self._restart(x_BM)

    def _restart(self, x_BM: Tensor) -> None:
        dead = (self.idle >= self.restart_after).nonzero().ravel()
        if not len(dead):
            return
        fresh = x_BM[torch.randint(len(x_BM), (len(dead),), device=x_BM.device)]
        self.codebook.data[dead] = fresh
        self.idle[dead] = 0
        if self.update == "ema":
            self.counts[dead] = 1.0
            self.sums[dead] = fresh


def _rotate(x_BM: Tensor, words_BM: Tensor) -> Tensor:
    """The codeword as a rotation and scaling of the input, held constant in the backward pass."""
    from_unit = F.normalize(x_BM.detach(), dim=1)
    to_unit = F.normalize(words_BM, dim=1)
    middle = F.normalize(from_unit + to_unit, dim=1)
    scale = words_BM.norm(dim=1, keepdim=True) / x_BM.detach().norm(dim=1, keepdim=True).clamp_min(1e-9)
    mirrored = x_BM - 2 * (x_BM * middle).sum(1, keepdim=True) * middle
    turned = mirrored + 2 * (x_BM * from_unit).sum(1, keepdim=True) * to_unit
    rotated: Tensor = turned * scale
    return rotated
