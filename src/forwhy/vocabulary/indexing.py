"""From vectors to an index, as the options say, and what an index is worth before anything is trained on it. No torch.

Legend: N items, L levels, D width, Q items asked about.
"""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from forwhy.data.bad_rows import short
from forwhy.data.dataset import Dataset, Ids
from forwhy.data.sources.files import require_file
from forwhy.errors import UserError
from forwhy.text.encoder import TextEncoder
from forwhy.vocabulary import clusters
from forwhy.vocabulary.clusters import Vectors, tree_shape
from forwhy.vocabulary.index import IndexConfig, ItemIndex, from_json, unique_index
from forwhy.vocabulary.spectral import spectral_codes
from forwhy.vocabulary.vocabulary import perplexity

NEIGHBOURS = 10
QUESTIONS = 2000
"""Items whose neighbours are looked up; the share is then known to about one point in a hundred."""
LONGEST_HEADER = 10_000
"""Bytes before the numbers of a .npy file."""
SAID = {"semantic": 5 / 8, "attributes": 3 / 8}
"""Shares of the product codes of what is said of items. Each source is quantised alone: codes of both mixed say less
of what is taken next (docs/log.md)."""
log = logging.getLogger(__name__)


def semantic_vectors(dataset: Dataset, encoder: TextEncoder) -> NDArray[np.float32]:
    """[N, D] vectors of `dataset.item_texts()`; items without text get the mean of the others, which is logged.

    Raises:
        UserError: no item has text.
    """
    texts = dataset.item_texts()
    silent_N = np.array([not text.strip() for text in texts])
    if silent_N.all():
        raise UserError(f"data set {dataset.name!r}: no item has any text; use behaviour or random indices")
    vectors_ND = np.array(encoder.encode(texts), np.float32)
    if silent_N.any():
        vectors_ND[silent_N] = vectors_ND[~silent_N].mean(0)
        message = "%s: %d of %d items have no text; they get the mean vector"
        log.warning(message, dataset.name, silent_N.sum(), len(texts))
    return vectors_ND


def attribute_vectors(dataset: Dataset, dims: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """[N, D] vectors of `dataset.item_attributes()`: items that share rare terms lie near each other.

    By the spectrum of the graph of items and terms; norm 1, zeros for items without terms, D = 0 where none has any.
    """
    from forwhy.graph.bipartite import Bipartite, spectral_embeddings  # imports torch

    terms = dataset.item_attributes()
    numbers = {term: number for number, term in enumerate(sorted(set().union(*terms)))}
    if not numbers:
        return np.empty((len(terms), 0), np.float32)
    edges = np.array([(item, numbers[term]) for item, own in enumerate(terms) for term in own])
    return spectral_embeddings(Bipartite(edges, len(terms), len(numbers)), dims, seed)[0]


def spectral_vectors(dataset: Dataset, dims: int = 64, seed: int = 0) -> NDArray[np.float32]:
    """[N, D] item vectors of the training graph (`graph.bipartite`), D at most `dims`; zeros for items nobody took."""
    from forwhy.graph.bipartite import Bipartite, spectral_embeddings  # imports torch

    graph = Bipartite(dataset.edges("train"), len(dataset.users), len(dataset.items))
    return spectral_embeddings(graph, dims, seed)[1]


def read_vectors(path: Path) -> Vectors:
    """A `.npy` table of numbers, [N, D], row n for internal item n; anything else is refused by a `UserError`."""
    require_file(path)
    try:
        with path.open("rb") as file:
            shape, by_column, kind = _npy_header(file)
            found = np.fromfile(file, kind, count=math.prod(shape))
        return found.reshape(shape, order="F" if by_column else "C")
    except Exception as error:  # whatever reading such a header as Python raises
        reason = short(str(error), 100)
        raise UserError(
            f"{path}: not a .npy table of numbers ({reason}); write it with numpy.save, one row per item"
        ) from error


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type, where a table of numbers of this size stands behind them; else a ValueError."""
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"version {version}")
    start = file.tell()
    length = int.from_bytes(file.read(2 * version[0]), "little")  # numpy would make room for what this claims
    if length > LONGEST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    file.seek(start)
    read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, by_column, kind = read(file)
    if len(shape) != 2 or kind.kind not in "fiu":
        raise ValueError(f"{len(shape)} axes of {kind}")
    if math.prod(shape) * kind.itemsize > os.fstat(file.fileno()).st_size - file.tell() or min(shape) < 0:
        raise ValueError(f"claims {shape[0]:,} rows of {shape[1]:,} numbers, which are not there")
    return shape, by_column, kind


def build_index(
    items: Ids,
    config: IndexConfig,
    semantic: Vectors | None = None,
    behaviour: Vectors | None = None,
    edges: NDArray[np.int64] | None = None,
    attributes: Vectors | None = None,
) -> ItemIndex:
    """Make the index of all items that `config` describes, with its health report.

    `semantic`, [N, D], is what items say, `behaviour` who takes them; what `config.source` does not need is only
    compared with the index in the report. `edges`, [E, 2]: who took what in training, for `spectral`.
    `attributes`, for `product`: what kinds of thing items are, which gets `SAID` of the semantic codes.

    Raises:
        UserError: vectors missing, of other items or not finite; more items than codes; no items; as `from_json`.
    """
    if not len(items):
        raise UserError("index: the data set has no items; import one that has")
    given = {"semantic": semantic, "behaviour": behaviour, "attributes": attributes}
    vectors = {name: table for name, table in given.items() if table is not None}
    for name, table in vectors.items():
        if len(table) != len(items):
            raise UserError(
                f"{name} vectors: {len(table):,} rows for {len(items):,} items; give one row per item, in its order"
            )
    index = _from_source(items, config, vectors, edges)
    settings = config.model_dump(mode="json", exclude={"file"})
    return replace(index, config=settings, metrics={**index.metrics, **health(index, vectors)})


def _from_source(
    items: Ids, config: IndexConfig, vectors: Mapping[str, Vectors], edges: NDArray[np.int64] | None
) -> ItemIndex:
    """The index, without a report."""
    if config.file is not None:
        return from_json(config.file, items, config.collisions)
    if config.source == "random":
        width, depth = tree_shape(len(items), config.width, config.depth)
        codes_NL = clusters.random_codes(len(items), width, depth, config.seed)
        return ItemIndex(codes_NL, (width,) * depth, ("random",) * depth, items)
    if config.method == "spectral":
        if edges is None:
            raise UserError('method = "spectral": needs who took what, which was not given; give `edges`')
        width, depth = tree_shape(len(items), config.width, config.depth)
        codes_NL = spectral_codes(edges, len(items), width, depth, config.seed, config.iterations)
        return ItemIndex(codes_NL, (width,) * depth, ("behaviour",) * depth, items)
    wanted: list[str] = ["semantic"] if config.method == "letter" else list(config.reads)
    if config.order == "behaviour_first":
        wanted.reverse()
    wanted += ["attributes"] * ("attributes" in vectors)
    shares = SAID if {"semantic", "attributes"} <= {*wanted} else {}
    levels = []
    for name in wanted:
        table, behaviour = vectors.get(name), vectors.get("behaviour")
        codes_NL, width = _part(name, table, config, behaviour, shares.get(name, 1.0))
        levels += [(level, name, width, codes_N) for level, codes_N in enumerate(codes_NL.T)]
    if config.order == "interleave":
        levels.sort(key=lambda column: column[0])
    _, names, sizes, codes = zip(*levels, strict=True)
    return unique_index(items, np.column_stack(codes), sizes, names, config.method)


def _part(
    name: str, table: Vectors | None, config: IndexConfig, behaviour: Vectors | None, share: float
) -> tuple[NDArray[np.int32], int]:
    """The codes of one source, [N, its levels], and how many there are per level."""
    missing = "behaviour" if config.method == "letter" and behaviour is None else name
    if table is None or missing != name:
        raise UserError(
            f"source = {config.source!r}: needs {missing} vectors, none were given; give them or choose another source"
        )
    if config.method in ("rqvae", "uniform", "letter"):
        from forwhy.vocabulary.quantizer import RqVaeConfig, rqvae_codes

        width = 256 if config.width == "auto" else config.width
        depth = (3 if config.method == "rqvae" else 4) if config.depth == "auto" else config.depth
        more: dict[str, Any] = {"collaborative": 0.01, "diversity": 1e-4} if config.method == "letter" else {}
        settings = RqVaeConfig(width, depth, epochs=config.epochs, seed=config.seed, **more)
        settings = settings._replace(uniform=config.method == "uniform")
        return rqvae_codes(table, settings, f"{name} vectors", behaviour), width
    # Of two like sources unlike draws.
    seed, told = 2 * config.seed + (name == "behaviour"), f"{name} vectors"
    if config.method == "product":
        width = min(256 if config.width == "auto" else config.width, len(table))
        parts = max(round(share * (16 if config.depth == "auto" else config.depth)), 1)
        return clusters.product_codes(table, width, parts, seed, config.iterations, told), width
    shape, order = tree_shape(len(table), config.width, config.depth), config.leaf_order
    return clusters.hierarchical_codes(table, *shape, order, seed, config.iterations, told), shape[0]


def health(index: ItemIndex, vectors: Mapping[str, Vectors] | None = None) -> dict[str, Any]:
    """The report, JSON values only.

    `levels`: per level `source`, `size`, `used` codes, `perplexity` (exp of the entropy of code use), `nodes` (distinct
    prefixes up to here), `branching` (mean children of the nodes above) and `forced` (share of those with one child).
    `purity`: per name in `vectors`, and per source of the index, how many of an item's 10 nearest items share its
    first code of that source, and how many would by chance; the level that parts collisions is left out. The rows of
    `vectors`, name -> [N, D], are the index's items.
    """
    levels = []
    nodes_N = np.zeros(len(index), np.int64)
    for source, size, codes_N in zip(index.sources, index.sizes, index.codes.T.astype(np.int64), strict=True):
        above_N, prefixes_N = nodes_N, nodes_N * (int(codes_N.max()) + 1) + codes_N
        _, first, nodes_N = np.unique(prefixes_N, return_index=True, return_inverse=True)
        children = np.bincount(above_N[first])
        level = {"source": source, "size": size, "used": len(np.unique(codes_N))}
        level |= {"perplexity": perplexity(codes_N, size), "nodes": len(first)}
        level |= {"branching": float(children.mean()), "forced": float((children == 1).mean())}
        levels.append(level)
    sources = [source for source in index.sources if source != "extra"]
    firsts = {source: index.codes[:, index.sources.index(source)] for source in sources}
    purity: dict[str, dict[str, Any]] = {name: {} for name in vectors or {}}
    for name, table in (vectors or {}).items():
        purity[name] = {source: neighbour_purity(codes_N, table) for source, codes_N in firsts.items()}
    return {"items": len(index), "levels": levels, "purity": purity}


def neighbour_purity(labels_N: NDArray[np.integer], vectors_ND: Vectors) -> dict[str, float]:
    """How far items that share a label lie near each other. Time O(2,000 · N · D).

    `neighbours`: the share of an item's 10 nearest (Euclidean) that have its label, asked of 2,000 evenly spaced items
    at most; `chance`: the share of all pairs that have one label. Both are 0 for a single item.
    """
    x_ND = clusters.checked_vectors(vectors_ND, "vectors")
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
