"""The recommender laws hold for the popularity baseline and catch wrong recommenders."""

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Ids
from forwhy.data.histories import Capabilities, Catalogue, Histories
from forwhy.errors import UserError
from forwhy.recommend.base import Ints, PopularityRecommender, Recommender, Scores
from forwhy.testing import recommender_laws

USERS, ITEMS = ["ann", "ben", "cleo"], [f"i{number}" for number in range(12)]
SEEN = np.array([[0, 0], [0, 3], [1, 3], [1, 4], [1, 5], [2, 3]])
TAKEN = {"ann": {"i0", "i3"}, "ben": {"i3", "i4", "i5"}, "cleo": {"i3"}}


CATALOGUE = Catalogue(Ids(tuple(USERS)), Ids(tuple(ITEMS)), [""] * 12, SEEN)


class Personal(Recommender):
    """Fixed scores, different for everyone; may offend in one way."""

    capabilities = Capabilities(hot=True)
    offence = ""

    def scores(self, users: Ints) -> Scores:
        table = np.random.default_rng(7).normal(size=(len(USERS), len(ITEMS))).astype(np.float32)
        moved = table[users] + (0.5 * len(users) if self.offence == "batch" else 0.0)
        return moved * (np.arange(12) % 2 if self.offence == "batch" and len(users) > 1 else 1.0)

    def scores_after(self, histories: Histories) -> Scores:
        raise AssertionError("nobody brings a history")


class Offender(Personal):
    """Spoils the table after the fact."""

    def __init__(self, offence: str) -> None:
        super().__init__(CATALOGUE)
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
    recommender_laws(PopularityRecommender(CATALOGUE), USERS, TAKEN)
    recommender_laws(Personal(CATALOGUE), USERS, TAKEN)
    recommender_laws(Offender("none"), ["cleo", "ann"], TAKEN | {"ben": set()})


@pytest.mark.parametrize("offence", ["batch", "ranks", "scores", "twice", "order", "seen", "unknown"])
def test_offenders_are_caught(offence: str) -> None:
    with pytest.raises(AssertionError):
        recommender_laws(Offender(offence), USERS, TAKEN)


def test_who_is_served_is_what_the_capabilities_say() -> None:
    """Someone new, with a history or without one."""
    empty = Catalogue(Ids(("new",)), Ids(tuple(ITEMS)), [""] * 12, SEEN[:0])
    cold = PopularityRecommender(empty)
    assert cold.recommend("new", k=2).height == cold.recommend(history=[], k=2).height == 2
    with pytest.raises(UserError, match="name a user, without a history"):
        Personal(CATALOGUE).recommend(history=["i1"])
    with pytest.raises(UserError, match="'new' has no training interactions"):
        Personal(empty).recommend("new")
