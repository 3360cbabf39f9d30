"""Recommenders of the next item: item-kNN, GRU4Rec and SASRec with the softmax over the whole catalogue, DIN.

Configs and item-kNN import no torch; `NextItemRecommender` is imported at first use.
"""

from typing import TYPE_CHECKING

from forwhy.recommend.sequential.base import SequentialRecommender
from forwhy.recommend.sequential.config import DinConfig, Gru4RecConfig, KnnConfig, SasRecConfig
from forwhy.recommend.sequential.knn import ItemKnnRecommender

if TYPE_CHECKING:
    from forwhy.recommend.sequential.nextitem import NextItemRecommender

__all__ = [
    "DinConfig",
    "Gru4RecConfig",
    "ItemKnnRecommender",
    "KnnConfig",
    "NextItemRecommender",
    "SasRecConfig",
    "SequentialRecommender",
]


def __getattr__(name: str) -> object:
    if name == "NextItemRecommender":
        from forwhy.recommend.sequential.nextitem import NextItemRecommender

        return NextItemRecommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
