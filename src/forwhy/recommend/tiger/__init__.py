"""TIGER (Rajput et al. 2023): an encoder reads the codes of a history, a decoder writes those of the next item.

Options import no torch; `TigerRecommender` is imported at first use.
"""

from typing import TYPE_CHECKING

from forwhy.recommend.tiger.config import TigerConfig

if TYPE_CHECKING:
    from forwhy.recommend.tiger.recommender import TigerRecommender

__all__ = ["TigerConfig", "TigerRecommender"]


def __getattr__(name: str) -> object:
    if name == "TigerRecommender":
        from forwhy.recommend.tiger.recommender import TigerRecommender

        return TigerRecommender
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
