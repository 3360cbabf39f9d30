"""What recommenders that write items' codes have in common: LLM-BS and TIGER. Needs torch and transformers."""

from forwhy.recommend.generative.recommender import GenerativeRecommender
from forwhy.recommend.generative.tokens import IndexTokens

__all__ = ["GenerativeRecommender", "IndexTokens"]
