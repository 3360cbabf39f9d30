"""Whole texts: what is read of whom, and never the text of an explained pair."""

import polars as pl

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.intents import IntentsConfig
from forwhy.data.texts import REVIEWS, entity_texts


def dataset(heldout_profile: bool = True, category: str = "") -> Dataset:
    """User 1 and item a are explained in training, user 2 and item b in test; all write reviews."""
    visits = [(1, "a"), (1, "b"), (2, "a"), (2, "b"), (3, "a")]
    reviews = [(user, item, f"review of {item} by {user}") for user, item in visits]
    profiles = [("user", "1", "likes tea"), ("item", "b", "a bar")]
    profiles += [("user", "2", "likes rum")] * heldout_profile
    splits = ["train", "train", "train", "test", "train"]
    return make_dataset(
        "small",
        {
            "interactions": pl.DataFrame(visits, ["user_id", "item_id"], orient="row").with_columns(
                pl.Series("split", splits)
            ),
            "items": pl.DataFrame(
                {"item_id": ["a", "b"], "title": ["Alpha", ""], "categories": [category, ""]}
            ),
            "explanations": pl.DataFrame(
                {"user_id": [1, 2], "item_id": ["a", "b"], "text": ["because a", "because b"]}
                | {"split": ["train", "test"]}
            ),
            "reviews": pl.DataFrame(reviews, ["user_id", "item_id", "text"], orient="row"),
            "profiles": pl.DataFrame(profiles, ["side", "entity_id", "text"], orient="row"),
        },
    )


def test_an_item_is_its_title_and_reviews_of_pairs_without_explanation() -> None:
    assert entity_texts(dataset(), "item") == {
        0: ["Alpha", "review of a by 2", "review of a by 3"],
        1: ["review of b by 1"],
    }


def test_who_is_described_needs_no_reviews() -> None:
    """Nor do people where items are described: what they took tells more."""
    assert entity_texts(dataset(category="tea"), "item") == {0: ["Alpha. tea"], 1: ["review of b by 1"]}
    assert entity_texts(dataset(category="tea"), "user") == {}


def test_shipped_profiles_are_read_when_asked_for() -> None:
    asked = IntentsConfig(source="profiles")
    assert entity_texts(dataset(), "item", asked)[1] == ["a bar"]
    alone = IntentsConfig(source="profiles", heldout_items=False)
    assert entity_texts(dataset(), "item", alone)[1] == ["review of b by 1"]


def test_people_of_training_and_test_follow_one_policy() -> None:
    """Where the profile of somebody in a held-out pair may not be read, nobody's is."""
    asked, reviews = IntentsConfig(source="profiles"), ["review of b by 1"]
    assert entity_texts(dataset(), "user", asked)[0] == reviews
    assert entity_texts(dataset(heldout_profile=False), "user", asked)[0] == ["likes tea"]
    everybody = asked.model_copy(update={"heldout_people": True})
    assert entity_texts(dataset(), "user", everybody) == {
        0: ["likes tea"],
        1: ["likes rum"],
        2: ["review of a by 3"],
    }


def test_few_reviews_are_enough() -> None:
    visits = [(user, "a") for user in range(9)]
    rows = [(user, item, "fine") for user, item in visits]
    many = make_dataset(
        "many",
        {
            "interactions": pl.DataFrame(visits, ["user_id", "item_id"], orient="row").with_columns(
                split=pl.lit("train")
            ),
            "reviews": pl.DataFrame(rows, ["user_id", "item_id", "text"], orient="row"),
        },
    )
    assert len(entity_texts(many, "item")[0]) == REVIEWS
