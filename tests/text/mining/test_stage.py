"""No question shows a held-out text; what was mined says where it came from, and is known not to leak."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from forwhy.columns import Side
from forwhy.data.audit import audit
from forwhy.data.dataset import Dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.data.sample import little_town
from forwhy.data.split import ProtocolConfig, apply_protocol
from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.mining.extractive import ExtractiveMiner
from forwhy.text.mining.language import LanguageMiner
from forwhy.text.mining.mine import mine
from forwhy.text.mining.stage import MiningConfig

Script = Callable[..., Any]
CANARY = re.compile(r"canary-[a-z]+-[a-z-]+?-end")
HELD = {("a", "p"), ("a", "q"), ("b", "p"), ("b", "q"), ("c", "p"), ("c", "q")}
FREE = {("a", "r"), ("a", "s"), ("b", "r"), ("c", "s"), ("d", "p"), ("d", "q"), ("d", "r"), ("e", "p")}


def mined(dataset: Dataset, chat: Any, **options: Any) -> Dataset:  # noqa: ANN401
    with KeptAnswers(None) as cache:
        return mine(dataset, MiningConfig(**options), LanguageMiner(chat, cache)).dataset


def shown(chat: Any) -> list[set[str]]:  # noqa: ANN401
    """The marks in each question."""
    return [set(CANARY.findall(" ".join(turn.content for turn in asked.messages))) for asked in chat.asked]


def marks(pairs: set[tuple[str, str]], table: str = "reviews") -> set[str]:
    return {f"canary-{table}-{user}-{item}-end" for user, item in pairs}


@pytest.mark.parametrize("kind", ["intents", "profiles"])
@pytest.mark.parametrize("side", ["user", "item"])
def test_no_question_shows_a_held_out_text(canaries: Dataset, script: Script, kind: str, side: Side) -> None:
    chat = script()
    mined(canaries, chat, kind=kind, side=side)
    assert set().union(*shown(chat)) == marks(FREE)


@pytest.mark.parametrize("kind", ["intents", "profiles"])
def test_without_reviews_training_explanations_are_read(canaries: Dataset, script: Script, kind: str) -> None:
    tables = {name: table for name, table in canaries.tables.items() if name != "reviews"}
    chat = script()
    mined(canaries.derive(tables, {}), chat, kind=kind)
    assert set().union(*shown(chat)) == marks({("a", "r"), ("a", "s"), ("b", "r")}, "explanations")


def test_an_explanation_reads_its_own_review_alone(canaries: Dataset, script: Script) -> None:
    chat = script()
    after = mined(canaries, chat, kind="explanations")
    questions = shown(chat)
    assert all(len(found) == 1 for found in questions)
    assert set().union(*questions) == marks((FREE | HELD) - {("b", "p")})  # withheld: in no split
    titles = {"Pub", "Quay", "Rink", "Shop"}
    assert all(title not in asked.messages[1].content for asked in chat.asked for title in titles)
    splits = {(user, item): split for user, item, split in pairs(after.tables["explanations"], "split")}
    assert splits == {
        **dict.fromkeys(FREE, "train"),
        ("a", "p"): "valid",  # as it was explained before, though its interaction is train
        ("a", "q"): "test",
        ("b", "q"): "train",
        ("c", "p"): "test",
        ("c", "q"): "test",  # a repeated visit: the last of its splits
    }


def pairs(frame: pl.DataFrame, *columns: str) -> list[tuple[str, ...]]:
    return list(frame.select("user_id", "item_id", *columns).iter_rows())


def test_mining_explanations_shows_no_more_reviews_to_other_questions(
    canaries: Dataset, script: Script
) -> None:
    after = mined(canaries, script(), kind="explanations")
    chat = script()
    mined(mined(after, chat, kind="intents"), chat, kind="profiles")
    assert set().union(*shown(chat)) == marks(FREE)


@pytest.mark.parametrize("kind", ["intents", "profiles"])
def test_an_extractive_miner_reads_no_held_out_text_either(canaries: Dataset, kind: Any) -> None:  # noqa: ANN401
    after = mine(canaries, MiningConfig(kind=kind), ExtractiveMiner()).dataset
    column = "phrase" if kind == "intents" else "text"
    words = " ".join(after.tables[kind].join(after.tables["mined"], on=["side", "entity_id"])[column])
    found = {(user, item) for user, item in FREE | HELD if f"-{user}-{item}-" in words}
    assert found <= FREE
    assert found


def test_user_profiles_read_item_profiles_that_we_mined(canaries: Dataset, script: Script) -> None:
    chat = script()
    after = mined(canaries, chat, kind="profiles")
    about_users = [
        asked.messages[1].content for asked in chat.asked if "this person" in asked.messages[1].content
    ]
    assert about_users
    assert not any("canary-shipped" in text for text in about_users)
    assert any("<item>Enjoys quiet rooms.</item>" in text for text in about_users)
    assert after.vouched("profiles", "user") == set(after.profiles("user"))
    assert after.summary()["leaks"]["profiles_possibly_leaking"] is False


def test_shipped_profiles_are_read_when_asked_and_taint_what_was_mined(
    canaries: Dataset, script: Script
) -> None:
    chat = script()
    after = mined(canaries, chat, kind="profiles", side="user", use_profiles=True)
    assert any("canary-shipped-p-end" in found for found in shown(chat))
    assert after.vouched("profiles", "user") == set()
    assert after.summary()["leaks"]["profiles_possibly_leaking"] is True


def test_profiles_of_unknown_sources_are_told_from_ours(canaries: Dataset, script: Script) -> None:
    before = canaries.summary()["leaks"]["profiles_possibly_leaking"]
    some = mined(canaries, script(), kind="profiles", side="item", limit=2)
    whole = mined(canaries, script(), kind="profiles", side="item")
    asks = [data.summary()["leaks"]["profiles_possibly_leaking"] for data in (some, whole)]
    assert (before, *asks) == (True, True, False)
    assert "profiles-of-heldout-items" in {finding.id for finding in audit(canaries)}
    assert "profiles-of-heldout-items" not in {finding.id for finding in audit(whole)}


def test_profiles_of_held_out_people_are_read_when_ours(canaries: Dataset, script: Script) -> None:
    config = IntentsConfig(source="profiles", training_explanations=False, heldout_items=False)
    assert entity_phrases(canaries, "item", config).keys() == {2, 3}  # r and s, which are in no held-out pair
    after = mined(canaries, script('{"profile": "Enjoys quiet rooms."}'), kind="profiles")
    assert entity_phrases(after, "item", config).keys() == {0, 1, 2, 3}
    assert set(entity_phrases(after, "user", config)) == set(after.profiles("user"))


def test_a_later_protocol_that_holds_out_a_source_is_noticed() -> None:
    town = little_town(users=40, items=30, visits=8, explanations=(200, 8, 8))
    plain = mine(town, MiningConfig(kind="profiles"), ExtractiveMiner()).dataset
    bare = apply_protocol(plain, ProtocolConfig(protocol="zero-shot", zero_shot_users=0.5))
    drawn = set(range(len(plain.users))) - set(bare.profiles("user"))
    assert drawn
    rows = plain.tables["mined"].filter(pl.col("side") == "item")
    read = {
        item: {plain.users.index(user) for user in json.loads(users)}
        for item, users in zip(plain.items.numbers(rows["entity_id"]).tolist(), rows["sources"], strict=True)
    }
    assert bare.vouched("profiles", "item") == {item for item, users in read.items() if not users & drawn}


def test_every_row_has_its_provenance(canaries: Dataset, script: Script) -> None:
    after = mined(canaries, script(), kind="intents", side="user")
    rows = {row["entity_id"]: row for row in after.tables["mined"].iter_rows(named=True)}
    assert rows.keys() == set("abcde")
    assert json.loads(rows["a"]["sources"]) == ["r", "s"]
    assert json.loads(rows["e"]["sources"]) == ["p"]
    assert after.vouched("intents", "user") == set(after.phrases("user"))
    assert after.vouched("profiles", "user") == after.vouched("intents", "item") == set()
    assert {row["model"] for row in rows.values()} == {"scripted"}
    assert {len(row["prompt"]) for row in rows.values()} == {64}
    entry = after.source["mined"]["intents of users"]
    assert (entry["subjects"], entry["mined"], entry["nothing"]) == (5, 5, 1)
    assert entry["prompt"] == rows["a"]["prompt"]


def test_who_has_nothing_is_not_asked_about(canaries: Dataset, script: Script) -> None:
    chat = script()
    with KeptAnswers(None) as cache:
        found = mine(canaries, MiningConfig(kind="intents"), LanguageMiner(chat, cache))
    items, users = found.stages
    assert (items["subjects"], items["nothing"]) == (4, 1)  # z has neither a review nor a title
    assert (users["subjects"], users["nothing"]) == (5, 1)
    assert len(chat.asked) == 9


def test_an_item_without_reviews_shows_its_description(canaries: Dataset, script: Script) -> None:
    reviews = canaries.tables["reviews"].filter(pl.col("item_id") != "s")
    bare = canaries.derive({**canaries.tables, "reviews": reviews}, {})
    chat = script()
    mined(bare, chat, kind="profiles", side="item")
    text = next(asked.messages[1].content for asked in chat.asked if "Shop" in asked.messages[1].content)
    assert "<item>Shop</item>" in text
    assert "(none)" in text


def test_explanations_need_reviews(canaries: Dataset) -> None:
    tables = {name: table for name, table in canaries.tables.items() if name != "reviews"}
    with pytest.raises(UserError, match="no table reviews"):
        mine(canaries.derive(tables, {}), MiningConfig(kind="explanations"), ExtractiveMiner())
