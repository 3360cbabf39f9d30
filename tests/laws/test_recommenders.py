"""The recommender laws hold for the popularity baseline and catch wrong recommenders."""

from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from forwhy.data.ids import Ids
from forwhy.recommend.base import CatalogueRecommender, Ints, Reach, Scores
from forwhy.recommend.simple import PopularityRecommender
from forwhy.testing import recommender_laws

USERS, ITEMS = ["ann", "ben", "cleo"], [f"i{number}" for number in range(12)]
SEEN = np.array([[0, 0], [0, 3], [1, 3], [1, 4], [1, 5], [2, 3]])
TAKEN = {"ann": {"i0", "i3"}, "ben": {"i3", "i4", "i5"}, "cleo": {"i3"}}


def ids(values: list[str]) -> Ids:
    return Ids(tuple(values))


class Personal(CatalogueRecommender):
    """Fixed scores, different for everyone; may offend in one way."""

    reach: ClassVar[Reach] = Reach(frozenset({"hot"}), frozenset({"hot"}))
    offence = ""

    def scores(self, users: Ints) -> Scores:
        table = np.random.default_rng(7).normal(size=(len(USERS), len(ITEMS))).astype(np.float32)
        moved = table[users] + (0.5 * len(users) if self.offence == "batch" else 0.0)
        return moved * (np.arange(12) % 2 if self.offence == "batch" and len(users) > 1 else 1.0)

    def history_scores(self, items: Ints) -> Scores:
        return np.zeros(len(ITEMS), np.float32)


class Offender(Personal):
    """Spoils the table after the fact."""

    def __init__(self, offence: str) -> None:
        super().__init__(ids(USERS), ids(ITEMS), [""] * 12, SEEN)
        self.offence = offence

    def recommend(self, users: object, *, k: int, filter_seen: bool = True) -> pl.DataFrame:  # type: ignore[override]
        if self.offence == "unknown" and users == ["nobody-at-all"]:
            users = "ann"
        filter_seen = filter_seen and self.offence != "seen"
        table = super().recommend(users, k=k, filter_seen=filter_seen)  # type: ignore[arg-type]
        if self.offence == "ranks":
            table = table.with_columns(pl.col("rank") - 1)
        if self.offence == "scores":
            table = table.with_columns(-pl.col("score"))
        if self.offence == "twice":
            table = table.with_columns(item_id=pl.col("item_id").first().over("user_id"))
        if self.offence == "order":
            table = table.sort("user_id", descending=True, maintain_order=True)
        return table


def test_ours_obey() -> None:
    recommender_laws(PopularityRecommender(ids(USERS), ids(ITEMS), [""] * 12, SEEN), USERS, TAKEN)
    recommender_laws(Personal(ids(USERS), ids(ITEMS), [""] * 12, SEEN), USERS, TAKEN)
    recommender_laws(Offender("none"), ["cleo", "ann"], TAKEN | {"ben": set()})


@pytest.mark.parametrize("offence", ["batch", "ranks", "scores", "twice", "order", "seen", "unknown"])
def test_offenders_are_caught(offence: str) -> None:
    with pytest.raises(AssertionError):
        recommender_laws(Offender(offence), USERS, TAKEN)
