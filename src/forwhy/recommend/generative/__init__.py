"""What recommenders that write items' codes have in common: LLM-BS and TIGER.

The options import no torch; `GenerativeRecommender` and `IndexTokens` are imported at first use.
"""

from typing import TYPE_CHECKING

from forwhy.recommend.generative.config import GenerativeConfig

if TYPE_CHECKING:
    from forwhy.recommend.generative.recommender import GenerativeRecommender
    from forwhy.recommend.generative.tokens import IndexTokens

__all__ = ["GenerativeConfig", "GenerativeRecommender", "IndexTokens"]


def __getattr__(name: str) -> object:
    if name == "GenerativeRecommender":
        from forwhy.recommend.generative.recommender import GenerativeRecommender

        return GenerativeRecommender
    if name == "IndexTokens":
        from forwhy.recommend.generative.tokens import IndexTokens

        return IndexTokens
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
