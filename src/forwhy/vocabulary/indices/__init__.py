"""Item indices: short sequences of codes that a language model generates to name an item (LLM-BS, TIGER, LC-Rec)."""

from forwhy.vocabulary.config import IndexConfig as IndexConfig
from forwhy.vocabulary.indices.build import build_index as build_index
from forwhy.vocabulary.indices.build import health as health
from forwhy.vocabulary.indices.build import read_vectors as read_vectors
from forwhy.vocabulary.indices.build import semantic_vectors as semantic_vectors
from forwhy.vocabulary.indices.build import spectral_vectors as spectral_vectors
from forwhy.vocabulary.indices.index import ItemIndex as ItemIndex
from forwhy.vocabulary.indices.index import from_json as from_json
from forwhy.vocabulary.indices.index import to_json as to_json
