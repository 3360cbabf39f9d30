"""The items that exist, as a tree of codes held in a few tensors.

Nodes of one depth are numbered in the order of their prefixes, so a node's children are neighbours, and ties go to the
lower prefix. Shapes: N items, L levels, W codes of a level, B users, K beams, M most children of a node of that depth.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Codes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Depth:
    """Nodes of one depth and the edges below them, as rows of children (CSR)."""

    start: Tensor
    """[nodes + 1] number of each node's first child."""
    code: Tensor
    """[children] code on the edge to each child."""
    most: int
    """Children of the node with most."""
    width: int
    """Codes of this level."""

    def below(self, nodes_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Children [B, K, M] of nodes, -1 where there is none, and their codes, then 0."""
        start_BK1 = self.start[nodes_BK].long()[..., None]
        child_BKM = start_BK1 + torch.arange(self.most, device=nodes_BK.device)
        absent = child_BKM >= self.start[nodes_BK + 1].long()[..., None]
        code_BKM = self.code[child_BKM.clamp_max(len(self.code) - 1)].long().masked_fill(absent, 0)
        return child_BKM.masked_fill(absent, -1), code_BKM

    def parents(self, first: int, last: int) -> Tensor:
        """Parents [last - first] of a run of children."""
        children = torch.arange(first, last, device=self.start.device, dtype=self.start.dtype)
        return torch.searchsorted(self.start, children, right=True) - 1


@dataclass(frozen=True, eq=False)
class CodeTrie:
    """Every item's path of L codes; a path that is no item cannot be walked.

    Memory beside the codes, which are kept as they came: 8 bytes per node and 4 more per item; 10^6 items with four
    codes of 256 take about 17 MB.
    """

    depths: tuple[Depth, ...]
    items: Tensor
    """[N] item number of each leaf; leaves are in the order of their codes."""
    codes_NL: Codes
    """What it was made from."""

    @classmethod
    def from_codes(cls, codes_NL: Codes, sizes: Sequence[int]) -> Self:
        """Build from the codes of all items, row = item number, no two alike; `sizes`: codes per level."""
        order_N = np.lexsort(codes_NL.T[::-1])
        sorted_NL = codes_NL[order_N]
        # Whether a sorted row differs from the one before in one of its first codes.
        differs_NL = np.logical_or.accumulate(sorted_NL[1:] != sorted_NL[:-1], axis=1)
        depths = []
        above = np.zeros(1, dtype=np.int64)  # first leaf of each node
        for level, width in enumerate(sizes):
            below = np.flatnonzero(np.concatenate([[True], differs_NL[:, level]]))
            start = np.append(np.searchsorted(below, above), len(below))
            first, code = (torch.from_numpy(it.astype(np.int32)) for it in (start, sorted_NL[below, level]))
            depths.append(Depth(first, code, int(np.diff(start).max()), int(width)))
            above = below
        return cls(tuple(depths), torch.from_numpy(order_N.astype(np.int32)), codes_NL)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def levels(self) -> int:
        """Codes per item, L."""
        return len(self.depths)

    def determined(self, nodes: Tensor, level: int) -> bool:
        """Whether each of these nodes at depth `level` leads to one item only."""
        for depth in self.depths[level:]:
            first = depth.start[nodes]
            if not bool((depth.start[nodes + 1] - first == 1).all()):
                return False
            nodes = first.long()
        return True

    def to(self, device: torch.device | str) -> Self:
        """On another device."""
        depths = tuple(replace(it, start=it.start.to(device), code=it.code.to(device)) for it in self.depths)
        return replace(self, depths=depths, items=self.items.to(device))
