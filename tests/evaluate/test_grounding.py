"""Evidence that leaks nothing, a threshold that balances, and shares computed by hand."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.data.dataset import Dataset, Pairs, make_dataset
from forwhy.data.intents import IntentsConfig
from forwhy.data.sources.papers import import_xrec
from forwhy.errors import UserError
from forwhy.evaluate.grounding import (
    Calibration,
    Grounder,
    balanced_threshold,
    cosine_support,
    entailment_support,
    ground,
    grounding_table,
    word_support,
)
from forwhy.evaluate.reading import Outputs, match
from forwhy.text.encoder import HashEncoder
from forwhy.text.statements import KnownStatements, Statement

SHARED = Path(os.environ.get("FORWHY_SHARED", Path(__file__).parents[3] / "shared"))
TEXTS = {
    ("ann", "bar", "train"): "The user would enjoy the business for its cold beer and the live jazz.",
    ("ann", "cafe", "train"): "The user would enjoy the business for its live jazz, strong coffee.",
    ("bob", "bar", "train"): "The user would enjoy the business for its cold beer, salty snacks.",
    ("bob", "cafe", "train"): "The user would enjoy the business for its soft chairs, strong coffee.",
    ("cem", "bar", "test"): "The user would enjoy the business for its cold beer, red stools.",
    ("ann", "den", "test"): "The user would enjoy the business for its dark corners.",
    ("cem", "den", "test"): "The user would enjoy the business.",
}
CEM_BAR, ANN_DEN, CEM_DEN = range(3)


def equal(premises: list[str], hypotheses: list[str]) -> list[float]:
    """An entailment model that knows only what it is told."""
    return [float(a.casefold() == b.casefold()) for a, b in zip(premises, hypotheses, strict=True)]


@pytest.fixture(scope="module")
def evening() -> Dataset:
    rows = [(*key, text) for key, text in TEXTS.items()]
    explanations = pl.DataFrame(rows, schema=["user_id", "item_id", "split", "text"], orient="row")
    people, places = ["ann", "bob", "cem"], ["bar", "cafe", "den"]
    tables = {
        "interactions": explanations.select("user_id", "item_id", "split"),
        "users": pl.DataFrame({"user_id": people}),
        "items": pl.DataFrame(
            {"item_id": places, "title": ["Blue Bar", "Old Cafe", ""], "categories": ["Pubs, Music", "", ""]}
        ),
        "explanations": explanations,
        "profiles": pl.DataFrame(
            {
                "side": ["user", "user", "item"],
                "entity_id": ["bob", "ann", "den"],
                "text": ["Likes big dogs.", "Likes small cats.", "Offers good darts."],
            }
        ),
        "reviews": pl.DataFrame(
            {
                "user_id": ["bob", "cem"],
                "item_id": ["cafe", "bar"],
                "text": ["Quick waiters.", "CANARY seen."],
            }
        ),
    }
    return make_dataset("evening", tables)


@pytest.fixture(scope="module")
def exact(evening: Dataset) -> Grounder:
    """Support is equality, so every share can be counted by hand."""
    calibration = Calibration(1.0, {}, {}, {})
    return Grounder(
        KnownStatements.read(evening),
        entailment_support(equal),
        calibration,
        word_support(evening.pairs("train").texts),
    )


def texts_of(statements: Sequence[Statement]) -> list[str]:
    return [statement.text for statement in statements]


def numbers(dataset: Dataset, user: str, item: str) -> tuple[int, int]:
    return int(dataset.users.numbers(pl.Series([user]))[0]), int(dataset.items.numbers(pl.Series([item]))[0])


def test_evidence_names_its_sources(evening: Dataset) -> None:
    pair = numbers(evening, "cem", "bar")
    known = KnownStatements.read(evening).of(*pair)
    ann, bob = numbers(evening, "ann", "bar"), numbers(evening, "bob", "bar")
    assert known.item == [
        Statement("Blue Bar", "title"),
        Statement("Pubs", "kind"),
        Statement("Music", "kind"),
        Statement("cold beer", "explanation", ann),
        Statement("live jazz", "explanation", ann),
        Statement("salty snacks", "explanation", bob),
    ]
    assert known.user == []
    assert (known.has("item"), known.has("user"), known.has("either")) == (True, False, True)


def test_a_training_pair_is_judged_without_its_own_text(evening: Dataset) -> None:
    known = KnownStatements.read(evening).of(*numbers(evening, "bob", "cafe"))
    assert texts_of(known.item) == ["Old Cafe", "live jazz", "strong coffee"]
    assert texts_of(known.user) == ["cold beer", "salty snacks"]


def test_a_title_alone_is_no_evidence() -> None:
    tables = {
        "interactions": pl.DataFrame({"user_id": ["u"], "item_id": ["i"], "split": ["test"]}),
        "items": pl.DataFrame({"item_id": ["i"], "title": ["Blue Bar"]}),
    }
    known = KnownStatements.read(make_dataset("one", tables)).of(0, 0)
    assert texts_of(known.item) == ["Blue Bar"]
    assert not known.has("either")


def test_profiles_are_read_only_when_asked_for(evening: Dataset) -> None:
    pair = numbers(evening, "bob", "den")
    assert texts_of(KnownStatements.read(evening).of(*pair).item) == []
    asked = KnownStatements.read(evening, IntentsConfig(source="profiles"))
    assert asked.of(*pair).item == [Statement("good darts", "phrase")]
    assert "big dogs" in texts_of(asked.of(*pair).user)
    # Ann occurs in a held-out pair.
    assert "small cats" not in texts_of(asked.of(*numbers(evening, "ann", "den")).user)


def test_no_text_of_a_held_out_pair_is_evidence(tiny_town: Dataset) -> None:
    """Its explanation and its review replaced by a canary: the evidence of every pair stays the same."""
    held = {tuple(pair) for pair in tiny_town.heldout_pairs().tolist()}
    keys = [(tiny_town.users.values[user], tiny_town.items.values[item]) for user, item in held]
    canary = pl.struct("user_id", "item_id").map_elements(
        lambda row: (row["user_id"], row["item_id"]) in keys, return_dtype=pl.Boolean
    )
    tables = dict(tiny_town.tables)
    for name in ("explanations", "reviews"):
        text = pl.when(canary).then(pl.lit("CANARY")).otherwise(pl.col("text")).alias("text")
        tables[name] = tables[name].with_columns(text)
        assert (tables[name]["text"] == "CANARY").any()
    marked = make_dataset("canary", tables)
    assert marked.users == tiny_town.users
    for user, item in held:
        known = KnownStatements.read(marked).of(user, item)
        assert known == KnownStatements.read(tiny_town).of(user, item)
        assert not any("CANARY" in statement.text for side in known for statement in side)


def test_shares_by_hand(evening: Dataset, exact: Grounder) -> None:
    pairs = evening.pairs("test")
    texts = [
        "Cold beer, live jazz, a cozy patio, and red stools.",
        "Live jazz and cold beer. Warm soup!",
        "Soup",
    ]
    found = exact.score(texts, pairs)
    # Beer and jazz are known of the bar; of Cem nothing, of the den nothing, of Ann beer, jazz and coffee.
    expected = {
        "precision": [2 / 4, 2 / 3, np.nan],
        "precision_item": [2 / 4, np.nan, np.nan],
        "precision_user": [np.nan, 2 / 3, np.nan],
        "recall": [2 / 2, 0 / 1, np.nan],
        "claims": [4, 3, 1],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found.per_pair[name], values, err_msg=name)
    assert found.unsupported == [["cozy patio", "red stools"], ["Warm soup"], []]
    assert found.excluded == {"no_evidence": 1, "no_claims": 0, "no_reference_claims": 1}


def test_what_is_shown_supports_by_words(evening: Dataset, exact: Grounder) -> None:
    pairs = evening.pairs("test")
    shown = [["beers that are cold", "a chair"], [], ["good darts"]]
    found = exact.score(pairs.texts, pairs, shown).per_pair["supported"]
    assert found[:2].tolist() == [0.5, 0.0]
    assert np.isnan(found[CEM_DEN]), "it claims nothing"
    assert "supported" not in exact.score(pairs.texts, pairs).per_pair


def test_words_support_without_their_endings_and_rare_ones_more() -> None:
    support = word_support(["good food", "good tacos", "good staff", "cold"])
    claims = ["tasty taco", "good service", "serving cold", "good", "", "of"]
    [found] = support([(claims, ["great tacos", "cold servings, good for all"])])
    assert found.round(2).tolist() == [0.5, 0.12, 1.0, 1.0, 0.0, 0.0]
    [none] = support([(["cold"], [])])
    assert none.tolist() == [-np.inf]


def test_the_document_begins_with_what_is_asked_first(evening: Dataset, exact: Grounder) -> None:
    pairs = evening.pairs("test")
    shown = [["cold beer", "red stools"], ["dark corners"], ["darts"]]
    outputs = match("ours", Outputs.of(evening.external(pairs), pairs.texts, pairs.texts, shown), evening)
    document = ground(outputs, evening, exact).document()
    assert document["supported"] == document["method"]["supported"] == 1
    assert document["precision"] == document["method"]["precision"]
    assert document["margin"] == document["controls"]["dealt"]["margin"]["precision"]
    assert set(document["intervals"]) == {"precision", "margin", "supported"}
    without = match("ours", Outputs.of(evening.external(pairs), pairs.texts, pairs.texts), evening)
    assert ground(without, evening, exact).document()["supported"] is None
    with pytest.raises(UserError, match="1 rows are held-out pairs of 'evening'; two are needed"):
        ground(outputs.take([0]), evening, exact)


def test_a_text_without_claims_is_counted_and_recalls_nothing(evening: Dataset, exact: Grounder) -> None:
    found = exact.score(["", "😀", "!"], evening.pairs("test"))
    assert found.excluded == {"no_evidence": 1, "no_claims": 2, "no_reference_claims": 1}
    assert np.isnan(found.per_pair["precision"]).all()
    assert found.per_pair["recall"][:2].tolist() == [0, 0]
    assert found.intervals().keys() == {"recall", "claims"}


def test_references_recall_themselves(tiny_town: Dataset) -> None:
    evidence, train, pairs = (
        KnownStatements.read(tiny_town),
        tiny_town.pairs("train"),
        tiny_town.pairs("test"),
    )
    for common in ([], evidence.background(train)):
        grounder = Grounder.fit(evidence, train, cosine_support(HashEncoder(), common))
        assert (grounder.score(pairs.texts, pairs).per_pair["recall"] == 1).all()


def test_pairs_do_not_depend_on_each_other(tiny_town: Dataset) -> None:
    evidence, pairs = KnownStatements.read(tiny_town), tiny_town.pairs("test")
    grounder = Grounder.fit(evidence, tiny_town.pairs("train"), cosine_support(HashEncoder()))
    texts = pairs.texts[1:] + pairs.texts[:1]
    order = np.random.default_rng(1).permutation(len(pairs))
    straight = grounder.score(texts, pairs)
    mixed = grounder.score([texts[row] for row in order], pairs.select(order))
    for name, values in straight.per_pair.items():
        np.testing.assert_array_equal(mixed.per_pair[name], values[order])


def test_scores_need_a_text_for_each_pair(evening: Dataset, exact: Grounder) -> None:
    with pytest.raises(ValueError, match="1 texts for 3 pairs"):
        exact.score(["x"], evening.pairs("test"))


scores = st.lists(st.floats(-1, 1), min_size=1, max_size=30).map(np.array)


@given(scores, scores)
def test_no_score_balances_better_than_the_threshold(right: np.ndarray, wrong: np.ndarray) -> None:
    def difference(threshold: float) -> float:
        return abs(float((right < threshold).mean() - (wrong >= threshold).mean()))

    best = min(difference(value) for value in [*right, *wrong])
    assert difference(balanced_threshold(right, wrong)) == pytest.approx(best)


def test_apart_scores_are_told_apart() -> None:
    assert balanced_threshold(np.array([0.7, 0.9, 0.8]), np.array([0.1, 0.3])) == 0.7


class Circle:
    """A text is an angle in degrees."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        turns = np.radians([float(text) for text in texts])
        return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


@given(st.lists(st.integers(0, 359).map(str)), st.lists(st.integers(0, 359).map(str)))
def test_support_is_the_best_cosine(said: list[str], known: list[str]) -> None:
    (found,) = cosine_support(Circle())([(said, known)])
    for claim, score in zip(said, found, strict=True):
        cosines = [np.cos(np.radians(int(claim) - int(statement))) for statement in known]
        assert score == pytest.approx(max(cosines, default=-np.inf), abs=1e-6)


def test_chance_by_hand() -> None:
    """Of four background statements 0° and 5° are nearer to 0° than the best, 10°: (1 - 2/4)^m."""
    support = cosine_support(Circle(), ["0", "5", "90", "180"])
    one, two, there, nothing = support(
        [(["0"], ["10"]), (["0"], ["10", "200"]), (["0"], ["0", "9"]), (["0"], [])]
    )
    assert [*one, *two, *there, *nothing] == [0.5, 0.25, 1.0, -np.inf]


def test_entailment_takes_the_best_premise() -> None:
    def longer(premises: list[str], hypotheses: list[str]) -> list[float]:
        return [len(a) / (len(a) + len(b)) for a, b in zip(premises, hypotheses, strict=True)]

    found = entailment_support(longer)([(["a", "bbb"], ["x", "yyy"]), (["a"], []), ([], ["x"])])
    assert [row.tolist() for row in found] == [[0.75, 0.5], [-np.inf], []]


@pytest.mark.parametrize("reply", [[0.5], [0.5, 1.5], [0.5, np.nan], [[0.1, 0.9], [0.2, 0.8]]])
def test_what_is_no_probability_is_refused(reply: list[float]) -> None:
    with pytest.raises(UserError, match="entailment model"):
        entailment_support(lambda premises, hypotheses: reply)([(["a"], ["x", "y"])])


def test_calibration_counts_right_and_dealt_claims(tiny_town: Dataset) -> None:
    evidence, train = KnownStatements.read(tiny_town), tiny_town.pairs("train")
    common = evidence.background(train, size=50)
    assert len(common) == 50
    calibration = Grounder.fit(evidence, train, cosine_support(HashEncoder(), common)).calibration
    assert calibration.missed.keys() == {"either", "item", "user"}
    assert abs(calibration.missed["either"] - calibration.accepted["either"]) < 0.2
    # People of the town are told apart by their taste: right evidence must support more than dealt evidence.
    assert calibration.missed["either"] + calibration.accepted["either"] < 1


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_training_pairs_are_refused(tiny_town: Dataset, count: int) -> None:
    few = tiny_town.pairs("train").select(range(count))
    with pytest.raises(UserError, match="two training explanations"):
        Grounder.fit(KnownStatements.read(tiny_town), few, cosine_support(HashEncoder()))


def test_one_item_cannot_be_dealt(evening: Dataset) -> None:
    train = evening.pairs("train")
    bar = train.select(np.flatnonzero(train.items == train.items[0]))
    with pytest.raises(UserError, match="two users and two items"):
        Grounder.fit(KnownStatements.read(evening), bar, entailment_support(equal))


def test_a_constant_gains_nothing_over_its_own_deal(tiny_town: Dataset) -> None:
    train, pairs = tiny_town.pairs("train"), tiny_town.pairs("test")
    grounder = Grounder.fit(KnownStatements.read(tiny_town), train, cosine_support(HashEncoder()))
    table = grounding_table([train.texts[0]] * len(pairs), pairs, grounder, train.texts)
    document = json.loads(json.dumps(table.document(), allow_nan=False))
    assert document["controls"]["dealt"]["margin"]["precision"] == 0
    assert document["controls"]["reference"]["recall"] == 1
    assert document["sentence"] in train.texts
    assert document["method"]["pairs"]["precision"] <= len(pairs)
    assert document["calibration"]["threshold"] == grounder.calibration.threshold


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=80), min_size=3, max_size=3))
def test_shares_are_shares(evening: Dataset, exact: Grounder, texts: list[str]) -> None:
    found = exact.score(texts, evening.pairs("test"))
    for name, values in found.per_pair.items():
        counted = values[~np.isnan(values)]
        assert (counted >= 0).all()
        assert name == "claims" or (counted <= 1).all()
    assert all(len(row) <= found.per_pair["claims"][k] for k, row in enumerate(found.unsupported))


@pytest.mark.parametrize(
    "text",
    [
        " ".join(f"word{k}," for k in range(10_000)),
        "a" * 100_000,
        "\x00\x1b[31m" * 15_000,
        "😀, " * 30_000,
        "\ud800 x",
    ],
)
def test_hostile_texts_are_scored(evening: Dataset, text: str) -> None:
    evidence = KnownStatements.read(evening)
    support = cosine_support(HashEncoder(), evidence.background(evening.pairs("train")))
    pairs = evening.pairs("test").select([0])
    start = time.perf_counter()
    grounder = Grounder(evidence, support, Calibration(0.5, {}, {}, {}), word_support(pairs.texts))
    grounder.score([text], pairs, [[text[:200]]])
    grounder.score(["x"], Pairs(pairs.users, pairs.items, (text,)))
    assert time.perf_counter() - start < 20


@pytest.mark.slow
def test_references_of_yelp_beat_what_is_dealt_and_what_is_constant() -> None:
    folder = SHARED / "data" / "xrec-yelp"
    if not (folder / "tst.pkl").exists():
        pytest.skip("no XRec-Yelp here")
    dataset = import_xrec(folder)
    evidence = KnownStatements.read(dataset, IntentsConfig(source="profiles"))
    train, pairs = dataset.pairs("train"), dataset.pairs("test").select(range(200))
    support = cosine_support(HashEncoder(), evidence.background(train))
    grounder = Grounder.fit(evidence, train, support, limit=200)
    document = grounding_table(pairs.texts, pairs, grounder, train.texts).document()
    for control in ("dealt", "constant"):
        low, _ = document["controls"][control]["margin"]["intervals"]["precision"]
        assert low > 0
