"""What an index is worth before anything is trained on it: use, entropy, branching, neighbour purity.

Legend: N items, L levels, D width, Q items asked about.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite, spectral_embeddings
from forwhy.text.encoder import TextEncoder
from forwhy.vocabulary.config import IndexConfig
from forwhy.vocabulary.indices.clusters import checked_vectors, hierarchical_codes, random_codes, tree_shape
from forwhy.vocabulary.indices.index import ItemIndex, from_json, unique_index
from forwhy.vocabulary.vocabulary import perplexity

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


# --- Item vectors that indices are made from. No torch.
#
# Legend: N items, D width.


log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


def semantic_vectors(dataset: Dataset, encoder: TextEncoder) -> tuple[Floats, int]:
    """[N, D] vectors of `dataset.item_texts()`, and how many items have no text.

    These get the mean of the others, so that they neither form a group far from everything nor pull a cluster; the
    number is logged.

    Raises:
        UserError: no item has text.
    """
    texts = dataset.item_texts()
    silent_N = np.array([not text.strip() for text in texts])
    if silent_N.all():
        raise UserError(f"data set {dataset.name!r}: no item has any text; use behaviour or random indices")
    vectors_ND = np.array(encoder.encode(texts), np.float32)
    silent = int(silent_N.sum())
    if silent:
        vectors_ND[silent_N] = vectors_ND[~silent_N].mean(0)
        log.warning(
            "%s: %d of %d items have no text; they get the mean vector", dataset.name, silent, len(texts)
        )
    return vectors_ND, silent


def spectral_vectors(dataset: Dataset, dims: int = 64, seed: int = 0) -> Floats:
    """[N, D] item vectors of the training graph (`graph.spectral`), D at most `dims`; zeros for items nobody took."""
    graph = Bipartite(dataset.edges("train"), len(dataset.users), len(dataset.items))
    return spectral_embeddings(graph, dims, seed)[1]


def read_vectors(path: Path) -> NDArray[np.floating]:
    """A `.npy` table of numbers, [N, D], row n for internal item n; pickled objects are refused.

    Raises:
        UserError: missing, broken, or not a table of numbers.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: not a plain .npy file ({error}); write it with numpy.save") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind not in "fiu":
        raise UserError(f"{path}: not a .npy table of numbers; write it with numpy.save, one row per item")
    return found


# --- From vectors to an index, as the options say.
#
# Legend: N items, L levels, D width.


Codes = NDArray[np.int32]
Vectors = NDArray[np.floating]
SEMANTIC, BEHAVIOUR = "semantic", "behaviour"


def build_index(
    items: Ids, config: IndexConfig, semantic: Vectors | None = None, behaviour: Vectors | None = None
) -> ItemIndex:
    """Make the index that `config` describes, with its health report.

    Args:
        items: All items.
        config: The options.
        semantic: [N, D] what items say; read by the sources `unit` and `semantic`.
        behaviour: [N, D] who takes them; read by `unit` and `behaviour`. Vectors that the source does not need are
            only compared with the index in the health report.

    Raises:
        UserError: vectors missing, of other items or not finite; more items than codes; no items; or as
            `published.from_json`.
    """
    if not len(items):
        raise UserError("index: the data set has no items; import one that has")
    given = {SEMANTIC: semantic, BEHAVIOUR: behaviour}
    vectors = {name: _fitting(name, table, items) for name, table in given.items() if table is not None}
    index = _from_source(items, config, vectors)
    metrics = {**index.metrics, **health(index, vectors)}
    settings = config.model_dump(mode="json", exclude={"file"})
    return ItemIndex(index.codes, index.sizes, index.sources, items, settings, metrics)


def _fitting(name: str, table: Vectors, items: Ids) -> Vectors:
    if len(table) != len(items):
        raise UserError(
            f"{name} vectors: {len(table):,} rows for {len(items):,} items; give one row per item, in its order"
        )
    return table


def _from_source(items: Ids, config: IndexConfig, vectors: Mapping[str, Vectors]) -> ItemIndex:
    if config.file is not None:
        return from_json(config.file, items, config.collisions)
    if config.source == "random":
        width, depth = tree_shape(len(items), config.width, config.depth)
        codes_NL = random_codes(len(items), width, depth, config.seed)
        return ItemIndex(codes_NL, (width,) * depth, ("random",) * depth, items)
    wanted = list(config.reads)
    if config.order == "behaviour_first":
        wanted.reverse()
    parts = {name: _part(name, vectors.get(name), config) for name in wanted}
    sources = [(name, level) for name in wanted for level in range(parts[name][0].shape[1])]
    if config.order == "interleave":
        sources.sort(key=lambda column: column[1])
    codes_NL = np.column_stack([parts[name][0][:, level] for name, level in sources])
    sizes = [parts[name][1] for name, _ in sources]
    return unique_index(items, codes_NL, sizes, [name for name, _ in sources], config.method)


def _part(name: str, table: Vectors | None, config: IndexConfig) -> tuple[Codes, int]:
    """The codes of one source, and how many there are per level."""
    if table is None:
        raise UserError(
            f"source = {config.source!r}: needs {name} vectors, none were given; give them or choose another source"
        )
    if config.method == "rqvae":
        from forwhy.vocabulary.indices.rqvae import RqVaeConfig, rqvae_codes

        width = 256 if config.width == "auto" else config.width
        depth = 3 if config.depth == "auto" else config.depth
        settings = RqVaeConfig(width=width, depth=depth, epochs=config.epochs, seed=config.seed)
        return rqvae_codes(table, settings, f"{name} vectors"), width
    width, depth = tree_shape(len(table), config.width, config.depth)
    # Two sources with the same vectors still get unlike draws.
    seed = 2 * config.seed + (name == BEHAVIOUR)
    codes_NL = hierarchical_codes(
        table, width, depth, config.leaf_order, seed, config.iterations, f"{name} vectors"
    )
    return codes_NL, width
