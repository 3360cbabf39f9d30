"""Recommenders: from people to ranked items, by one contract."""

from forwhy.recommend.base import CatalogueRecommender, Reach, Recommender
from forwhy.recommend.simple import BehaviourRecommender, PopularityRecommender

__all__ = ["BehaviourRecommender", "CatalogueRecommender", "PopularityRecommender", "Reach", "Recommender"]
