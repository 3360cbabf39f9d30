"""Codes from who is taken with whom: recursive spectral clustering of the items' graph (P5-CID). No torch.

Source: Hua et al. 2023, section 4.3 (collaborative indexing); Ng, Jordan and Weiss 2001.
Legend: N items, E pairs of a user and an item, D width, G clusters of one size, n items in each.
"""

from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from forwhy.vocabulary.clusters import Codes, Floats, Ints, down_the_tree, split, tree_shape

DENSE = 1024
"""Items of a graph whose eigenvectors are sought in its full matrix, which is quicker and the same every time."""


def spectral_codes(
    edges_E2: Ints, items: int, width: int, depth: int, seed: int = 0, steps: int = 16
) -> Codes:
    """Codes [N, depth] by recursive spectral clustering of who is taken together, every row once (P5-CID).

    Two items are as near as many people took both. A cluster's items lie by the first eigenvectors of its normalised
    adjacency (the last of its Laplacian), each row of length 1, and are split into `width` clusters of equal size (the
    paper's differ), so no name is longer than another. `edges_E2`: distinct pairs of a user and an item. Time and
    memory: the sum of squared history lengths, and `width` eigenvectors per cluster.
    """
    tree_shape(items, width, depth)
    random = np.random.default_rng(seed)
    shape = (int(edges_E2[:, 0].max(initial=0)) + 1, items)
    taken_UN = sparse.csr_matrix((np.ones(len(edges_E2)), edges_E2.T), shape=shape)
    both_NN = (taken_UN.T @ taken_UN).tolil()
    both_NN.setdiag(0)
    both_NN = both_NN.tocsr()

    def children(rows_Gn: Ints) -> Ints:
        places_GnD = np.stack([_spectral_places(both_NN[rows][:, rows], width) for rows in rows_Gn])
        return split(places_GnD, width, random, steps)

    return down_the_tree(items, width, width, depth, children)


def _spectral_places(both_nn: Any, dims: int) -> Floats:  # noqa: ANN401 - scipy has no types
    """[n, min(dims, n)] rows of length 1, or 0 of items that are taken with no other."""
    items = both_nn.shape[0]
    degrees_n = np.asarray(both_nn.sum(1)).ravel()
    scale = sparse.diags(np.divide(1.0, np.sqrt(degrees_n), out=np.zeros(items), where=degrees_n > 0))
    normal_nn = scale @ both_nn @ scale
    if items <= max(DENSE, 4 * dims):
        vectors_nD = np.linalg.eigh(normal_nn.toarray())[1][:, -dims:]
    else:
        vectors_nD = eigsh(normal_nn, dims, v0=np.ones(items))[1]
    vectors_nD[degrees_n == 0] = 0.0
    lengths_n1 = np.linalg.norm(vectors_nD, axis=1, keepdims=True)
    return np.asarray(vectors_nD / np.maximum(lengths_n1, 1e-12), np.float32)
