"""Lists over HTTP: those of the run itself, of people and items that came later, under rules, and what if."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

pytest.importorskip("fastapi")

import forwhy  # noqa: E402
from forwhy import OpenRun  # noqa: E402
from talking import Talk, until  # noqa: E402


@pytest.fixture(scope="module")
def opened(town_run: Path) -> OpenRun:
    return forwhy.open(town_run)


@pytest.fixture(scope="module")
def users(opened: OpenRun) -> list[str]:
    return [str(it) for it in opened.recommender.served()]


@pytest.fixture(scope="module")
def items(opened: OpenRun) -> list[str]:
    return [str(it) for it in opened.recommender.catalogue.items.values]


def scored(table: pl.DataFrame) -> list[tuple[str, float]]:
    return [(str(row["item_id"]), row["score"]) for row in table.to_dicts()]


def of(listed: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(row["item_id"], row["score"]) for row in listed]


def test_a_list_is_that_of_the_run(talk: Talk, opened: OpenRun, users: list[str], items: list[str]) -> None:
    for user in users[:6]:
        said = talk.ask("POST", "/v1/recommend", {"user": user, "k": 7})
        assert of(said["items"]) == scored(opened.recommend(user, k=7))
        assert [row["rank"] for row in said["items"]] == [1, 2, 3, 4, 5, 6, 7]
        assert {row["source"] for row in said["items"]} == {"behaviour"}
        assert (said["run"], said["arm"], said["experiment"]) == ("town", None, None)
        assert [it["token"] for it in said["tokens"]] == list(
            opened.recommender.behaviour.token_names(  # type: ignore[attr-defined]
                "user", opened.recommender.catalogue.users.index(user)
            )
        )
    history = items[3:6]
    listed = talk.listed(history=history, k=5)
    assert of(listed) == scored(opened.recommend(history=history, k=5))
    assert {row["source"] for row in listed} == {"history"}
    assert not {row["item_id"] for row in listed} & set(history)
    for text in ("quiet coffee and old books", "likes films after dark, dislikes noise"):
        listed = talk.listed(about=text, k=5)
        assert of(listed) == scored(opened.recommend(about=text, k=5))
        assert {row["source"] for row in listed} == {"text"}
    both = talk.ask("POST", "/v1/recommend", {"about": "quiet coffee", "history": history, "k": 4})
    assert of(both["items"]) == scored(opened.recommend(about="quiet coffee", history=history, k=4))
    assert all(it["token"] and it["gloss"] for it in both["tokens"])
    assert any(it["origins"] for it in both["tokens"])


def test_shares_add_to_the_score(talk: Talk, users: list[str], items: list[str]) -> None:
    asked: list[dict[str, Any]] = [
        {"user": users[0]},
        {"history": items[:4]},
        {"about": "fresh fish by the harbour"},
    ]
    for who in asked:
        for row in talk.listed(**who, k=5):
            because = row["because"]
            whole = sum(it["contribution"] for it in because["shares"]) + because["rest"]
            assert whole == pytest.approx(row["score"], abs=1e-5)
            assert because["score"] == pytest.approx(row["score"], abs=1e-5)
            assert sum(it["share"] for it in because["shares"]) == pytest.approx(1)
            assert all(
                it["user"].startswith("<u.") and it["item"].startswith("<i.") for it in because["shares"]
            )


def test_a_list_with_reasons(talk: Talk, opened: OpenRun, users: list[str]) -> None:
    user = users[1]
    for row in talk.listed(user=user, k=3, explain=True):
        assert row["explanation"] == opened.plain.explain(user=user, item=row["item_id"]).text
        known = {it["id"] for it in row["evidence"]["statements"]}
        assert known
        assert all(set(it["evidence"]) <= known for it in row["claims"])
        assert any(it["evidence"] for it in row["claims"])


def test_rules(talk: Talk, opened: OpenRun, users: list[str]) -> None:
    user = users[2]
    best = [row["item_id"] for row in talk.listed(user=user, k=12)]
    rules: list[dict[str, Any]] = [
        {"exclude": best[:2]},
        {"only": best[3:8]},
        {"boost": {best[9]: 50.0, best[0]: -50.0}},
        {"exclude": best[:1], "only": best[:6], "boost": {best[5]: 9}},
    ]
    for rule in rules:
        assert of(talk.listed(user=user, k=5, **rule)) == scored(opened.recommend(user, k=5, **rule))
    assert talk.listed(user=user, k=5, boost={best[9]: 50.0})[0]["item_id"] == best[9]
    assert talk.refusal(422, "POST", "/v1/recommend", {"user": user, "only": []}).endswith(
        "name more in only"
    )
    assert "unknown item" in talk.refusal(
        422, "POST", "/v1/recommend", {"user": user, "exclude": ["nothing"]}
    )


def test_what_was_taken_is_gone_at_once(talk: Talk, users: list[str]) -> None:
    user = users[3]
    before = of(talk.listed(user=user, k=30))
    first = before[0][0]
    talk.take(user, first)
    assert of(talk.listed(user=user, k=30)) == before[1:]
    assert talk.listed(user=user, k=30)[0]["source"] == "behaviour"
    talk.take(user, before[1][0], kind="see")
    assert of(talk.listed(user=user, k=30)) == before[1:]
    talk.take(user, first, kind="untake")
    assert of(talk.listed(user=user, k=30)) == before
    talk.take(user, "nothing that a run knows")
    assert of(talk.listed(user=user, k=30)) == before


def test_somebody_new_from_their_first_event(talk: Talk, opened: OpenRun, items: list[str]) -> None:
    said = talk.refusal(404, "POST", "/v1/recommend", {"user": "newcomer"})
    assert "send an event first" in said
    talk.take("newcomer", items[7])
    found = talk.ask("POST", "/v1/recommend", {"user": "newcomer", "k": 6})
    assert of(found["items"]) == scored(opened.recommend(history=[items[7]], k=6))
    assert {row["source"] for row in found["items"]} == {"history"}
    assert found["tokens"]
    talk.take("newcomer", items[2])
    assert of(talk.listed(user="newcomer", k=6)) == scored(
        opened.recommend(history=[items[7], items[2]], k=6)
    )
    person = talk.ask("GET", "/v1/users/newcomer")
    assert person["live"]
    assert person["source"] == "history"
    assert [it["item_id"] for it in person["history"]] == [items[7], items[2]]
    assert person["history"][0]["title"]
    assert [it["token"] for it in person["tokens"]] == [
        it["token"] for it in talk.ask("POST", "/v1/recommend", {"user": "newcomer"})["tokens"]
    ]
    assert "newcomer" in [it["id"] for it in talk.ask("GET", "/v1/users?q=newc")["users"]]
    talk.take("newcomer", items[7], kind="untake")
    assert of(talk.listed(user="newcomer", k=6)) == scored(opened.recommend(history=[items[2]], k=6))


def test_nobody_known_gets_what_most_take(talk: Talk, town_run: Path, items: list[str]) -> None:
    talk.ask("PUT", "/v1/users/quiet", {"data": {"name": "Q"}}, 204)
    popular = talk.listed(user="quiet", k=5)
    assert {row["source"] for row in popular} == {"popular"}
    assert talk.ask("POST", "/v1/recommend", {"user": "quiet"})["tokens"] == []
    takers = {item: talk.ask("GET", f"/v1/items/{item}")["takers"] for item in items}
    assert [row["score"] for row in popular] == sorted(takers.values(), reverse=True)[:5]
    assert all(takers[row["item_id"]] == row["score"] for row in popular)
    assert of(talk.listed(history=[], k=5)) == of(popular)
    assert talk.ask("GET", "/v1/users/quiet")["data"] == {"name": "Q"}
    talk.take("quiet", "only the shop knows this")
    assert {row["source"] for row in talk.listed(user="quiet", k=5)} == {"popular"}


def test_a_new_item_is_listed_and_explained_at_once(talk: Talk, opened: OpenRun, items: list[str]) -> None:
    title, text = "The Salty Gull", "fresh herring and the catch of the day, right by the harbour"
    talk.ask("PUT", "/v1/items/salty-gull", {"title": title, "text": text}, 204)
    expected, _ = opened.recommender.offering(f"{title}\n{text}", "salty-gull")
    who = {"about": "the catch of the day and smoked herring"}
    listed = talk.listed(**who, k=31)
    assert of(listed) == scored(
        expected.meeting(expected.newcomer_of(who["about"], [])).recommend(history=[], k=31)
    )
    row = next(it for it in listed if it["item_id"] == "salty-gull")
    assert row["title"] == title
    assert sum(it["share"] for it in row["because"]["shares"]) == pytest.approx(1)
    told = talk.ask("POST", "/v1/explain", {**who, "item": "salty-gull"})
    assert told["text"]
    assert told["because"]["score"] == pytest.approx(row["score"], abs=1e-5)
    assert any("herring" in it["text"] for it in told["evidence"]["statements"])
    shown = talk.ask("GET", "/v1/items/salty-gull")
    assert (shown["title"], shown["text"], shown["trained"], shown["available"]) == (title, text, False, True)
    assert shown["tokens"]
    assert talk.ask("GET", "/v1/items?q=gull")["items"] == [
        {"id": "salty-gull", "title": title, "available": True}
    ]
    assert talk.ask("GET", "/v1/items/salty-gull/similar?k=3")["items"][0]["item_id"] in items
    talk.take("gull's friend", "salty-gull")
    assert "salty-gull" not in [it["item_id"] for it in talk.listed(user="gull's friend", k=31)]
    talk.ask("PUT", "/v1/items/salty-gull", {"title": title, "text": text, "available": False}, 204)
    assert "salty-gull" not in [it["item_id"] for it in talk.listed(**who, k=31)]


def test_what_is_not_available_is_in_no_list(talk: Talk, users: list[str]) -> None:
    best = talk.listed(user=users[4], k=30)
    gone, popular = best[0]["item_id"], talk.listed(history=[], k=1)[0]["item_id"]
    for item in {gone, popular}:
        talk.ask("PUT", f"/v1/items/{item}", {"available": False}, 204)
    try:
        left = [row for row in of(best) if row[0] not in (gone, popular)]
        assert of(talk.listed(user=users[4], k=30)) == left
        asked: list[dict[str, Any]] = [
            {"history": [best[3]["item_id"]]},
            {"about": "coffee"},
            {"history": []},
        ]
        for who in asked:
            assert not {row["item_id"] for row in talk.listed(**who, k=30)} & {gone, popular}
        sides = talk.ask(
            "POST", "/v1/what-if", {"user": users[4], "without": [word(talk, users[4])], "k": 30}
        )
        assert gone not in [row["item_id"] for side in ("before", "after") for row in sides[side]["items"]]
        assert not talk.ask("GET", f"/v1/items/{gone}")["available"]
        assert talk.ask("GET", f"/v1/items/{gone}")["title"]  # a trained item keeps its title
    finally:
        for item in {gone, popular}:
            talk.ask("PUT", f"/v1/items/{item}", {"available": True}, 204)
    assert of(talk.listed(user=users[4], k=30)) == of(best)


def word(talk: Talk, user: str) -> str:
    return str(talk.ask("GET", f"/v1/users/{user}")["tokens"][0]["token"])


def test_what_if(talk: Talk, opened: OpenRun, users: list[str], items: list[str]) -> None:
    user = users[5]
    tokens = [it["token"] for it in talk.ask("GET", f"/v1/users/{user}")["tokens"]]
    prefix, _, number = tokens[-1].rpartition("_")
    other = next(name for it in range(8) if (name := f"{prefix}_{it}>") != tokens[-1])
    item = talk.listed(user=user, k=1)[0]["item_id"]
    for change in ({"without": [tokens[0]]}, {"swap": {tokens[-1]: other}}):
        said = talk.ask("POST", "/v1/what-if", {"user": user, "k": 6, "item": item, **change})
        assert of(said["before"]["items"]) == of(talk.listed(user=user, k=6))
        assert [it["token"] for it in said["before"]["tokens"]] == tokens
        assert of(said["after"]["items"]) == scored(opened.recommend(user, k=6, **change))
        assert of(said["after"]["items"]) != of(said["before"]["items"])
        for row in said["after"]["items"]:
            assert tokens[0 if "without" in change else -1] not in [
                it["user"] for it in row["because"]["shares"]
            ]
        assert said["before"]["reason"]["explanation"] == opened.plain.explain(user=user, item=item).text
        assert said["after"]["reason"]["because"]["score"] != said["before"]["reason"]["because"]["score"]
    assert of(talk.listed(user=user, k=6)) == scored(opened.recommend(user, k=6))
    lacking = next(name for it in range(8) if (name := f"<u.macro_{it}>") not in tokens)
    assert lacking in talk.refusal(422, "POST", "/v1/what-if", {"user": user, "without": [lacking]})
    assert "not in this vocabulary" in talk.refusal(
        404, "POST", "/v1/what-if", {"user": user, "without": ["no"]}
    )
    said = talk.refusal(422, "POST", "/v1/what-if", {"history": [], "without": [tokens[0]]})
    assert "no words to change" in said


def test_another_run_by_its_name(talk: Talk, plain_run: Path, users: list[str]) -> None:
    expected = forwhy.open(plain_run).recommend(users[6], k=4)
    assert of(talk.listed(user=users[6], k=4, run="plain")) == scored(expected)
    assert "has no words" in talk.refusal(422, "GET", "/v1/words?run=plain")
    assert talk.ask("GET", f"/v1/users/{users[6]}?run=plain")["tokens"] == []
    assert "served are town, plain" in talk.refusal(
        404, "POST", "/v1/recommend", {"user": users[6], "run": "none"}
    )
    runs = talk.ask("GET", "/v1/runs")["runs"]
    assert [(it["name"], it["words"], it["explains"]) for it in runs] == [
        ("town", True, True),
        ("plain", False, False),
    ]
    told = talk.ask("POST", "/v1/explain", {"user": users[6], "item": expected["item_id"][0], "run": "plain"})
    assert told["written"] == "plain"


def test_every_list_is_recorded(talk: Talk, users: list[str]) -> None:
    said = talk.ask("POST", "/v1/recommend", {"user": users[7], "k": 3})
    database = talk.service.database
    until(lambda: database.one("impressions", id=said["impression"]))
    row = database.one("impressions", id=said["impression"])
    assert (row["run"], row["user"], row["arm"]) == ("town", users[7], None)
    assert [(it["item"], it["score"], it["rank"]) for it in row["items"]] == [
        (it["item_id"], it["score"], it["rank"]) for it in said["items"]
    ]
