"""Item indices: short sequences of codes that a language model generates to name an item (LLM-BS, TIGER, LC-Rec).

No torch, but for the RQ-VAE.
"""

from forwhy.vocabulary.indices.build import (
    build_index,
    health,
    read_vectors,
    semantic_vectors,
    spectral_vectors,
)
from forwhy.vocabulary.indices.config import IndexConfig
from forwhy.vocabulary.indices.index import ItemIndex, from_json, to_json

__all__ = [
    "IndexConfig", "ItemIndex", "build_index", "from_json", "health", "read_vectors", "semantic_vectors",
    "spectral_vectors", "to_json",
]  # fmt: skip
