"""Phrases: cut from prose, and never from held-out text."""

import time
from pathlib import Path

import polars as pl
import pytest

from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.intents import (
    LONGEST_PHRASE,
    OPENINGS,
    IntentsConfig,
    clean_phrase,
    disliked_thing,
    entity_phrases,
    phrases_from_profile,
)
from forwhy.errors import UserError
from forwhy.recipe import load_recipe
from forwhy.text.mining.extractive import ExtractiveMiner
from forwhy.text.mining.mine import mine
from forwhy.text.mining.stage import MiningConfig
from forwhy.text.statements import KnownStatements


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
    assert all(len(phrase.split()) <= LONGEST_PHRASE for phrase in phrases)


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
    assert entity_phrases(dataset(), "user", config)[2][:3] == ["likes books", "likes tea"]
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


def test_shipped_profiles_are_read_beside_the_rest_when_asked() -> None:
    config = IntentsConfig(training_explanations=False, shipped_profiles=True)
    assert entity_phrases(dataset(), "user", config) == {2: ["likes books", "likes tea", "Good tea"]}


def of_items(visits: dict[str, object] | None = None, **tables: dict[str, object]) -> Dataset:
    """Items a, b, c that user u took."""
    seen = {"user_id": "u", "item_id": ["a", "b", "c"], "split": "train", **(visits or {})}
    frames = {name: pl.DataFrame(frame) for name, frame in tables.items()}
    return make_dataset("items", {"interactions": pl.DataFrame(seen), **frames})


def catalogue(**columns: list[str]) -> dict[int, list[str]]:
    items = {"item_id": [f"i{row}" for row in range(len(next(iter(columns.values()))))], **columns}
    visits = {"user_id": "u", "item_id": items["item_id"]}
    return entity_phrases(of_items(visits, items=items), "item")


def test_categories_are_read_as_they_stand_and_those_of_most_items_left_out() -> None:
    found = catalogue(categories=["Books, War, Slow novels", "Books > War", "Books", "['Books', 'War']"])
    assert found == {0: ["Slow novels"]}
    found = catalogue(categories=["Books|War", "Books", "Tea", "Garden"])
    assert found == {0: ["Books", "War"], 1: ["Books"], 2: ["Tea"], 3: ["Garden"]}


def test_descriptions_are_cut_and_the_catalogue_has_its_budget() -> None:
    text = "It offers soft yarn, warm colours, long needles, and a linen bag."
    data = of_items(
        items={
            "item_id": ["a", "b", "c"],
            "categories": ["Wool", "Tea", "Tea"],
            "description": [text, "", ""],
        }
    )
    assert entity_phrases(data, "item")[0] == ["Wool", "soft yarn", "warm colours", "long needles"]
    assert entity_phrases(data, "item", IntentsConfig(catalogue=1))[0] == ["Wool"]
    assert entity_phrases(data, "item", IntentsConfig(catalogue=0)) == {}
    assert entity_phrases(data, "user") == {}


def test_a_title_says_only_what_it_shares_with_others() -> None:
    titles = ["Kobari Green Tea 50g", "Lovedu green tea", "Neta Green Tea", "Shive 12"]
    assert catalogue(title=titles) == {0: ["Green Tea"], 1: ["Green Tea"], 2: ["Green Tea"]}
    assert catalogue(title=titles, categories=["Leaves", "", "", ""])[0] == ["Leaves"]


def test_markup_is_no_phrase() -> None:
    assert (
        phrases_from_profile("['Soft yarn<br />warm colours', '<b>long needles</b>&amp; a bag']")[0]
        == "Soft yarn"
    )
    assert catalogue(title=["The Blue Castle", "Blue Rose", "Blue Days"]) == {}


def test_the_name_of_an_item_is_none_of_its_phrases() -> None:
    said = ["The Quiet Mill has fresh bread", "fresh bread", "Heat of the moment", "heat of summer"]
    data = of_items(
        items={"item_id": ["a", "b", "c"], "title": ["The quiet mill (1921)", "Heat", ""]},
        intents={"side": "item", "entity_id": ["a", "a", "b", "b"], "rank": [1, 2, 1, 2], "phrase": said},
    )
    assert entity_phrases(data, "item") == {0: ["fresh bread"], 1: ["heat of summer"]}


def test_intents_are_short_say_something_and_have_one_spelling() -> None:
    said = ["Live music", "live music", "live music", "Très bien", "true", "said", "VERY GOOD",
            "Carefully written stories about families, which take their time until the very last page"]  # fmt: skip
    data = of_items(intents={"side": "item", "entity_id": list("abcaabbc"), "rank": 1, "phrase": said})
    assert entity_phrases(data, "item") == {
        0: ["live music"],
        1: ["live music"],
        2: ["live music", "Carefully written stories about families"],
    }


def test_a_run_reads_what_was_mined_and_its_catalogue() -> None:
    """A budget for what was cut out of reviews; what a language model or the user wrote comes whole."""
    told = [f"{word} bread, {word} cheese" for word in ("Warm", "Rye", "Soft", "Sweet", "Dark", "Thin")]
    visits = {"user_id": "u", "item_id": list("abcdef")}
    reviews = {"user_id": "u", "item_id": list("abcdef"), "text": told}
    items = {"item_id": list("abcdef"), "categories": ["Bakery", *["Cheese"] * 5]}
    data = of_items(visits, reviews=reviews, items=items)
    mined = mine(data, MiningConfig(kind="intents"), ExtractiveMiner()).dataset
    assert entity_phrases(mined, "item")[0] == ["Bakery", *mined.phrases("item")[0][:4]]
    assert len(entity_phrases(mined, "user")[0]) == 4
    assert entity_phrases(mined, "item", IntentsConfig(reviews=0))[0] == ["Bakery"]
    prose = mine(data, MiningConfig(kind="profiles"), ExtractiveMiner()).dataset
    for side in ("user", "item"):
        assert "mention" not in str(found := entity_phrases(prose, side))
        assert "Writes about" not in str(found)


def test_what_was_rated_low_is_praised_by_nobody() -> None:
    """User 0's middle is high, user 1 likes little, user 2 gave one star only."""
    rows = [(0, "a", 5, "warm bread"), (0, "b", 3, "cold soup"), (0, "c", 5, "good tea"), (1, "a", 2, "old cheese"),
            (1, "b", 1, "sour milk"), (1, "c", 4, "sweet buns"), (2, "a", 1, "burnt crust"),
            (3, "a", 4, "dark rye")]  # fmt: skip
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "text"], orient="row")
    visits = frame.drop("text").with_columns(split=pl.lit("train"))
    data = make_dataset("rated", {"interactions": visits, "reviews": frame.drop("rating")})
    mined = mine(data, MiningConfig(kind="intents"), ExtractiveMiner()).dataset
    said = {
        phrase for side in ("user", "item") for it in entity_phrases(mined, side).values() for phrase in it
    }
    assert said == {"warm bread", "good tea", "sweet buns", "dark rye"}
    told = frame.drop("rating").with_columns(split=pl.lit("train"))
    explained = make_dataset("rated", {"interactions": visits, "explanations": told})
    said = {phrase for it in entity_phrases(explained, "item").values() for phrase in it}
    assert said == {"warm bread", "good tea", "sweet buns", "dark rye"}


@pytest.mark.parametrize("opening", OPENINGS)
def test_how_our_own_profiles_open_is_no_phrase(opening: str) -> None:
    assert phrases_from_profile(f"{opening}: Warm bread; live music.") == ["Warm bread", "live music"]


def test_regrets_of_a_text_are_no_reasons() -> None:
    text = "They like warm bread, rude staff, and tidy tables. However, not everyone finds parking."
    assert phrases_from_profile(text) == ["warm bread", "tidy tables"]


def test_dislikes_can_be_told_apart() -> None:
    said = ["Enjoys slow novels", "Dislikes films with messy timelines", "Values honesty", "Hates gore"]
    attitude = ["like", "dislike", "Dislike", ""]
    data = of_items(
        intents={"side": ["user"] * 4 + ["item"], "entity_id": ["u"] * 4 + ["a"], "rank": [1, 2, 3, 4, 1]}
        | {"phrase": [*said, "The timeline is messy and hard to follow"], "attitude": [*attitude, "dislike"]}
    )
    assert entity_phrases(data, "user") == {0: ["Enjoys slow novels"]}
    assert entity_phrases(data, "item") == {}
    disliked = data.phrases("user", "dislike")[0]
    assert [disliked_thing(phrase) for phrase in disliked] == ["films with messy timelines", ""]


def test_unknown_option_is_refused() -> None:
    with pytest.raises(UserError, match="unknown key 'limits'"):
        IntentsConfig(limits=3)  # type: ignore[call-arg]


def test_statements_of_what_was_rated_low_support_nothing() -> None:
    rows = [(0, "a", 5, "Warm bread here."), (1, "a", 1, "Burnt crust here."), (1, "b", 5, "Good tea.")]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "text"], orient="row")
    visits = frame.drop("text").with_columns(split=pl.lit("train"))
    data = make_dataset("rated", {"interactions": visits, "reviews": frame.drop("rating")})
    assert set(KnownStatements.read(data).table["text"]) == {"Warm bread here.", "Good tea."}


def test_the_recipe_of_the_readme_reads_what_was_mined_and_the_catalogue() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    for name in ("xrec-yelp", "imdb", "demo"):
        assert load_recipe(recipes / f"{name}.toml").intents.source == "auto"  # type: ignore[attr-defined]
