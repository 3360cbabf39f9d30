"""Phrases: cut from prose, and never from held-out text."""

import time

import polars as pl
import pytest
from pydantic import ValidationError

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.intents import IntentsConfig, clean_phrase, entity_phrases, phrases_from_profile


def test_shipped_profile_becomes_phrases() -> None:
    text = (
        "This user is likely to enjoy businesses offering flavorful and delicious dishes, with a focus on "
        "Thai and Peruvian cuisine, as well as unique burger options. They appreciate good quality, friendly "
        "service, and reasonable prices."
    )
    assert phrases_from_profile(text) == [
        "flavorful and delicious dishes",
        "focus on Thai and Peruvian cuisine",
        "unique burger options",
        "good quality",
        "friendly service",
        "reasonable prices",
    ]
    assert phrases_from_profile(text, limit=2) == phrases_from_profile(text)[:2]


def test_explanation_loses_the_name_of_the_thing() -> None:
    text = "The user would enjoy Taco Riendo because it provides a convenient location, and an open kitchen."
    assert phrases_from_profile(text) == ["convenient location", "open kitchen"]


@pytest.mark.parametrize("text", ["", "The user.", "...", "and and and", "\x00\x00"])
def test_nothing_to_say(text: str) -> None:
    assert phrases_from_profile(text) == []


@pytest.mark.parametrize(
    "piece", ["a , b ", "The user would enjoy ", "and ", " ", "x", "would enjoy the ", "it it ", "a like 'B "]
)
def test_long_text_is_not_slow(piece: str) -> None:
    start = time.perf_counter()
    phrases = phrases_from_profile(piece * (100_000 // len(piece)))
    assert time.perf_counter() - start < 0.5
    assert all(len(phrase.split()) <= 12 for phrase in phrases)


def test_clean_phrase() -> None:
    assert clean_phrase("  Great  CGI. ") == "Great CGI"
    assert clean_phrase("[Like]") == ""


def dataset() -> Dataset:
    """User 10 is trained on; user 7's only explanation is held out; (2, c) is a test interaction."""
    visits = {"user_id": [10, 2, 7, 2], "item_id": ["b", "a", "b", "c"]}
    texts = ["because b", "held out", "ranked on"]
    intents = {"side": "user", "entity_id": "10", "rank": [1, 2, 1], "attitude": ["dislike", "like", "like"]}
    return make_dataset(
        "small",
        {
            "interactions": pl.DataFrame(visits | {"split": ["train", "train", "train", "test"]}),
            "explanations": pl.DataFrame(
                {"user_id": [10, 7, 2], "item_id": ["b", "b", "c"], "text": texts}
                | {"split": ["train", "test", "train"]}
            ),
            "intents": pl.DataFrame(intents | {"phrase": ["hates noise", "likes tea", "likes books"]}),
            "profiles": pl.DataFrame(
                {"side": "user", "entity_id": ["7", "10"], "text": ["Loud jazz.", "Good tea."]}
            ),
        },
    )


def test_table_comes_first_and_training_explanations_add() -> None:
    config = IntentsConfig(training_explanations=True)
    assert entity_phrases(dataset(), "user", config)[2][:3] == ["likes books", "likes tea", "hates noise"]
    plain = entity_phrases(dataset(), "item", IntentsConfig(training_explanations=True, source="none"))
    assert "held out" not in {phrase for phrases in plain.values() for phrase in phrases}
    loose = IntentsConfig(source="none", clear_of_interactions=False)
    assert entity_phrases(dataset(), "item", loose)[2] == ["ranked"]
    assert 2 not in entity_phrases(dataset(), "item", IntentsConfig(source="none"))


def test_profiles_of_heldout_people_are_off_by_default() -> None:
    config = IntentsConfig(source="profiles", training_explanations=False)
    assert entity_phrases(dataset(), "user", config) == {2: ["Good tea"]}
    asked = config.model_copy(update={"heldout_people": True})
    assert entity_phrases(dataset(), "user", asked) == {1: ["Loud jazz"], 2: ["Good tea"]}


def test_unknown_option_is_refused() -> None:
    with pytest.raises(ValidationError):
        IntentsConfig(limits=3)  # type: ignore[call-arg]
