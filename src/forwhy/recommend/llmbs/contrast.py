"""Global contrast decompression: the state of CON tells its item's vectors from other items' (LLM-BS eq. 5).

Shapes: N items, T targets, M negatives, D model width, E width of a source's vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from forwhy.errors import UserError
from forwhy.recommend.llmbs.config import ContrastConfig

__all__ = ["Contrast", "info_nce"]


class Contrast(nn.Module):
    """One projector per source, and the sources' vectors; all of it is dropped after training."""

    def __init__(
        self, width: int, items: int, vectors: Mapping[str, NDArray[np.floating]], config: ContrastConfig
    ) -> None:
        """`vectors`: source -> [N, E]; those of weight 0 are left out.

        Raises:
            UserError: not one row per item, or a number that is not finite.
        """
        super().__init__()
        self.config = config
        self.weights = {source: weight for source, weight in config.weights.items() if source in vectors}
        self.projectors = nn.ModuleDict()
        for source in self.weights:
            table = vectors[source]
            if len(table) != items:
                raise UserError(
                    f"contrast: {len(table):,} {source} vectors for {items:,} items; give one row per item"
                )
            if not np.isfinite(table).all():
                item = int(np.argwhere(~np.isfinite(table))[0, 0])
                raise UserError(
                    f"contrast: the {source} vector of item number {item} is not finite; make it again"
                )
            normal_NE = F.normalize(torch.tensor(np.asarray(table, np.float32)), dim=1)
            self.register_buffer(f"{source}_NE", normal_NE, persistent=False)
            self.projectors[source] = _projector(width, table.shape[1], config)

    def forward(self, states_TD: Tensor, targets_T: Tensor, negatives_M: Tensor) -> dict[str, Tensor]:
        """The parts and, as `contrast`, their weighted sum; zeros without targets."""
        normal_TD = F.normalize(states_TD.float(), dim=1)
        others_M = torch.cat([negatives_M, targets_T]) if self.config.in_batch else negatives_M
        others_M = torch.unique(others_M)
        parts = {}
        for source in self.weights:
            z_NE: Tensor = getattr(self, f"{source}_NE")
            parts[source] = info_nce(
                self.projectors[source](normal_TD), z_NE, targets_T, others_M, self.config.temperature
            )
        total = torch.stack([weight * parts[source] for source, weight in self.weights.items()]).sum()
        return {"contrast": total, **{source: part.detach() for source, part in parts.items()}}


def info_nce(
    found_TE: Tensor, z_NE: Tensor, targets_T: Tensor, others_M: Tensor, temperature: float
) -> Tensor:
    """Mean over targets of -log of the target's share among itself and the other items, by cosine; eq. 5.

    `z_NE` has rows of norm 1. Where the target is among the others it counts once. One product with the negatives
    for all targets: O(T M E).
    """
    found_TE = F.normalize(found_TE, dim=1)
    own_T1 = (found_TE * z_NE[targets_T]).sum(1, keepdim=True)
    apart_TM = (found_TE @ z_NE[others_M].T).masked_fill(others_M[None] == targets_T[:, None], -torch.inf)
    logits = torch.cat([own_T1, apart_TM], dim=1) / temperature
    return (logits.logsumexp(1) - logits[:, 0]).sum() / max(len(targets_T), 1)


def _projector(width: int, out: int, config: ContrastConfig) -> nn.Module:
    if config.projector == "linear":
        return nn.Linear(width, out)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, out))
