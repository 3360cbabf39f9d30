"""Cells, and product codes of what vectors differ from their cell's centre by: learnt from a sample, told of any block.

Unlike the codes of `clusters`, cells and words are not balanced: each vector gets what is nearest.
Shapes: N rows, D width, C cells, L parts of a code, P = L/2 pairs of parts, W words of a part, A axes of a part,
E = L·A axes in all, K centres, G groups.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from forwhy.vocabulary.clusters import Floats, Ints, dealt_axes

WORDS = 256
"""Of one part of a code: a byte."""
ROUNDS = 8
"""Of k-means."""
BLOCK = 2048
"""Rows whose distances are held at once: 32 MiB for 4,096 cells."""


@dataclass(frozen=True)
class CellBook:
    """Where cells lie, and the words that tell residuals: what a vector is coded with.

    Sources: Jégou et al. 2011, section IV (cells and product codes of residuals); Ge et al. 2013 (the rotation).
    """

    centres_CD: Floats
    spread_CE: Floats
    """Variance of each cell's vectors along each axis; zeros where a cell had none."""
    turn_DE: Floats
    """The principal axes of residuals, dealt to parts that vary alike; zeros where they do not suffice."""
    words_LWA: Floats

    @classmethod
    def learn(cls, x_ND: Floats, cells: int, size: int, random: np.random.Generator) -> Self:
        """From a sample, which is overwritten; `size`: L. Time O(ROUNDS·N·D·(C + W))."""
        centres_CD = _means(x_ND, cells, random)
        cell_N = nearest(x_ND, centres_CD)
        x_ND -= centres_CD[cell_N]
        turn_DE = _turn(x_ND, size)
        x_NE = x_ND @ turn_DE
        spread_CE = (
            _sums(x_NE**2, cell_N, cells) / np.maximum(np.bincount(cell_N, minlength=cells), 1)[:, None]
        )
        words = [_means(part_NA, WORDS, random) for part_NA in _parts(x_NE, size)]
        return cls(centres_CD, spread_CE.astype(np.float32), turn_DE, np.stack(words))

    def codes(self, x_ND: Floats) -> tuple[Ints, NDArray[np.uint16]]:
        """[N] each vector's cell, and [N, P] its codes: byte 2p of a code, and 256 times byte 2p + 1."""
        cell_N = nearest(x_ND, self.centres_CD)
        x_NE: Floats = np.subtract(x_ND, self.centres_CD[cell_N]) @ self.turn_DE
        parts_LNA = _parts(x_NE, len(self.words_LWA))
        codes_LN = np.stack([nearest(*part) for part in zip(parts_LNA, self.words_LWA, strict=True)])
        return cell_N, (codes_LN[::2] + WORDS * codes_LN[1::2]).T.astype(np.uint16)


def nearest(x_ND: Floats, centres_KD: Floats) -> Ints:
    """[N] the nearest centre of each row, the first of equal ones. O(N·K·D), memory O(BLOCK·K)."""
    squares_K = np.einsum("kd,kd->k", centres_KD, centres_KD)
    near_N = np.empty(len(x_ND), np.int64)
    for start in range(0, len(x_ND), BLOCK):
        far_NK = x_ND[start : start + BLOCK] @ (-2.0 * centres_KD).T
        near_N[start : start + BLOCK] = np.add(far_NK, squares_K, out=far_NK).argmin(1)
    return near_N


def _means(x_ND: Floats, k: int, random: np.random.Generator) -> Floats:
    """[k, D] by Lloyd's k-means; a centre that nothing is near begins again at a row."""
    centres_KD = x_ND[random.choice(len(x_ND), k, replace=len(x_ND) < k)]
    for _ in range(ROUNDS):
        near_N = nearest(x_ND, centres_KD)
        sizes_K = np.bincount(near_N, minlength=k)
        centres_KD = np.asarray(_sums(x_ND, near_N, k) / np.maximum(sizes_K, 1)[:, None], np.float32)
        centres_KD[sizes_K == 0] = x_ND[random.choice(len(x_ND), int((sizes_K == 0).sum()))]
    return centres_KD


def _sums(x_ND: Floats, group_N: Ints, groups: int) -> Floats:
    """[G, D] sums of the rows of each group."""
    sizes_G = np.bincount(group_N, minlength=groups)
    used, sums_GD = np.flatnonzero(sizes_G), np.zeros((groups, x_ND.shape[1]), np.float32)
    starts_G = np.cumsum(sizes_G) - sizes_G
    sums_GD[used] = np.add.reduceat(x_ND[group_N.argsort(kind="stable")], starts_G[used])
    return sums_GD


def _turn(x_ND: Floats, parts: int) -> Floats:
    variances_D, axes_DD = np.linalg.eigh((x_ND.T @ x_ND).astype(np.float64))
    more = -len(variances_D) % parts
    dealt_LA = dealt_axes(np.pad(variances_D[::-1], (0, more)), parts, (len(variances_D) + more) // parts)
    turn_DE: Floats = np.pad(axes_DD[:, ::-1], ((0, 0), (0, more)))[:, dealt_LA.ravel()].astype(np.float32)
    return turn_DE


def _parts(x_NE: Floats, parts: int) -> Floats:
    """[L, N, A] the same numbers, part by part."""
    return np.ascontiguousarray(x_NE.reshape(len(x_NE), parts, -1).transpose(1, 0, 2))
