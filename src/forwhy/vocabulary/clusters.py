"""Balanced k-means: clusters whose sizes differ by one at most, many equal problems at once, no loop over points.

Lloyd's iterations whose assignment is balanced. Every cluster has a price that rises while it attracts more than its
share (one Sinkhorn step an iteration). Then each point asks for its cheapest cluster, distance and price together;
where too many ask, those stay that would lose most by leaving, and the others ask again.

Source: Cuturi 2013 (Sinkhorn distances) for the prices; Bertsekas 1988 (auctions) for the bids.
Legend: G problems, N points each, D width, K clusters, M = G·N.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.progress import Progress

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]
Vectors = NDArray[np.floating]
Random = np.random.Generator

BLOCK = 1 << 24
TOGETHER = BLOCK // 8
"""Numbers in one block of distances (64 MiB); about four such blocks are held at a time."""
SAMPLE = 100_000
"""Points that centres are fitted to; more give the same centres to within noise."""
HEAT = 0.02
"""Softness of the memberships that move prices, in units of the mean squared distance to the nearest centre."""
ROUNDS = 24
"""Rounds of bids before the points left over are dealt out; 8 are usual, masses of equal points would need more."""
AXES = 8
"""Principal axes that a part of a product code reads, at most: those behind them are mostly noise."""
PAPER_WIDTH = 256


def checked_vectors(vectors: Vectors, name: str) -> Floats:
    """[N, D] float32, centred, the largest absolute value 1 (so that no square overflows); a copy.

    Raises:
        UserError: not a table, empty, or with a value that is not finite (names the first row).
    """
    given = np.asarray(vectors)
    if given.ndim != 2 or not given.size or given.dtype.kind not in "fiu":
        raise UserError(
            f"{name}: shape {given.shape} of {given.dtype}, not a table of numbers; give one row per item"
        )
    bad = np.flatnonzero(~np.isfinite(given).all(1))
    if len(bad):
        raise UserError(
            f"{name}: row {bad[0]} (from 0; {len(bad):,} such rows) holds NaN or infinity; make them again"
        )
    largest = float(max(given.max(), -given.min()))
    x_ND = np.array(given / (largest or 1.0), np.float32)
    x_ND -= x_ND[0]  # equal rows become exact zeros, whatever rounding the mean would bring
    x_ND -= x_ND.mean(0, dtype=np.float64).astype(np.float32)
    return x_ND


def split(x_GND: Floats, k: int, random: Random, iterations: int) -> Ints:
    """[G, N] cluster of every point in each of G problems, from 0 to k - 1 along the centres' first principal axis.

    Every cluster of a problem holds floor(N/k) or ceil(N/k) points, exactly. The same input and seed give the same
    bytes. With fewer points than clusters each has its own. Equal points may be parted. For one problem: time
    O(iterations · min(N, 100,000) · k · D + N · k · D), memory O(N · D) plus a few blocks of 64 MiB.
    """
    if x_GND.shape[1] <= k:
        return ranks(x_GND)
    groups, points, _ = x_GND.shape
    # Centres are fitted to fewer points where many problems are solved together.
    most = max(min(SAMPLE, 2 * BLOCK // (k * groups)), 2 * k)
    sample = x_GND if points <= most else x_GND[:, np.sort(random.choice(points, most, replace=False))]
    centres_GKD, prices_GK = _fit(sample, k, random, iterations)
    labels_GN = _in_blocks(x_GND, centres_GKD, prices_GK, random, 3)
    return np.take_along_axis(ranks(centres_GKD), labels_GN, 1)


def even_codes(x_ND: Floats, centres_KD: Floats, random: Random) -> Ints:
    """[N] a centre for each point, near ones first, so that each centre gets floor(N/K) or ceil(N/K) points.

    LC-Rec's uniform semantic mapping (section 3.1.2): optimal transport of points to centres of equal mass, by
    Sinkhorn's prices, then rounded by bids. Time O(N·K·D), memory a few blocks of 64 MiB.
    """
    prices_1K = np.zeros((1, len(centres_KD)), np.float32)
    labels_N: Ints = _in_blocks(x_ND[None], centres_KD[None], prices_1K, random, 16)[0]
    return labels_N


def ranks(x_GND: Floats, axis_D: Floats | None = None) -> Ints:
    """[G, N] place of each point along its group's first principal axis; ties in the given order.

    The axis points the way of `axis_D` (of its own largest coordinate when None). Time O(G·N·D·min(N, D)).
    """
    x = x_GND - x_GND[:, :1]
    x -= x.mean(1, keepdims=True)
    if x.shape[1] <= x.shape[2]:
        axes_GD = np.einsum("gnd,gn->gd", x, np.linalg.eigh(x @ x.transpose(0, 2, 1))[1][:, :, -1])
    else:
        axes_GD = np.linalg.eigh(x.transpose(0, 2, 1) @ x)[1][:, :, -1]
    largest = np.take_along_axis(axes_GD, np.abs(axes_GD).argmax(1)[:, None], 1)[:, 0]
    turn_G = np.where((largest if axis_D is None else axes_GD @ axis_D) < 0, -1.0, 1.0).astype(np.float32)
    return places(np.einsum("gnd,gd->gn", x, axes_GD * turn_G[:, None]))


def places(keys_GN: NDArray[np.floating]) -> Ints:
    """[G, N] rank of each key in its row, smallest 0; ties in the given order."""
    return keys_GN.argsort(1, kind="stable").argsort(1, kind="stable")


def _in_blocks(x_GND: Floats, centres_GKD: Floats, prices_GK: Floats, random: Random, steps: int) -> Ints:
    """[G, N] balanced clusters, block by block; prices are raised so many times in each."""
    (groups, points, _), k = x_GND.shape, centres_GKD.shape[1]
    labels_GN = np.empty((groups, points), np.int64)
    # Blocks of a multiple of k points, each balanced alone, leave floor/ceil sizes for the whole.
    size = max(BLOCK // (k * groups) // k, 2) * k
    rows_N = random.permutation(points)
    for start in range(0, points, size):
        rows = rows_N[start : start + size]
        labels_GN[:, rows], prices_GK = _assign(x_GND[:, rows], centres_GKD, prices_GK, steps)
    return labels_GN


def _fit(x_GND: Floats, k: int, random: Random, iterations: int) -> tuple[Floats, Floats]:
    """Centres [G, K, D] and prices [G, K]."""
    groups, points, width = x_GND.shape
    centres_GKD = x_GND[:, random.choice(points, k, replace=False)]
    prices_GK = np.zeros((groups, k), np.float32)
    for _ in range(iterations):
        labels_GN, prices_GK = _assign(x_GND, centres_GKD, prices_GK, 1)
        owner_M = (labels_GN + k * np.arange(groups)[:, None]).ravel()
        order_M = owner_M.argsort(kind="stable")
        sizes = np.bincount(owner_M)  # none is empty: there are more points than clusters
        sums = np.add.reduceat(x_GND.reshape(-1, width)[order_M], np.cumsum(sizes) - sizes)
        centres_GKD = np.asarray(sums / sizes[:, None], np.float32).reshape(groups, k, width)
    return centres_GKD, prices_GK


def _assign(x_GND: Floats, centres_GKD: Floats, prices_GK: Floats, steps: int) -> tuple[Ints, Floats]:
    """Balanced clusters [G, N] of points, and the prices [G, K] after so many steps."""
    # Squared distances, less the points' own squares, which no choice depends on.
    cost_GNK = x_GND @ (-2.0 * centres_GKD).transpose(0, 2, 1)
    cost_GNK += np.einsum("gkd,gkd->gk", centres_GKD, centres_GKD)[:, None]
    squares_G = np.einsum("gnd,gnd->g", x_GND, x_GND) / x_GND.shape[1]
    heat_G = np.maximum(HEAT * (cost_GNK.min(2).mean(1) + squares_G), 1e-12).astype(np.float32)
    for _ in range(steps):
        prices_GK = _raise_prices(cost_GNK, prices_GK, heat_G)
    cost_GNK += prices_GK[:, None]
    return _round(cost_GNK), prices_GK


def _raise_prices(cost_GNK: Floats, prices_GK: Floats, heat_G: Floats) -> Floats:
    """One Sinkhorn step: what a cluster's soft share of the points exceeds 1/K by is added to its price."""
    members = cost_GNK + prices_GK[:, None]
    members -= members.min(2, keepdims=True)
    members *= -1.0 / heat_G[:, None, None]
    np.exp(members, out=members)
    members /= members.sum(2, keepdims=True)
    share_GK = members.mean(1) * members.shape[2]
    rise_GK = heat_G[:, None] * np.log(np.maximum(share_GK, 1e-6))
    return np.asarray(prices_GK + rise_GK, np.float32)


def _round(cost_GNK: Floats) -> Ints:
    """[G, N] clusters of floor/ceil size, by bids; overwrites `cost_GNK`."""
    groups, points, k = cost_GNK.shape
    cost_MK, group_M = cost_GNK.reshape(-1, k), np.repeat(np.arange(groups), points)
    room = _capacity(cost_MK, group_M, groups).ravel()
    labels_M, left = np.empty(len(cost_MK), np.int64), np.arange(len(cost_MK))
    for _ in range(ROUNDS):
        best, regret = _proposals(cost_MK)
        wanted = group_M[left] * k + best
        taken = _accepted(wanted, regret, room)
        labels_M[left[taken]] = best[taken]
        room -= np.bincount(wanted[taken], minlength=len(room))
        left, cost_MK = left[~taken], cost_MK[~taken]
        if not len(left):
            break
        cost_MK[(room == 0).reshape(groups, k)[group_M[left]]] = np.inf
    else:
        labels_M[left] = np.repeat(np.arange(len(room)), room) % k  # both sorted by group, with equal numbers
    return labels_M.reshape(groups, points)


def _capacity(cost_MK: Floats, group_M: Ints, groups: int) -> Ints:
    """[G, K] floor(N/K), and one more for the clusters that most points want, so that it sums to N."""
    k = cost_MK.shape[1]
    least, more = divmod(len(cost_MK) // groups, k)
    wanted = np.bincount(group_M * k + cost_MK.argmin(1), minlength=groups * k).reshape(groups, k)
    return np.asarray(least + (places(-wanted.astype(np.float64)) < more), np.int64)


def _proposals(cost_MK: Floats) -> tuple[Ints, Floats]:
    """The cheapest cluster of each row, [M], and what the next one would cost more."""
    rows, best = np.arange(len(cost_MK)), cost_MK.argmin(1)
    least = cost_MK[rows, best]
    cost_MK[rows, best] = np.inf
    regret = cost_MK.min(1) - least
    cost_MK[rows, best] = least
    return best, regret


def _accepted(wanted: Ints, regret: Floats, room: Ints) -> NDArray[np.bool_]:
    """Which proposals fit: per cluster as many as there is room for, most regret first."""
    order = np.lexsort((-regret, wanted))
    sorted_wanted = wanted[order]
    first = np.searchsorted(sorted_wanted, sorted_wanted)
    taken = np.empty(len(wanted), bool)
    taken[order] = np.arange(len(wanted)) - first < room[sorted_wanted]
    return taken


# --- Hierarchical codes: items split into k clusters, these into k again, until a cluster's items fit into one level.
#
# Source: LLM-BS section on DKI, but by clusters of equal size, so that no item has two leaves and no code collides.
# Legend: N items, D width, L levels, G clusters of one size, n items in each.


def needed_depth(items: int, width: int) -> int:
    """The fewest levels of `width` codes that tell so many items apart: ceil(log_width items), at least 1."""
    depth, room = 1, width
    while room < items and width > 1:
        depth, room = depth + 1, room * width
    return depth


def even_width(items: int, depth: int) -> int:
    """The fewest codes per level with which `depth` levels tell so many items apart: ceil(items^(1/depth))."""
    width = max(int(items ** (1.0 / depth) - 0.5), 1)  # below it, however the root is rounded
    while width**depth < items:
        width += 1
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
    vectors_ND: Vectors,
    width: int,
    depth: int,
    leaf_order: Literal["pca", "distance", "random"] = "pca",
    seed: int = 0,
    iterations: int = 16,
    name: str = "vectors",
) -> Codes:
    """Codes [N, depth], every row once. The same input and seed give the same bytes.

    A cluster of at most `width` items numbers them at once, by `leaf_order`; levels below are 0. Time of N·width
    distances and 3 exponentials per iteration and level (10^6 items of 64 coordinates: a few minutes on two cores),
    memory for 3 copies of the vectors and a few 64 MiB blocks.

    Raises:
        UserError: more items than codes, or vectors that are no table of finite numbers (`name` in the message).
    """
    x_ND = checked_vectors(vectors_ND, name)
    tree_shape(len(x_ND), width, depth)
    random, axis_D = np.random.default_rng(seed), _first_axis(x_ND)

    def children(rows_Gn: Ints) -> Ints:
        """[G, n] the next code of each item in G clusters."""
        x_GnD = x_ND[rows_Gn]
        if rows_Gn.shape[1] > width:
            return split(x_GnD, width, random, iterations)
        if leaf_order == "random":
            return places(random.random(rows_Gn.shape))
        if leaf_order == "distance":
            return places(((x_GnD - x_GnD.mean(1, keepdims=True)) ** 2).sum(2))
        return ranks(x_GnD, axis_D)

    return down_the_tree(len(x_ND), x_ND.shape[1], width, depth, children)


def down_the_tree(items: int, dims: int, width: int, depth: int, children: Callable[[Ints], Ints]) -> Codes:
    """Codes [N, depth]: level by level, `children` gives the codes, [G, n], of the items of G clusters of one size."""
    codes_NL, cluster_N = np.zeros((items, depth), np.int32), np.zeros(items, np.int64)
    with Progress("indexing items", items * depth) as progress:
        for level in range(depth):
            for part_Gn in _equal_clusters(cluster_N, width, dims):
                codes_NL[part_Gn, level] = children(part_Gn)
                progress.advance(part_Gn.size)
            _, cluster_N = np.unique(cluster_N * width + codes_NL[:, level], return_inverse=True)
    return codes_NL


def product_codes(
    vectors_ND: Vectors, width: int, parts: int, seed: int = 0, iterations: int = 16, name: str = "vectors"
) -> Codes:
    """Codes [N, L] that each tell one part of a vector: L = `parts`, or as many as the vectors have coordinates.

    The principal axes are dealt out so that the parts vary alike, and each part's points are split into `width`
    balanced clusters (as many as there are items, where these are fewer). Items may share all codes. The same input
    and seed give the same bytes. Time O(iterations · N · L · width · AXES), memory as of `hierarchical_codes`.

    Source: Jégou et al. 2011, section II (product quantisation); Ge et al. 2013, section 3.2 (the rotation).

    Raises:
        UserError: vectors that are no table of finite numbers (`name` in the message).
    """
    x_ND = checked_vectors(vectors_ND, name)
    variances_D, axes_DD = np.linalg.eigh((x_ND.T @ x_ND).astype(np.float64))
    parts = min(parts, len(variances_D))
    dealt_LA = dealt_axes(variances_D[::-1], parts, min(AXES, len(variances_D) // parts))
    rotated_ND = x_ND @ axes_DD[:, ::-1].astype(np.float32)
    points_LNA = np.ascontiguousarray(rotated_ND[:, dealt_LA].transpose(1, 0, 2))
    return split(points_LNA, width, np.random.default_rng(seed), iterations).T.astype(np.int32)


def dealt_axes(variances_D: NDArray[np.float64], parts: int, each: int) -> Ints:
    """[L, A] which axes, the widest first, each part gets, so that products of variances come out alike."""
    logs_D = np.log(np.maximum(variances_D[: parts * each], 1e-12 * max(variances_D[0], 1e-12)))
    logs_D -= logs_D.min()  # none is negative, so that whoever has most is not dealt more
    dealt: list[list[int]] = [[] for _ in range(parts)]
    sums_L = np.zeros(parts)
    for axis, value in enumerate(logs_D.tolist()):
        open_L = np.where([len(part) < each for part in dealt], sums_L, np.inf)
        dealt[part := int(open_L.argmin())].append(axis)
        sums_L[part] += value
    return np.array(dealt, np.int64)


def random_codes(items: int, width: int, depth: int, seed: int = 0) -> Codes:
    """Codes [N, depth] that say nothing about the items; every row once. Levels beyond those needed repeat the draw.

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


def _equal_clusters(cluster_N: Ints, width: int, dims: int) -> Iterator[Ints]:
    """[G, n] items of clusters of one size n, cut so that an array's distances (or Gram matrices) stay in the cache."""
    order_N, sizes_C = cluster_N.argsort(kind="stable"), np.bincount(cluster_N)
    starts_C = np.cumsum(sizes_C) - sizes_C
    for size in np.unique(sizes_C).tolist():
        rows_Gn = order_N[starts_C[sizes_C == size][:, None] + np.arange(size)]
        numbers = len(rows_Gn) * max(size * min(size, width), size * dims)
        yield from np.array_split(rows_Gn, min(len(rows_Gn), -(-numbers // TOGETHER)))


def _first_axis(x_ND: Floats) -> Floats:
    """The first principal axis by power iteration: only which of its two ways is up matters."""
    axis_D: Floats = x_ND.std(0)
    for _ in range(20):
        length = float(np.linalg.norm(axis_D))
        if not length:
            break
        axis_D = x_ND.T @ (x_ND @ (axis_D / length))
    return axis_D
