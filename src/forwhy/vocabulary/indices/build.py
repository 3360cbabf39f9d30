"""From vectors to an index, as the options say.

Legend: N items, L levels, D width.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.vocabulary.indices.config import IndexConfig
from forwhy.vocabulary.indices.health import health
from forwhy.vocabulary.indices.hierarchy import hierarchical_codes, random_codes, tree_shape
from forwhy.vocabulary.indices.index import ItemIndex
from forwhy.vocabulary.indices.published import from_json, unique_index

__all__ = ["build_index"]

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
