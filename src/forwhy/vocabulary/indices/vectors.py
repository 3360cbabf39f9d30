"""Item vectors that indices are made from. No torch.

Legend: N items, D width.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.spectral import spectral_embeddings
from forwhy.text.encoder import TextEncoder

__all__ = ["read_vectors", "semantic_vectors", "spectral_vectors"]

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
