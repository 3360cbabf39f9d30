"""Popularity counts training pairs; lists by behaviour equal sorting inner products, for one person or many."""

import numpy as np
import polars as pl
import pytest

from forwhy.data.because import Because
from forwhy.data.dataset import Ids, make_dataset
from forwhy.data.histories import Catalogue, Histories
from forwhy.errors import UserError
from forwhy.graph.representations import Representations
from forwhy.recommend import base
from forwhy.recommend.base import PopularityRecommender, Recommender
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.testing import recommender_laws

USERS, ITEMS, WORDS, WIDTH = 7, 11, 5, 3
BOOKS = ("user_macro", "user_micro", "item_macro", "item_micro")


class TinyVocabulary(Representations):
    """Three slots per side over random codebooks; the last user has no history."""

    content = restore = item_vectors = None  # recommending asks for none of these

    def __init__(self, whole_ids: bool = False, titled: bool = True) -> None:
        generator = np.random.default_rng(4)
        self.codebooks = {b: generator.normal(size=(WORDS, WIDTH)).astype(np.float32) for b in BOOKS}
        self.codes = {
            "user": generator.integers(0, WORDS, (USERS, 3), dtype=np.int32),
            "item": generator.integers(0, 2, (ITEMS, 3), dtype=np.int32),  # few words: items that tie
        }
        names = [tuple(range(10, 10 + n)) if whole_ids else tuple(f"{s}{k:02}" for k in range(n))
                 for s, n in (("u", USERS), ("i", ITEMS))]  # fmt: skip
        titles = [f"title {item}" if titled else "" for item in range(ITEMS)]
        taken = np.array([[0, 1], [0, 2], [1, 1], [2, 0], [3, 4], [4, 5], [5, 10]])
        catalogue = Catalogue(Ids(names[0], "user"), Ids(names[1], "item"), titles, taken)
        super().__init__(catalogue=catalogue, seen=taken)

    def because(self, user: int | None, item: int, history: list[int]) -> Because:
        row = self.representation_for_history(history) if user is None else self.representation("user")[user]
        return Because("words", float(row @ self.representation("item")[item]), [])

    def slots(self, side: str) -> list[str]:
        return [f"{side}_macro", f"{side}_micro", f"{side}_micro"]

    def representation(self, side: str) -> np.ndarray:
        return self.represent(side, self.codes[side])

    def represent(self, side: str, codes: np.ndarray) -> np.ndarray:
        words = [self.codebooks[book][codes[:, slot]] for slot, book in enumerate(self.slots(side))]
        return 2 * np.concatenate(words, axis=1)

    def codes_for_history(self, items: list[int]) -> np.ndarray:
        return np.full(3, len(items) % WORDS, dtype=np.int32)

    def representation_for_history(self, items: list[int]) -> np.ndarray:
        return self.represent("user", self.codes_for_history(items)[None])[0]


@pytest.fixture
def vocabulary() -> TinyVocabulary:
    return TinyVocabulary()


def sorted_items(vocabulary: TinyVocabulary, scores: np.ndarray, hidden: set[int]) -> list[str]:
    order = sorted(set(range(ITEMS)) - hidden, key=lambda item: (-np.float32(scores[item]), item))
    return [vocabulary.catalogue.items.values[item] for item in order]


def test_it_serves_who_has_a_history_and_who_brings_one(vocabulary: TinyVocabulary) -> None:
    can = BehaviourRecommender(vocabulary).capabilities
    assert (can.hot, can.warm, can.cold) == (True, True, False)


def test_obeys_the_laws(vocabulary: TinyVocabulary) -> None:
    seen = {"u00": {"i01", "i02"}, "u01": {"i01"}, "u02": {"i00"}}
    recommender_laws(BehaviourRecommender(vocabulary), ["u01", "u00", "u02"], seen, k=4)


@pytest.mark.parametrize("filter_seen", [True, False])
@pytest.mark.parametrize("k", [1, 4, ITEMS, 100])
def test_equals_sorting_inner_products(vocabulary: TinyVocabulary, k: int, filter_seen: bool) -> None:
    table = BehaviourRecommender(vocabulary).recommend(["u00", "u03"], k=k, filter_seen=filter_seen)
    scores = vocabulary.representation("user").astype(float) @ vocabulary.representation("item").T
    for user, number, taken in (("u00", 0, {1, 2}), ("u03", 3, {4})):
        rows = table.filter(pl.col("user_id") == user)
        expected = sorted_items(vocabulary, scores[number], taken if filter_seen else set())[:k]
        assert rows["item_id"].to_list() == expected
        assert rows["rank"].to_list() == list(range(1, len(expected) + 1))
        listed = [vocabulary.catalogue.items.index(item) for item in expected]
        assert rows["score"].to_numpy() == pytest.approx(scores[number, listed], rel=1e-6)


def test_columns_types_and_titles(vocabulary: TinyVocabulary) -> None:
    table = BehaviourRecommender(vocabulary).recommend("u02", k=2)
    assert dict(table.schema) == {
        "user_id": pl.String, "item_id": pl.String, "score": pl.Float32, "rank": pl.Int64, "title": pl.String,
    }  # fmt: skip
    first = table.row(0, named=True)
    assert first["title"] == f"title {vocabulary.catalogue.items.index(first['item_id'])}"
    assert "title" not in BehaviourRecommender(TinyVocabulary(titled=False)).recommend("u02", k=2).columns
    whole = BehaviourRecommender(TinyVocabulary(whole_ids=True)).recommend(["12", 12], k=2)
    assert whole.schema["user_id"] == whole.schema["item_id"] == pl.Int64
    assert whole["user_id"].to_list() == [12] * 4


def test_small_blocks_change_nothing(vocabulary: TinyVocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    users = list(vocabulary.catalogue.users.values[:6]) * 2
    whole = BehaviourRecommender(vocabulary).recommend(users, k=5)
    scores = BehaviourRecommender(vocabulary).score(users, "i03")
    monkeypatch.setattr(base, "BLOCK_SCORES", 2 * ITEMS)
    assert BehaviourRecommender(vocabulary).recommend(users, k=5).equals(whole)
    assert (BehaviourRecommender(vocabulary).score(users, "i03") == scores).all()


def test_history_speaks_for_people_never_seen(vocabulary: TinyVocabulary) -> None:
    recommender = BehaviourRecommender(vocabulary)
    table = recommender.recommend(history=["i02", "i07"], k=5)
    books = [2 * vocabulary.codebooks[book][2] for book in vocabulary.slots("user")]
    scores = vocabulary.representation("item").astype(float) @ np.concatenate(books)
    assert table["item_id"].to_list() == sorted_items(vocabulary, scores, {2, 7})[:5]
    assert table["user_id"].to_list() == [None] * 5
    assert table.schema["user_id"] == pl.String
    shown = recommender.recommend(history=["i02", "i07"], k=ITEMS, filter_seen=False)
    assert {"i02", "i07"} <= set(shown["item_id"])


def test_history_speaks_for_a_user_without_training(vocabulary: TinyVocabulary) -> None:
    recommender = BehaviourRecommender(vocabulary)
    named = recommender.recommend("u06", history=["i02", "i07"], k=5)
    assert named["user_id"].to_list() == ["u06"] * 5
    assert named["item_id"].equals(recommender.recommend(history=["i02", "i07"], k=5)["item_id"])
    known = recommender.recommend("u00", history=["i07"], k=ITEMS)
    assert not {"i01", "i02", "i07"} & set(known["item_id"])


def test_mistakes_name_the_remedy(vocabulary: TinyVocabulary) -> None:
    recommender = BehaviourRecommender(vocabulary)
    with pytest.raises(UserError, match=r"'u06' has no training interactions.*give a history"):
        recommender.recommend(["u00", "u06"])
    with pytest.raises(UserError, match="unknown user id 'u99'"):
        recommender.recommend("u99")
    with pytest.raises(UserError, match="unknown item id 'i99'"):
        recommender.recommend(history=["i00", "i99"])
    with pytest.raises(UserError, match="one person"):
        recommender.recommend(["u00", "u01"], history=["i00"])
    with pytest.raises(UserError, match="nobody to recommend to"):
        recommender.recommend()
    with pytest.raises(UserError, match="at least one item"):
        recommender.recommend("u00", k=0)
    with pytest.raises(UserError, match="3 users for 2 items"):
        recommender.score(["u00", "u01", "u02"], ["i00", "i01"])


def test_nobody_asked_nothing_listed(vocabulary: TinyVocabulary) -> None:
    table = BehaviourRecommender(vocabulary).recommend([])
    assert table.height == 0
    assert table.columns == ["user_id", "item_id", "score", "rank", "title"]


def test_score_pairs_up(vocabulary: TinyVocabulary) -> None:
    recommender = BehaviourRecommender(vocabulary)
    users, items = ["u03", "u00", "u03"], ["i05", "i05", "i00"]
    q_u, q_i = vocabulary.representation("user"), vocabulary.representation("item")
    assert recommender.score(users, items) == pytest.approx(
        [q_u[3] @ q_i[5], q_u[0] @ q_i[5], q_u[3] @ q_i[0]]
    )
    assert recommender.score("u03", items).shape == recommender.score(users, "i05").shape == (3,)


# --- popularity


def popularity() -> PopularityRecommender:
    rows = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "y"), ("b", "y"), ("c", "z"), ("d", "z"), ("d", "w")]
    table = pl.DataFrame(
        {"user_id": [u for u, _ in rows], "item_id": [i for _, i in rows], "split": ["train"] * 7 + ["test"]}
    )
    return PopularityRecommender.fit(make_dataset("toy", {"interactions": table}, {}))


def test_counts_of_training_pairs_in_order() -> None:
    table = popularity().recommend("d", k=10, filter_seen=False)
    assert table["item_id"].to_list() == ["x", "y", "z", "w"]
    assert table["score"].to_list() == [3, 2, 2, 0]
    assert popularity().recommend("d", k=10)["item_id"].to_list() == ["x", "y", "w"]


def test_a_history_only_hides() -> None:
    assert popularity().recommend(history=["x"], k=2)["item_id"].to_list() == ["y", "z"]
    assert popularity().score(["a", "d"], "x").tolist() == [3, 3]


def test_scores_are_new_memory() -> None:
    found = popularity()
    found.scores(np.array([0, 1]))[:] = -1
    found.scores_after(Histories.of([[0]]))[:] = -1
    assert found.score("a", "x").tolist() == [3]


# --- what carried a score


def test_popularity_says_that_it_knows_nobody() -> None:
    catalogue = TinyVocabulary().catalogue
    because = PopularityRecommender(catalogue).because("u00", "i01")
    assert (because.kind, because.score, because.shares, because.items) == ("popularity", 2.0, [], [])
    assert PopularityRecommender(catalogue).because(None, "i01", history=[]).kind == "popularity"


def test_without_words_there_is_nothing_to_take_out() -> None:
    recommender = PopularityRecommender(TinyVocabulary().catalogue)
    for ask in (recommender.recommend, recommender.changed):
        with pytest.raises(UserError, match="no words of people to change; ask a run"):
            ask("u00", without=["<u.macro_1>"])


def test_whoever_nobody_knows_is_refused() -> None:
    recommender = PopularityRecommender(TinyVocabulary().catalogue)
    for given in ({"user": None}, {"user": "nobody"}, {"user": None, "history": ["i99"]}):
        with pytest.raises(UserError, match=r"nobody|i99"):
            recommender.because(item="i01", **given)


class Following(Recommender):
    """An item's score is the number of items read that are lower, the latest two counted; repeats count."""

    window = 2  # type: ignore[assignment]

    def scores_after(self, histories: Histories) -> np.ndarray:
        items = np.arange(len(self.catalogue.items))
        return (
            np.stack([(histories.last(2)[row][:, None] < items).sum(0) for row in range(len(histories))])
            * 1.0
        )


def test_one_left_out_is_what_the_score_loses() -> None:
    recommender = Following(TinyVocabulary().catalogue)
    because = recommender.because(None, "i05", history=["i01", "i09", "i02"])
    assert because.kind == "leave-one-out"
    assert because.score == 1.0
    # Without i09 the window reads i01 and i02; i01 itself was not read.
    assert {one.item_id: one.contribution for one in because.shares} == {"i02": 0.0, "i09": -1.0}
    assert because.items == []
    again = recommender.because(None, "i05", history=["i09", "i02", "i02"])
    assert {one.item_id: (one.contribution, one.share) for one in again.items} == {"i02": (2.0, 1.0)}
