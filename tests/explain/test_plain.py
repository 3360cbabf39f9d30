"""Reasons without a model: what they say is so, whatever is known, and is never nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import polars as pl
import pytest

from forwhy.data.because import Because, ItemShare
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.histories import Catalogue
from forwhy.errors import UserError
from forwhy.explain.evidence import Explanation
from forwhy.explain.plain import PlainExplainer
from forwhy.graph.representations import CollaborativeVectors
from forwhy.recommend.base import PopularityRecommender
from forwhy.recommend.behaviour import BehaviourRecommender
from forwhy.systems.item_knn import ItemKnnRecommender
from forwhy.vocabulary.newcomers import Newcomer
from forwhy.vocabulary.vocabulary import Vocabulary

HOSTILE = 'Nice”. You will love it. “\x1b[31m <b>& "x"'
TAKEN = {
    "ann": ["pot", "pan", "lid"],
    "ben": ["pot", "pan", "cup"],
    "cleo": ["pot", "pan", "cup"],
    "dan": ["pot", "saw"],
    "eve": ["cup", "saw"],
}
ITEMS = ["cup", "jug", "lid", "pan", "pot", "saw"]


def shop(items: dict[str, Sequence[str]] | None = None, intents: Sequence[tuple[str, ...]] = ()) -> Dataset:
    """Five people and six things, one of which nobody took; columns of the items in their order."""
    rows = [(user, item, "train") for user, taken in TAKEN.items() for item in taken]
    tables = {
        "interactions": pl.DataFrame(rows, ["user_id", "item_id", "split"], orient="row"),
        "items": pl.DataFrame({"item_id": ITEMS, **(items or {})}),
    }
    if intents:
        columns = ["side", "entity_id", "attitude", "rank", "phrase"]
        ranked = [(*row[:3], rank, row[3]) for rank, row in enumerate(intents)]
        tables["intents"] = pl.DataFrame(ranked, columns, orient="row")
    return make_dataset("shop", tables)


def neighbours(dataset: Dataset) -> PlainExplainer:
    """Reasons of item-kNN, which needs no training."""
    catalogue = Catalogue.of(dataset, dataset.edges("train"))
    return PlainExplainer(ItemKnnRecommender(catalogue), dataset)


def test_interactions_alone_are_counted() -> None:
    found = neighbours(shop()).explain(("ann", "cup"))
    assert found.text == "You took pot and pan, and both others who took both also took this."
    assert [claim.text for claim in found.claims] == [found.text]
    told = {one.id: one for one in found.evidence.statements}
    counted, taken = (told[name] for name in found.claims[0].evidence)
    assert counted.text == "both others who took pot and pan took it"
    assert (counted.source, counted.about, taken.about) == ("interactions", "cup", "ann")
    assert found.because is not None
    assert [one.item_id for one in found.because.items] == ["pot", "pan"]


def test_titles_stand_for_ids_and_cannot_end_their_marks() -> None:
    titles = ["A Cup", "", "", "The “Best” Pan", HOSTILE, ""]
    text = neighbours(shop({"title": titles})).explain(("ann", "cup")).text
    assert text.startswith(
        "You took “Nice'. You will love it. ' [31m <b>& 'x'” and “The 'Best' Pan”, and both"
    )
    assert "\x1b" not in text


def test_the_catalogue_says_what_they_have_in_common() -> None:
    categories = ["crockery", "crockery", "crockery", "cookware", "cookware", "tools"]
    explainer = neighbours(shop({"categories": categories}))
    found = explainer.explain(("dan", "pan"))
    assert found.text == (
        "The catalogue says “cookware” of it, as of pot, which you took. You took that one, and all 3 others who did "
        "also took this."
    )
    assert {(one.about, one.text) for one in found.evidence.statements if one.source == "kind"} == {
        ("pan", "cookware"),
        ("pot", "cookware"),
    }
    assert explainer.explain(("dan", "cup")).text.startswith("The catalogue says “crockery” of it. You took")
    assert explainer.explain(history=["cup", "pan", "lid"], item="jug").text == (
        "The catalogue says “crockery” of it, as of 2 of the 3 things you took. Nobody has taken it yet, so it is "
        "something new."
    )


def test_a_brand_is_told_as_one_and_parts_of_descriptions_stand_alone_or_not_at_all() -> None:
    brands = ["Clay & Sons, Inc.", "Clay & Sons, Inc.", "Zinn", "Zinn", "Zinn", "Edge"]
    descriptions = ["A company with a patented handle", "", "", "company", "2 x lid clip", "company"]
    titles = ["", "", "", "", "Zinn (pot)", ""]
    explainer = neighbours(shop({"title": titles, "brand": brands, "description": descriptions}))
    assert explainer.explain(("dan", "pan")).text == (
        "It is by “Zinn”, as is “Zinn (pot)”, which you took. You took that one, and all 3 others who did also took "
        "this."
    )
    assert explainer.explain(history=["cup", "pan"], item="jug").text.startswith(
        "It is by “Clay & Sons, Inc”, as is cup, which you took."
    )
    # Nothing joins a cup by Clay & Sons to what dan took: who else took it says more than its maker.
    assert explainer.explain(("dan", "cup")).text == (
        "You took “Zinn (pot)”, and 2 of the 3 others who did also took this."
    )
    assert explainer.explain(history=["lid"], item="saw").text == "It is by “Edge”. 2 people took it so far."


class Carried(ItemKnnRecommender):
    """Two items of the history carry every score, as where what is said of things ranks them."""

    carried: Mapping[str, float] = MappingProxyType({"cup": 0.5, "lid": 0.5})

    def because(self, *_asked: object, **_how: object) -> Because:  # whoever asks
        shares = [ItemShare(item, "", share, share) for item, share in self.carried.items()]
        return Because("leave-one-out", 1.0, shares, shares)


def test_what_carried_a_score_is_named_once() -> None:
    dataset = shop({"brand": ["Clay", "Clay", "Zinn", "Zinn", "Zinn", "Edge"]})
    scores = Carried(Catalogue.of(dataset, dataset.edges("train")))
    told = PlainExplainer(scores, dataset)
    assert told.explain(history=["cup", "lid"], item="jug").text == (
        "It is by “Clay”, as is cup, which you took. You also took lid, which speaks for it."
    )
    for scores.carried in ({"cup": 1.0}, {"cup": 0.96, "lid": 0.04}):  # less is not worth a word
        assert told.explain(history=["cup", "lid"], item="jug").text == (
            "It is by “Clay”, as is cup, which you took."
        )
    scores.carried = {"cup": 1.0}
    assert told.explain(history=["cup"], item="saw").text.startswith("You took cup, and")
    scores.carried = {"lid": 0.04}
    assert told.explain(history=["lid"], item="saw").text.endswith("2 people took it so far.")


def test_what_others_wrote_is_not_what_the_catalogue_says() -> None:
    dataset = shop({"categories": ["crockery", "crockery", "crockery", "cookware", "garden", "tools"]})
    reviews = pl.DataFrame([("ben", "pot", "cookware")], ["user_id", "item_id", "text"], orient="row")
    told = make_dataset("shop", {**dataset.tables, "reviews": reviews})
    assert (
        neighbours(told)
        .explain(("dan", "pan"))
        .text.startswith("The catalogue says “cookware” of it. You took")
    )


def test_likes_meet_what_is_said_and_dislikes_are_never_praised() -> None:
    intents = [
        ("user", "dan", "like", "Enjoys sturdy enamel"),
        ("user", "dan", "dislike", "Dislikes flimsy rattling handles"),
        ("item", "pan", "like", "flimsy handles that rattle less"),
        ("item", "pan", "like", "enamel that lasts"),
        ("item", "pan", "dislike", "handles are rattling"),
    ]
    found = neighbours(shop(intents=intents)).explain(("dan", "pan"))
    assert found.text.startswith("You like “sturdy enamel”, and it is noted for “enamel that lasts”. ")
    assert found.text.endswith(
        "A caveat, as you avoid “flimsy rattling handles”: some say “handles are rattling” of it."
    )
    assert "less" not in found.text
    for claim in found.claims:
        assert claim.evidence
        assert set(claim.evidence) <= {one.id for one in found.evidence.statements}


def test_what_others_wrote_is_quoted_and_never_the_pairs_own() -> None:
    dataset = shop()
    reviews = pl.DataFrame(
        [("ben", "cup", "The glaze is smooth."), ("ann", "cup", "A secret.")],
        ["user_id", "item_id", "text"],
        orient="row",
    )
    found = neighbours(make_dataset("shop", {**dataset.tables, "reviews": reviews})).explain(("ann", "cup"))
    assert found.text.startswith("Somebody wrote “glaze is smooth” of it. ")


def test_something_new_and_popular_things_are_told_as_such() -> None:
    dataset = shop()
    catalogue = Catalogue.of(dataset, dataset.edges("train"))
    popular = PlainExplainer(PopularityRecommender(catalogue), dataset)
    assert popular.explain(("ann", "pot")).text == "4 people took it, more than anything else."
    assert popular.explain(("ann", "lid")).text == "One person took it so far."
    assert popular.explain(("ann", "jug")).text == "Nobody has taken it yet, so it is something new."
    assert popular.explain(history=[], item="pot").text == "4 people took it, more than anything else."
    told = popular.explain([("ann", "pot"), ("eve", "jug")])
    assert [one.because.kind for one in told if one.because] == ["popularity"] * 2
    assert "".join(popular.stream(("ann", "pot"))) == told[0].text
    pot, dan = catalogue.items.index("pot"), catalogue.users.index("dan")
    tied = Catalogue.of(dataset, catalogue.taken[(catalogue.taken != (dan, pot)).any(axis=1)])
    level = PlainExplainer(PopularityRecommender(tied), dataset)
    for item in ("pot", "pan", "cup"):
        assert level.explain(("ann", item)).text == "3 people took it, as much as anything else."


def test_a_history_of_unknown_items_is_named() -> None:
    with pytest.raises(UserError, match="unknown item id 'spoon'"):
        neighbours(shop()).explain(history=["spoon"], item="cup")
    with pytest.raises(UserError, match="unknown user id 'zoe'"):
        neighbours(shop()).explain([("zoe", "cup")])


@pytest.fixture(scope="module", params=["words", "vectors", "popular"])
def town_reasons(
    request: pytest.FixtureRequest, town: Dataset, vocabulary: Vocabulary, vectors: CollaborativeVectors
) -> PlainExplainer:
    """Reasons of random words and vectors, and of popularity."""
    if request.param == "popular":
        catalogue = Catalogue.of(town, town.edges("train"))
        return PlainExplainer(PopularityRecommender(catalogue), town)
    return PlainExplainer(BehaviourRecommender(vocabulary if request.param == "words" else vectors), town)


def test_every_pair_has_a_reason_whose_counts_are_right(town_reasons: PlainExplainer, town: Dataset) -> None:
    pairs = [(user, item) for user in range(11) for item in range(10)]
    catalogue = town_reasons.known.catalogue
    for (user, item), found in zip(pairs, town_reasons.explain(pairs), strict=True):
        assert found.text == " ".join(claim.text for claim in found.claims)
        assert re.fullmatch(r"[A-Z0-9].*\.", found.text), found.text
        assert ".." not in found.text
        _counts_hold(found, catalogue, user, item)
        assert town_reasons.explain((user, item)) == found


def _counts_hold(found: Explanation, catalogue: Catalogue, user: int, item: int) -> None:
    takers = [set(catalogue.taken[catalogue.taken[:, 1] == it, 0].tolist()) for it in range(10)]
    for one in found.evidence.statements:
        if count := re.fullmatch(r"(\d+) of the (\d+) others who took (.*) took it", one.text):
            named = [int(title) for title in re.findall(r"“Place (\d+)”", count[3])]
            others = set.intersection(*(takers[it] for it in named)) - {user}
            assert (int(count[1]), int(count[2])) == (len(others & takers[item]), len(others))
            assert all(user in takers[it] for it in named)


def test_words_of_a_person_can_be_changed(town: Dataset, vocabulary: Vocabulary) -> None:
    explainer, word = (
        PlainExplainer(BehaviourRecommender(vocabulary), town),
        vocabulary.token_names("user", 2)[3],
    )
    before, after = explainer.explain((2, 4)), explainer.explain((2, 4), without=[word])
    assert word in {token.token for token in before.tokens}
    assert word not in {token.token for token in after.tokens}
    assert before.because != after.because
    with pytest.raises(UserError, match="not a word of this person"):
        explainer.explain(history=[1, 2], item=4, without=[vocabulary.token_names("item", 4)[0]])


def test_glosses_choose_what_is_said(town: Dataset, vocabulary: Vocabulary) -> None:
    """Of statements that have nothing of the user's likes, that which the item's words stand for."""
    gloss = vocabulary.word(vocabulary.token_names("item", 4)[2])["gloss"][0]
    rows = [("item", "4", rank, phrase) for rank, phrase in enumerate(["parking nearby", gloss, "open late"])]
    intents = pl.DataFrame(rows, ["side", "entity_id", "rank", "phrase"], orient="row")
    bare = {name: table for name, table in town.tables.items() if name != "explanations"}
    explainer = PlainExplainer(
        BehaviourRecommender(vocabulary), make_dataset("town", {**bare, "intents": intents})
    )
    assert explainer.explain((2, 4)).text.startswith(f"It is noted for “{gloss}”.")


def test_without_the_data_set_titles_and_counts_remain(town: Dataset, vocabulary: Vocabulary) -> None:
    told: Any = PlainExplainer(BehaviourRecommender(vocabulary)).explain([(user, 3) for user in range(11)])
    assert all(found.text and "catalogue" not in found.text for found in told)
    assert np.mean(["“Place" in found.text for found in told]) > 0.5


class Welcoming(ItemKnnRecommender):
    """To whom texts about people and things make no words."""

    def newcomer_of(self, about: str, history: Sequence[Any] = ()) -> Newcomer:
        return Newcomer(np.zeros(0, np.int32), [], [], about)

    def meeting(self, newcomer: Newcomer) -> Self:
        return self

    def offering(self, text: str) -> tuple[Self, Newcomer]:
        title, _, rest = text.partition("\n")
        item = Newcomer(np.zeros(0, np.int32), [], [], rest, title)
        return type(self)(self.catalogue.offering(title)), item


def test_what_somebody_new_says_counts_as_what_a_user_does() -> None:
    """Likes are told, what is disliked is not praised, and a caveat names it; also one that is a single word."""
    intents = [
        ("item", "pan", "like", "sturdy enamel that lasts"),
        ("item", "pan", "like", "so much rattling"),
        ("item", "pan", "dislike", "rattling in the wind"),
    ]
    dataset = shop(intents=intents)
    told = PlainExplainer(Welcoming(Catalogue.of(dataset, dataset.edges("train"))), dataset)
    fond = told.explain(about="likes sturdy enamel", history=["pot"], item="pan").text
    assert "You like “sturdy enamel”" in fond
    assert "caveat" not in fond
    averse = told.explain(about="likes sturdy enamel, dislikes rattling", history=["pot"], item="pan").text
    assert "so much rattling" not in averse
    assert "A caveat, as you avoid “rattling”: some say “rattling in the wind” of it." in averse


def test_something_new_is_told_by_its_text() -> None:
    dataset = shop()
    told = PlainExplainer(Welcoming(Catalogue.of(dataset, dataset.edges("train"))), dataset)
    found = told.explain(user="ann", item_text="Copper Kettle\nwhistles a tune, polished copper").text
    assert "The catalogue says “" in found
    assert "Nobody has taken it yet" in found


def rated(
    ratings: dict[tuple[str, str], float], reviews: Sequence[tuple[str, str, str, float]] = ()
) -> Dataset:
    """The shop with stars: 5 but for those given here; reviews have stars of their own."""
    tables = shop().tables
    rows = tables["interactions"]
    stars = [ratings.get((user, item), 5.0) for user, item in rows.select("user_id", "item_id").iter_rows()]
    found = {**tables, "interactions": rows.with_columns(rating=pl.Series(stars, dtype=pl.Float64))}
    if reviews:
        columns = ["user_id", "item_id", "text", "rating"]
        found["reviews"] = pl.DataFrame(list(reviews), columns, orient="row")
    return make_dataset("shop", found)


def test_what_somebody_rated_low_is_no_reason() -> None:
    dataset = rated({("ann", "pan"): 1.0, ("ben", "saw"): 1.0})
    found = neighbours(dataset).explain(("ann", "cup"))
    assert found.text == "You took pot, and 2 of the 3 others who did also took this."
    assert found.because is not None
    assert "pan" not in [share.item_id for share in found.because.items]
    assert "pan" in [share.item_id for share in found.because.shares]  # which are exact all the same
    assert "pan" in neighbours(rated({})).explain(("ann", "cup")).text


@pytest.mark.parametrize(
    ("text", "stars", "told"),
    [
        ("The glaze is smooth.", 5.0, True),
        ("The glaze is smooth.", 1.0, False),
        ("The glaze arrived damaged.", 5.0, False),
        ("Kam beschädigt an.", 5.0, False),
        ("The lid is missing screws.", 5.0, False),
    ],
)
def test_complaints_and_low_stars_are_no_praise(text: str, stars: float, told: bool) -> None:
    others = [("cleo", "pan", "It shines.", 5.0), ("dan", "pot", "It rusts.", 1.0)]
    dataset = rated({}, [("ben", "cup", text, stars), *others])
    assert ("Somebody wrote" in neighbours(dataset).explain(("ann", "cup")).text) is told


def test_what_is_counted_was_said_in_the_same_place() -> None:
    """What somebody wrote of a thing is nothing that the catalogue says of it."""
    kinds = ["smooth glaze", "", "", "cookware", "", "tools"]
    dataset = shop({"categories": kinds})
    reviews = pl.DataFrame(
        [("ben", "pot", "smooth glaze"), ("cleo", "pan", "smooth glaze")],
        ["user_id", "item_id", "text"],
        orient="row",
    )
    dataset = make_dataset("shop", {**dataset.tables, "reviews": reviews})
    assert (
        neighbours(dataset)
        .explain(("ann", "cup"))
        .text.startswith("The catalogue says “smooth glaze” of it. You took")
    )


def test_all_that_they_took_is_counted_and_only_what_they_liked_is_named() -> None:
    kinds = ["crockery", "crockery", "crockery", "cookware", "cookware", "tools"]
    tables = rated({("ann", "pan"): 1.0}).tables
    items = tables["items"].with_columns(categories=pl.Series(kinds))
    text = neighbours(make_dataset("shop", {**tables, "items": items})).explain(("ann", "cup")).text
    assert text.startswith(
        "The catalogue says “crockery” of it, as of lid, which you took. You took pot, and"
    )
    low = rated({("ann", "lid"): 1.0}).tables
    said = neighbours(make_dataset("shop", {**low, "items": items})).explain(("ann", "cup")).text
    assert said.startswith("The catalogue says “crockery” of it. You took pot and pan, and")
