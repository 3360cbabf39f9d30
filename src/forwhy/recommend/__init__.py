"""Recommenders: from people to ranked items, by one contract."""

from forwhy.recommend.base import CatalogueRecommender, Reach, Recommender
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.recommend.popularity import PopularityRecommender

__all__ = ["BehaviourRecommender", "CatalogueRecommender", "PopularityRecommender", "Reach", "Recommender"]
