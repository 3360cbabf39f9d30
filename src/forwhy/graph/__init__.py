"""The interaction graph: normalised adjacency, LightGCN propagation, spectral embeddings, collaborative vectors.

:class:`CollaborativeVectors` and :class:`CollaborativeConfig` import no torch; the tokenizer that learns them does.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from forwhy.graph.collaborative import CollaborativeVectors
from forwhy.graph.config import CollaborativeConfig

if TYPE_CHECKING:
    from forwhy.graph.collaborative import CollaborativeTokenizer

__all__ = ["CollaborativeConfig", "CollaborativeTokenizer", "CollaborativeVectors"]


def __getattr__(name: str) -> object:
    if name == "CollaborativeTokenizer":
        return import_module("forwhy.graph.collaborative").CollaborativeTokenizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
