"""Hierarchical codes: items split into k clusters, these into k again, until a cluster's items fit into one level.

Source: LLM-BS section on DKI ("each cluster divided into k children until a single item"); the released code fills its
tree by duplicating items, this one by clusters of equal size, so that no item has two leaves and no code collides.
Legend: N items, D width, L levels, G clusters of one size, n items in each.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.progress import Progress
from forwhy.vocabulary.indices.balanced import BLOCK, checked_vectors, places, ranks, split

__all__ = ["LeafOrder", "even_width", "hierarchical_codes", "needed_depth", "random_codes", "tree_shape"]

LeafOrder = Literal["pca", "distance", "random"]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

PAPER_WIDTH = 256


def needed_depth(items: int, width: int) -> int:
    """The fewest levels of `width` codes that tell so many items apart: ceil(log_width items), at least 1."""
    depth, room = 1, width
    while room < items and width > 1:
        depth, room = depth + 1, room * width
    return depth


def even_width(items: int, depth: int) -> int:
    """The fewest codes per level with which `depth` levels tell so many items apart: ceil(items^(1/depth))."""
    width = max(int(items ** (1.0 / depth)), 1)
    while width**depth < items:
        width += 1
    while width > 1 and (width - 1) ** depth >= items:
        width -= 1
    return width


def tree_shape(items: int, width: int | Literal["auto"], depth: int | Literal["auto"]) -> tuple[int, int]:
    """Width and depth for so many items, with what is "auto" derived.

    Raises:
        UserError: more items than codes; names the depth or width that would do.
    """
    if depth == "auto":
        depth = needed_depth(items, PAPER_WIDTH if width == "auto" else width)
    if width == "auto":
        width = even_width(items, depth)
    if width**depth < items:
        raise UserError(
            f"width {width} and depth {depth}: {width**depth:,} codes for {items:,} items; "
            f"use depth {needed_depth(items, width)} or width {even_width(items, depth)}"
        )
    return width, depth


def hierarchical_codes(
    vectors_ND: NDArray[np.floating],
    width: int,
    depth: int,
    leaf_order: LeafOrder = "pca",
    seed: int = 0,
    iterations: int = 16,
    name: str = "vectors",
) -> Codes:
    """Codes [N, depth], every row once. The same input and seed give the same bytes.

    A cluster of at most `width` items numbers them at once, by `leaf_order`; levels below are 0. All clusters of a
    level are split together. Time of N·width distances and 3 exponentials per iteration and level; 10^6 items of
    64 coordinates take a few minutes on two cores, and memory for 3 copies of the vectors and a few 64 MiB blocks.

    Raises:
        UserError: more items than codes, or vectors that are no table of finite numbers (`name` in the message).
    """
    x_ND = checked_vectors(vectors_ND, name)
    tree_shape(len(x_ND), width, depth)
    grower = _Grower(x_ND, width, leaf_order, np.random.default_rng(seed), iterations)
    return grower.codes(depth)


def random_codes(items: int, width: int, depth: int, seed: int = 0) -> Codes:
    """Codes [N, depth] that say nothing about the items; every row once.

    Levels beyond those that N items need repeat the draw, so that random and unit indices of one length are alike in
    everything but meaning.

    Raises:
        UserError: more items than codes.
    """
    tree_shape(items, width, depth)
    random, least = np.random.default_rng(seed), needed_depth(items, width)
    codes_NL = np.empty((items, depth), np.int32)
    for level in range(depth):
        if level % least == 0:
            rest = random.permutation(items)
        codes_NL[:, level] = rest % width
        rest = rest // width
    return codes_NL


class _Grower:
    """The tree while it grows: items in the order of their clusters, and where each cluster starts."""

    def __init__(
        self,
        x_ND: Floats,
        width: int,
        leaf_order: LeafOrder,
        random: np.random.Generator,
        iterations: int,
    ) -> None:
        self.x_ND, self.width, self.leaf_order = x_ND, width, leaf_order
        self.random, self.iterations = random, iterations
        self.axis_D = _first_axis(x_ND)

    def codes(self, depth: int) -> Codes:
        codes_NL = np.zeros((len(self.x_ND), depth), np.int32)
        order_N, starts_C = np.arange(len(self.x_ND)), np.zeros(1, np.int64)
        with Progress("indexing items", len(self.x_ND) * depth) as progress:
            for level in range(depth):
                for rows_Gn in _equal_clusters(order_N, starts_C):
                    for part_Gn in np.array_split(rows_Gn, self._parts(rows_Gn)):
                        codes_NL[part_Gn, level] = self._children(part_Gn)
                        progress.advance(part_Gn.size)
                order_N, starts_C = _regroup(codes_NL, order_N, starts_C, level)
        return codes_NL

    def _parts(self, rows_Gn: Ints) -> int:
        """Into how many blocks clusters are cut so that a block's distances (or Gram matrices) stay in the cache."""
        clusters, items = rows_Gn.shape
        numbers = max(items * min(items, self.width), items * self.x_ND.shape[1])
        return int(min(clusters, -(-clusters * numbers // (BLOCK // 8))))

    def _children(self, rows_Gn: Ints) -> Ints:
        """[G, n] the next code of each item in G clusters."""
        x_GnD = self.x_ND[rows_Gn]
        if rows_Gn.shape[1] > self.width:
            return split(x_GnD, self.width, self.random, self.iterations)
        if self.leaf_order == "random":
            return places(self.random.random(rows_Gn.shape))
        if self.leaf_order == "distance":
            return places(((x_GnD - x_GnD.mean(1, keepdims=True)) ** 2).sum(2))
        return ranks(x_GnD, self.axis_D)


def _equal_clusters(order_N: Ints, starts_C: Ints) -> list[Ints]:
    """Items by cluster, [G, n], one array per size n: two at most, as sizes differ by one."""
    sizes_C = np.diff(np.append(starts_C, len(order_N)))
    return [
        order_N[starts_C[sizes_C == size][:, None] + np.arange(size)] for size in np.unique(sizes_C).tolist()
    ]


def _regroup(codes_NL: Codes, order_N: Ints, starts_C: Ints, level: int) -> tuple[Ints, Ints]:
    """Items in the order of the clusters after one more level, and where these start."""
    cluster_N = np.zeros(len(order_N), np.int64)
    cluster_N[starts_C[1:]] = 1
    cluster_N = np.cumsum(cluster_N)
    code_N = codes_NL[order_N, level].astype(np.int64)
    turn = np.lexsort((code_N, cluster_N))
    changed = (np.diff(cluster_N[turn]) != 0) | (np.diff(code_N[turn]) != 0)
    return order_N[turn], np.append(0, np.flatnonzero(changed) + 1)


def _first_axis(x_ND: Floats, steps: int = 20) -> Floats:
    """The first principal axis by power iteration: only which of its two ways is up matters."""
    axis_D: Floats = x_ND.std(0)
    for _ in range(steps):
        length = float(np.linalg.norm(axis_D))
        if not length:
            break
        axis_D = x_ND.T @ (x_ND @ (axis_D / length))
    return axis_D
