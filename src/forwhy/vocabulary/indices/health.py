"""What an index is worth before anything is trained on it: use, entropy, branching, neighbour purity.

Legend: N items, L levels, D width, Q items asked about.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.vocabulary.indices.balanced import checked_vectors
from forwhy.vocabulary.indices.index import ItemIndex
from forwhy.vocabulary.vocabulary import perplexity

__all__ = ["health", "neighbour_purity"]

NEIGHBOURS = 10
QUESTIONS = 2000
"""Items whose neighbours are looked up; the share is then known to about one point in a hundred."""
Ints = NDArray[np.int64]


def health(index: ItemIndex, vectors: Mapping[str, NDArray[np.floating]] | None = None) -> dict[str, Any]:
    """The report, JSON values only.

    `levels`: per level `source`, `size`, `used` codes, `perplexity` (exp of the entropy of code use), `nodes` (distinct
    prefixes up to here), `branching` (mean children of the nodes above) and `forced` (share of those with one child).
    `purity`: per name in `vectors`, and per source of the index, how many of an item's 10 nearest items share its
    first code of that source, and how many would by chance; the level that parts collisions is left out.

    Args:
        index: The index.
        vectors: name -> [N, D]; the rows are the index's items.
    """
    nodes = _prefixes(index.codes)
    report: dict[str, Any] = {"items": len(index), "levels": _levels(index, nodes)}
    firsts = {
        source: index.levels_of(source)[0] for source in dict.fromkeys(index.sources) if source != "extra"
    }
    report["purity"] = {
        name: {source: neighbour_purity(index.codes[:, level], table) for source, level in firsts.items()}
        for name, table in (vectors or {}).items()
    }
    return report


def _levels(index: ItemIndex, nodes_LN: list[Ints]) -> list[dict[str, Any]]:
    entries = []
    above_N = np.zeros(len(index), np.int64)
    for level, nodes_N in enumerate(nodes_LN):
        first = np.unique(nodes_N, return_index=True)[1]
        children = np.bincount(above_N[first])
        entries.append(
            {
                "source": index.sources[level],
                "size": index.sizes[level],
                "used": len(np.unique(index.codes[:, level])),
                "perplexity": perplexity(index.codes[:, level], index.sizes[level]),
                "nodes": len(first),
                "branching": float(children.mean()),
                "forced": float((children == 1).mean()),
            }
        )
        above_N = nodes_N
    return entries


def _prefixes(codes_NL: NDArray[np.int32]) -> list[Ints]:
    """Per level, [N] the number of each item's prefix up to and with that level."""
    nodes, found = np.zeros(len(codes_NL), np.int64), []
    for level in range(codes_NL.shape[1]):
        code_N = codes_NL[:, level].astype(np.int64)
        nodes = np.unique(nodes * (int(code_N.max()) + 1) + code_N, return_inverse=True)[1].ravel()
        found.append(nodes)
    return found


def neighbour_purity(labels_N: NDArray[np.integer], vectors_ND: NDArray[np.floating]) -> dict[str, float]:
    """How far items that share a label lie near each other.

    Returns:
        `neighbours`: the share of an item's 10 nearest items (by Euclidean distance; 2,000 evenly spaced items are
        asked when there are more) that have its label; `chance`: the share of all pairs that have one label. Both
        are 0 for a single item. Time O(2,000 · N · D).
    """
    x_ND = checked_vectors(vectors_ND, "vectors")
    items, near = len(x_ND), min(NEIGHBOURS, len(x_ND) - 1)
    if not near:
        return {"neighbours": 0.0, "chance": 0.0}
    asked = np.unique(np.linspace(0, items - 1, min(items, QUESTIONS)).astype(np.int64))
    squares_N = np.einsum("nd,nd->n", x_ND, x_ND)
    hits = 0
    for part in np.array_split(asked, -(-len(asked) * items // 20_000_000)):
        far_QN = squares_N - 2.0 * (x_ND[part] @ x_ND.T)
        far_QN[np.arange(len(part)), part] = np.inf
        nearest = np.argpartition(far_QN, near - 1, axis=1)[:, :near]
        hits += int((labels_N[nearest] == labels_N[part][:, None]).sum())
    counts = np.unique(labels_N, return_counts=True)[1].astype(np.float64)
    chance = float((counts * (counts - 1)).sum() / (items * (items - 1.0)))
    return {"neighbours": hits / (len(asked) * near), "chance": chance}
