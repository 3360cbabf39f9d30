"""LLM-BS: a language model that generates the next item's index, and only items that exist.

Options import no torch; `LlmBsRecommender` is imported at first use.
"""

from typing import TYPE_CHECKING

from forwhy.recommend.llmbs.config import (
    AnnealingConfig,
    BackboneConfig,
    ContrastConfig,
    LlmBsConfig,
    TaskConfig,
)

if TYPE_CHECKING:
    from forwhy.recommend.llmbs.recommender import LlmBsRecommender

__all__ = [
    "AnnealingConfig",
    "BackboneConfig",
    "ContrastConfig",
    "LlmBsConfig",
    "LlmBsRecommender",
    "TaskConfig",
]


def __getattr__(name: str) -> object:
    if name == "LlmBsRecommender":
        from forwhy.recommend.llmbs.recommender import LlmBsRecommender

        return LlmBsRecommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
