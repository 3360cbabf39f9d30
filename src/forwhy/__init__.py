"""forwhy: recommendations with a because.

A behaviour vocabulary learned from interactions and reviews, a frozen language model that reads it, and so
recommendations that say in words why this person would want this item. The reading order of the source is
`forwhy.recipe` first: every stage of a run, in order.

Importing this package imports neither torch nor polars; each public name is loaded on first use (PEP 562).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Read when torch is first imported, and all ways to it pass here. OpenMP's threads wait for each other by spinning,
# which on a busy machine makes two threads slower than one (benchmarks/threads.py); asleep they cost nothing.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset, make_dataset
    from forwhy.data.intents import IntentsConfig, entity_phrases
    from forwhy.data.sample import little_town
    from forwhy.errors import UserError
    from forwhy.explain.beat import BeatExplainer
    from forwhy.explain.options import BeatConfig
    from forwhy.recipe import Recipe, load_recipe, run
    from forwhy.recommend.behaviour import BehaviourRecommender
    from forwhy.text.encoder import text_encoder
    from forwhy.vocabulary.config import IndexConfig, TokenizerConfig
    from forwhy.vocabulary.indices.build import build_index
    from forwhy.vocabulary.indices.index import ItemIndex
    from forwhy.vocabulary.tokenizer import BehaviourTokenizer
    from forwhy.vocabulary.vocabulary import Vocabulary

_HOME = {
    "BeatConfig": "forwhy.explain.options",
    "BeatExplainer": "forwhy.explain.beat",
    "BehaviourTokenizer": "forwhy.vocabulary.tokenizer",
    "BehaviourRecommender": "forwhy.recommend.behaviour",
    "Dataset": "forwhy.data.dataset",
    "IndexConfig": "forwhy.vocabulary.config",
    "IntentsConfig": "forwhy.data.intents",
    "ItemIndex": "forwhy.vocabulary.indices.index",
    "Recipe": "forwhy.recipe",
    "TokenizerConfig": "forwhy.vocabulary.config",
    "UserError": "forwhy.errors",
    "Vocabulary": "forwhy.vocabulary.vocabulary",
    "build_index": "forwhy.vocabulary.indices.build",
    "entity_phrases": "forwhy.data.intents",
    "little_town": "forwhy.data.sample",
    "load_recipe": "forwhy.recipe",
    "make_dataset": "forwhy.data.dataset",
    "run": "forwhy.recipe",
    "text_encoder": "forwhy.text.encoder",
}

__all__ = [
    "BeatConfig",
    "BeatExplainer",
    "BehaviourTokenizer",
    "BehaviourRecommender",
    "Dataset",
    "IndexConfig",
    "IntentsConfig",
    "ItemIndex",
    "Recipe",
    "TokenizerConfig",
    "UserError",
    "Vocabulary",
    "__version__",
    "build_index",
    "entity_phrases",
    "little_town",
    "load_recipe",
    "make_dataset",
    "run",
    "text_encoder",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the type of a name not yet loaded
    """Loads a public name from its module on first use and keeps it."""
    if name == "BehaviorTokenizer":
        raise AttributeError("forwhy.BehaviorTokenizer is now spelled forwhy.BehaviourTokenizer")
    if name not in _HOME:
        raise AttributeError(f"module 'forwhy' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Every public name, loaded or not."""
    return sorted(__all__)
