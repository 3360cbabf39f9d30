"""Planted leaks and oddities are found and counted; a clean data set has none of them."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from forwhy.bridge.options import GenerationConfig
from forwhy.data.audit import LONGEST_EXPLANATION, audit
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.finding import Finding
from forwhy.data.sample import little_town
from forwhy.evaluate.ranking import rank_scores
from forwhy.recommend.base import PopularityRecommender

SECRET = "You like rivers at dawn and this boathouse rents canoes from five while the mist is still there."
PUBLIC = "Late trains and strong coffee are yours so the station bar will keep you company until two."


def findings(**tables: dict[str, list[Any]]) -> dict[str, Finding]:
    """By id, what the audit of these tables says."""
    frames = {name: pl.DataFrame(columns) for name, columns in tables.items()}
    return by_id(make_dataset("planted", frames, duplicates="keep"))


def by_id(dataset: Dataset) -> dict[str, Finding]:
    return {finding.id: finding for finding in audit(dataset)}


def taken(users: int = 4, items: int = 6) -> dict[str, list[Any]]:
    """Everybody takes everything; the last item of each is the test, so that nothing is cold."""
    pairs = [(f"u{user}", f"i{item}") for user in range(users) for item in range(items)]
    split = ["test" if int(user[1]) == int(item[1]) else "train" for user, item in pairs]
    return {"user_id": [user for user, _ in pairs], "item_id": [item for _, item in pairs], "split": split}


def explained(*rows: tuple[str, str, str, str]) -> dict[str, list[Any]]:
    names = ("user_id", "item_id", "text", "split")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


HELD = ("u0", "i0", SECRET, "test")
TAUGHT = ("u1", "i2", PUBLIC, "train")


def test_clean_tables_have_only_a_note_on_popularity() -> None:
    more = ("u0", "i2", PUBLIC[11:], "train"), ("u2", "i0", f"Swans. {SECRET[:30]}", "train")
    rows = explained(HELD, TAUGHT, *more)
    assert set(findings(interactions=taken(), explanations=rows)) == {"popularity-alone"}


# --- copies


def test_counts_of_pairs_equal_those_of_data_show() -> None:
    dataset = make_dataset(
        "pairs",
        {
            "interactions": pl.DataFrame(taken()),
            "explanations": pl.DataFrame(
                explained(HELD, TAUGHT, ("u1", "i1", PUBLIC, "train"), ("u2", "i3", SECRET, "valid"))
            ),
        },
    )
    found, counted = by_id(dataset), dataset.leaks()
    inside = found["heldout-pairs-in-training-graph"]
    assert (inside.count, inside.of) == (1, 2)
    assert inside.count == counted["heldout_pairs_in_train_graph"]
    assert inside.examples == ({"user_id": "u2", "item_id": "i3", "split": "valid"},)
    told = found["training-text-of-heldout-interactions"]
    assert (told.count, told.severity) == (counted["train_explanations_in_heldout_interactions"], "leak")


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        (SECRET.upper(), "heldout-text-in-training"),
        (SECRET.replace("mist", "fog"), "heldout-text-near-training"),
        (f"{PUBLIC} {SECRET}", "heldout-text-near-training"),
        (PUBLIC, None),
    ],
)
def test_heldout_text_in_training(text: str, slug: str | None) -> None:
    found = findings(interactions=taken(), explanations=explained(HELD, ("u1", "i2", text, "train")))
    assert {name for name in found if "heldout-text" in name} == ({slug} if slug else set())


def test_short_heldout_text_is_a_warning() -> None:
    rows = explained(("u0", "i0", "Great food!", "test"), ("u1", "i2", "great food", "train"))
    found = findings(interactions=taken(), explanations=rows)
    assert found["short-heldout-text-in-training"].severity == "warning"
    assert "heldout-text-in-training" not in found


def test_heldout_text_in_profiles_reviews_and_intents() -> None:
    found = findings(
        interactions=taken(),
        explanations=explained(HELD, TAUGHT),
        profiles={
            "side": ["user", "item"],
            "entity_id": ["u3", "i0"],
            "text": [f"Somebody: {SECRET}", "A house."],
        },
        reviews={"user_id": ["u3", "u0"], "item_id": ["i2", "i0"], "text": [SECRET, SECRET]},
        intents={
            "side": ["user", "user", "item"],
            "entity_id": ["u0", "u1", "i0"],
            "rank": [1, 1, 1],
            "phrase": [
                "rents canoes from five while the mist",
                "rents canoes from five while the mist",
                "canoes",
            ],
        },
    )
    assert found["heldout-text-in-profiles"].count == 1
    assert found["heldout-text-in-reviews"].count == 1
    assert found["reviews-of-heldout-pairs"].examples[0]["user_id"] == "u0"
    assert found["reviews-of-heldout-pairs"].count == 1
    assert found["heldout-text-in-user-intents"].examples[0]["entity_id"] == "u0"
    assert found["heldout-text-in-user-intents"].count == 1
    assert "heldout-text-in-item-intents" not in found
    assert found["profiles-of-heldout-items"].count == 1
    assert "profiles-of-heldout-users" not in found


def test_a_review_of_the_heldout_pair_alone_is_no_copy() -> None:
    reviews = {"user_id": ["u0"], "item_id": ["i0"], "text": [SECRET]}
    assert "heldout-text-in-reviews" not in findings(
        interactions=taken(), explanations=explained(HELD, TAUGHT), reviews=reviews
    )


# --- behaviour


def test_repeats_tell_one_event_from_two() -> None:
    events = {
        "user_id": ["u", "u", "u", "u", "u", "v", "v"],
        "item_id": ["a", "a", "b", "b", "c", "d", "d"],
        "timestamp": [1, 1, 2, 9, 3, 4, 5],
        "split": ["train", "test", "train", "test", "train", "train", "train"],
    }
    found = findings(interactions=events)
    assert found["interaction-in-several-splits"].examples == (
        {"user_id": "u", "item_id": "a", "splits": "train, test"},
    )
    assert found["repeated-across-splits"].examples[0]["item_id"] == "b"
    assert found["repeated-in-one-split"].examples[0]["item_id"] == "d"
    assert {found[name].of for name in found if "repeated" in name} == {4}
    del events["timestamp"]
    assert findings(interactions=events)["interaction-in-several-splits"].count == 2


def test_cold_users_and_items() -> None:
    rows = {
        "user_id": ["u", "u", "u", "v"],
        "item_id": ["a", "b", "c", "a"],
        "split": ["train", "train", "test", "test"],
    }
    held = explained(("u", "b", SECRET, "test"))
    found = findings(interactions=rows, explanations=held)
    assert [case["item_id"] for case in found["cold-test-items"].examples] == ["c", "b"]
    assert found["cold-test-users"].examples == ({"user_id": "v", "item_id": "a"},)
    assert found["cold-test-items"].of == 3
    assert found["items-without-training"].count == 2


def sequences(ascending: int, timed: bool, style: str = "i{:03d}", seed: int = 0) -> dict[str, list[Any]]:
    """40 users with 6 of 200 items in random order, the first `ascending` of them sorted by id."""
    random = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"user_id": [], "item_id": [], "split": [], "timestamp": []}
    for user in range(40):
        items = [style.format(number) for number in random.choice(200, 6, replace=False)]
        rows["item_id"] += sorted(items) if user < ascending else items
        rows["user_id"] += [f"u{user:02d}"] * 6
        rows["timestamp"] += [int(random.integers(10)) + 10 * place for place in range(6)]
        rows["split"] += ["train"] * 4 + ["valid", "test"]
    if not timed:
        del rows["timestamp"]
    return rows


@pytest.mark.parametrize("style", ["i{:03d}", "{:d}"])
def test_alphabetical_sequences(style: str) -> None:
    found = findings(interactions=sequences(30, timed=True, style=style))["time-follows-ids"]
    assert (found.severity, found.of) == ("leak", 40)
    assert 30 <= found.count <= 31
    assert "alphabetical" in found.meaning
    rows = findings(interactions=sequences(30, timed=False, style=style))["rows-follow-ids"]
    assert rows.severity == "note"


def test_random_sequences_are_not_suspected() -> None:
    assert {"time-follows-ids", "rows-follow-ids"}.isdisjoint(findings(interactions=sequences(4, timed=True)))
    assert "rows-follow-ids" not in findings(interactions=sequences(0, timed=False))


def test_tied_times_do_not_look_sorted() -> None:
    rows = sequences(40, timed=True)
    rows["timestamp"] = [7] * len(rows["user_id"])
    found = findings(interactions=rows)
    assert "time-follows-ids" not in found
    assert (found["constant-timestamps"].count, found["constant-timestamps"].severity) == (40, "warning")


def test_the_future_in_training() -> None:
    rows = sequences(0, timed=True)
    assert "training-after-test" not in findings(interactions=rows)
    rows["timestamp"][5] = 0
    assert findings(interactions=rows)["training-after-test"].examples[0]["user_id"] == "u00"
    rows["timestamp"] = list(range(6)) * 40
    found = findings(interactions=rows)
    assert found["timestamps-are-positions"].count == 40


def test_columns_of_the_users_own_do_not_mislead() -> None:
    rows = sequences(0, timed=True)
    own = {
        name: [10**6] * len(rows["split"]) for name in ("n", "times", "last_train", "number", "rows", "words")
    }
    assert set(findings(interactions=rows | own)) == set(findings(interactions=rows))


def test_popularity_equals_the_recommender_under_full_ranking() -> None:
    town = little_town(users=60, items=80, visits=8, explanations=(10, 2, 2))
    train = town.edges("train", "as-published")
    model = PopularityRecommender.fit(town, "as-published")
    ranked = rank_scores(model.scores, len(town.users), len(town.items), train, town.edges("test"), ks=(20,))
    note = by_id(town)["popularity-alone"]
    assert f"Recall@20 {ranked.mean()['recall@20']:.4f}" in note.meaning
    assert (note.count, note.of) == (int((ranked.ranks <= 20).sum()), len(ranked.ranks))


def test_gini() -> None:
    """Degrees 3, 1, 0, 0: the mean absolute difference over twice the mean is 5/8."""
    rows = {"user_id": list("abcad"), "item_id": list("xxxyz"), "split": ["train"] * 4 + ["test"]}
    items = {"item_id": list("wxyz")}
    assert "interactions 0.62." in findings(interactions=rows, items=items)["popularity-alone"].meaning


def test_ids() -> None:
    rows = {"user_id": [0, 1, 2, 3], "item_id": [5, 6, 8, 9], "split": ["train"] * 4}
    found = findings(interactions=rows)
    assert found["user-ids-are-positions"].count == 4
    assert (found["item-id-gaps"].count, found["item-id-gaps"].of) == (1, 5)
    assert found["item-id-gaps"].examples == ({"item_id": 7},)
    rows |= {"user_id": ["a", "b", "c", "d"], "item_id": [5, 600, 8000, 90000]}
    assert not [name for name in findings(interactions=rows) if "id" in name.split("-")]


# --- texts


def test_constant_references() -> None:
    rows = explained(
        *((f"u{row % 4}", f"i{row // 4}", "Nice place.", "train") for row in range(19)),
        ("u3", "i4", PUBLIC, "train"),
    )
    found = findings(interactions=taken(), explanations=rows)
    assert (found["common-explanation"].count, found["common-explanation"].of) == (19, 20)
    assert found["common-explanation"].severity == "warning"
    assert found["common-explanation"].examples == ({"text": "nice place"},)


def test_common_opening() -> None:
    rows = explained(
        ("u0", "i1", "You will surely like this: soup", "train"),
        ("u1", "i2", "you will surely like this bread", "train"),
        ("u2", "i1", "You will surely like that.", "train"),
        ("u3", "i1", "Short.", "train"),
    )
    opening = findings(interactions=taken(), explanations=rows)["common-opening"]
    assert (opening.count, opening.of, opening.severity) == (2, 4, "warning")
    assert opening.examples == ({"text": "you will surely like this"},)


def test_unexplained_and_crowded_splits() -> None:
    many = [("u0", f"i{item}", f"{SECRET} {item}", "test") for item in range(3)]
    found = findings(interactions=taken(), explanations=explained(*many, TAUGHT))
    assert found["unexplained-users"].count == 3
    assert found["unexplained-items"].count == 2
    assert found["few-users-fill-test"].examples == ({"user_id": "u0", "explanations": 3},)
    assert "few-items-fill-test" not in found


def test_doubled_items() -> None:
    items = {
        "item_id": [f"i{item}" for item in range(6)],
        "title": ["Red hat", "red HAT!", "Red hat", "", "", "Scarf"],
        "description": ["Wool.", "wool", "Silk.", "", "", "Wool"],
    }
    found = findings(interactions=taken(), items=items)
    assert [case["item_id"] for case in found["same-title-and-description"].examples] == ["i0", "i1"]
    assert [case["item_id"] for case in found["same-title"].examples] == ["i2"]
    assert found["same-title"].of == 4
    assert found["items-without-title"].count == 2


def test_poor_and_long_texts() -> None:
    long = " ".join(f"w{word}" for word in range(LONGEST_EXPLANATION + 1))
    cut = long.rsplit(" ", 1)[0]
    rows = explained(
        ("u0", "i1", "ok", "train"),
        ("u1", "i1", "🙂 !", "train"),
        ("u2", "i1", long, "train"),
        ("u3", "i1", cut, "train"),
    )
    profiles = {"side": ["user"] * 2, "entity_id": ["u1", "u2"], "text": ["N/A", "A person who reads."]}
    found = findings(interactions=taken(), explanations=rows, profiles=profiles)
    assert (found["empty-explanations"].count, found["empty-explanations"].of) == (2, 4)
    assert found["empty-profiles"].examples[0]["entity_id"] == "u1"
    assert found["long-explanations"].examples[0]["user_id"] == "u2"
    assert found["long-explanations"].count == 1
    assert len(str(found["long-explanations"].examples[0]["text"])) == 80


def test_the_cap_is_the_one_that_generation_has() -> None:
    assert GenerationConfig().max_words == LONGEST_EXPLANATION


def test_dirt_in_any_text_column() -> None:
    items = {
        "item_id": [f"i{item}" for item in range(6)],
        "title": ["A <b>hat</b>", "x < y and y > z", "R&D", "Tom &amp; Jerry", "[sic] a list", "[]"],
        "maker": ["", "", "", "", "['Acme', \"it's\"]", "<br/>"],
    }
    found = findings(interactions=taken(), items=items)
    assert [case["item_id"] for case in found["html-in-items"].examples] == ["i0", "i3", "i5"]
    assert [case["item_id"] for case in found["list-in-items"].examples] == ["i4", "i5"]
    assert found["list-in-items"].of == 6


def test_findings_are_json_and_sorted_by_severity() -> None:
    found = audit(little_town(users=40, items=30, visits=8, explanations=(60, 10, 10)))
    ranks = [("leak", "warning", "note").index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    assert all(0 < finding.count <= finding.of for finding in found)
    assert json.loads(json.dumps([finding.document() for finding in found]))[0]["id"] == found[0].id
