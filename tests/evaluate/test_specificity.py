"""Specificity: names go, what is said stays; ranks and tf-idf by hand and against scikit-learn."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from forwhy.data.dataset import Dataset, Pairs, make_dataset
from forwhy.evaluate.controls import known_table
from forwhy.evaluate.document import evaluation_document
from forwhy.evaluate.gain import chance
from forwhy.evaluate.reading import Outputs, match
from forwhy.evaluate.specificity import AMONG, Names, Specificity, TfIdf, name_words
from forwhy.evaluate.text import OWN
from forwhy.text.encoder import HashEncoder

TITLES = {
    "a": "Drago's Seafood Restaurant",
    "b": "Milk & Honey Tapas",
    "c": "Livery - Indianapolis",
    "d": "The Tavern",
    "e": "",
    "f": "In the Valley",
}
TOLD = [
    ("a", "fresh fish in a restaurant with milk"),
    ("b", "tapas and honey in the sun"),
    ("c", "loud music, honey and seafood in the yard"),
    ("d", "a restaurant with tapas in the yard, in the evening"),
]
TESTED = [
    ("a", "The user would enjoy Drago's for its grilled oysters"),
    ("b", "Milk and Honey has great sherry"),
    ("c", "roof terrace, says Livery"),
    ("d", "dark beer in this tavern"),
    ("e", "old records"),
    ("f", "hikes in the hills"),
]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rows = [("ann", item, text, "train") for item, text in TOLD]
    rows += [("bob", item, text, "test") for item, text in TESTED]
    edges = [(user, item, split) for user, item, _, split in rows]
    return make_dataset(
        "small",
        {
            "interactions": pl.DataFrame(edges, schema=("user_id", "item_id", "split"), orient="row"),
            "explanations": pl.DataFrame(rows, schema=("user_id", "item_id", "text", "split"), orient="row"),
            "items": pl.DataFrame({"item_id": [*TITLES], "title": [*TITLES.values()]}),
        },
    )


@pytest.mark.parametrize(
    ("item", "text", "left"),
    [
        (0, "You'd enjoy Drago's Seafood Restaurant for its seafood", "You'd enjoy for its seafood"),
        (0, "DRAGO’S oysters, Drago's' and Dragos too", "oysters, and too"),
        (0, "a seafood restaurant", "a seafood restaurant"),
        (1, "Milk & Honey: milk and honey tapas, tapas, honey", ": , tapas, honey"),
        (2, "Livery's roof in Indianapolis", "roof in"),
        (3, "a tavern, The Tavern and Taverna", "a , The and Taverna"),
        (4, "nothing is known of it", "nothing is known of it"),
        (5, "a vineyard in the sun, not In the Valley", "a vineyard in the sun, not"),
    ],
)
def test_names_go_and_what_is_said_stays(dataset: Dataset, item: int, text: str, left: str) -> None:
    assert Names(dataset.titles(), dataset.pairs("train")).without(text, item) == left


def test_hostile_titles_are_words_and_no_patterns() -> None:
    nobody = Pairs(np.array([], dtype=np.int64), np.array([], dtype=np.int64), ())
    names = Names(["(.*)+$ [a-z", "x" * 100_000, "!!!", "A", "and"], nobody)
    assert names.without("a to z (.*)+$", 0) == "a to (.*)+$"
    assert names.without("x" * 50, 1) == "x" * 50
    assert [names.without("and a!", item) for item in (2, 3, 4)] == ["and a!", "and !", "and a!"]


def test_tfidf_is_that_of_scikit_learn_without_its_one(dataset: Dataset) -> None:
    text = pytest.importorskip("sklearn.feature_extraction.text")
    told = dataset.pairs("train").texts
    theirs = text.TfidfVectorizer(tokenizer=name_words, token_pattern=None, norm=None).fit(told)
    weights = theirs.idf_ - 1
    rows = text.CountVectorizer(vocabulary=theirs.vocabulary_, tokenizer=name_words, token_pattern=None)
    vectors = rows.fit_transform(told).toarray() * weights
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ours = TfIdf(told)
    found = [[ours.cosine(one, other) for other in told] for one in told]
    assert np.allclose(found, vectors @ vectors.T)
    assert ours.weight("in") == 0  # every text has it
    assert ours.weight("never seen") == pytest.approx(np.log(5))
    assert ours.cosine("in", "in") == ours.cosine("", "tapas") == 0


def scored(
    dataset: Dataset, texts: Sequence[str], rows: Sequence[int] = range(6), encoder: bool = True
) -> dict:
    test = dataset.pairs("test")
    measure = Specificity(dataset, test.users[rows], test.items[rows], HashEncoder() if encoder else None)
    return measure(texts, [test.texts[row] for row in rows]).of_pairs()


def test_the_reference_itself_comes_first_and_its_name_alone_is_worth_nothing(dataset: Dataset) -> None:
    own = scored(dataset, dataset.pairs("test").texts)
    for name in OWN:
        assert own[name] == pytest.approx(np.ones(6))
    named = scored(dataset, [title.removeprefix("The ") for title in TITLES.values()])
    assert named["own_mrr"].tolist() == [1 / 6] * 6  # an empty text is as near to each: ties count against it
    assert named["own_hit@10"].tolist() == [1.0] * 6  # of six
    assert named["own_tfidf"].tolist() == [0.0] * 6
    assert set(scored(dataset, [*TITLES.values()], encoder=False)) == {"own_tfidf"}


def test_a_pair_is_ranked_among_the_same_texts_in_any_company(dataset: Dataset) -> None:
    texts = ["oysters and sherry", "sherry", "music on a roof", "beer", "records", "hills"]
    whole = scored(dataset, texts)
    some = scored(dataset, [texts[4], texts[1]], [4, 1])
    for name in OWN:
        assert some[name].tolist() == whole[name][[4, 1]].tolist()


def test_rows_that_are_no_pair_do_not_count(dataset: Dataset) -> None:
    nobody = np.array([-1, 0])
    measure = Specificity(dataset, nobody, np.array([-1, 2]), HashEncoder())
    found = measure(["x", "roof terrace"], ["x", "roof terrace, says Livery"])
    for values in found.of_pairs().values():
        assert np.isnan(values).tolist() == [True, False]
    assert found.corpus["own_among"] == 6
    assert not Specificity(dataset, nobody[:1], nobody[:1])(["x"], ["x"]).names()


def test_it_stands_in_the_table_with_its_controls_and_has_its_own_part(dataset: Dataset) -> None:
    test = dataset.pairs("test")
    outputs = match("ours", Outputs.of(dataset.external(test), test.texts, test.texts), dataset)
    table = known_table(outputs, dataset, HashEncoder(), 0)
    assert "lookup" in table.controls
    for control in table.controls.values():
        assert control.scores.corpus["own_mrr"] < table.method.corpus["own_mrr"] == 1
        assert set(OWN) <= set(table.method.margins(control.scores))
    document = evaluation_document(text=table)["specificity"]
    assert {name: document[name] for name in ("mrr", "hit@10", "tfidf")} == pytest.approx(
        {"mrr": 1, "hit@10": 1, "tfidf": 1}
    )
    assert set(document["intervals"]) == {"mrr", "hit@10", "tfidf"}
    assert (document["pairs"], document["among"], document["chance"]) == (6, 6, chance(6))
    assert known_table(outputs, None, HashEncoder(), 0).method.corpus.keys().isdisjoint(OWN)
    assert evaluation_document(text=known_table(outputs, None, None, 0))["specificity"] is None


def test_chance_is_that_of_a_constant(dataset: Dataset) -> None:
    assert chance(AMONG)["mrr"] == pytest.approx(0.052, abs=5e-4)
    assert chance(AMONG)["hit@10"] == pytest.approx(0.1)
