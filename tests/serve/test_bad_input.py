"""What is wrong in a request: its status, and a sentence that says what to do; nothing is kept of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

pytest.importorskip("fastapi")

from talking import Talk, detail  # noqa: E402

USER, ITEM = "ada-larsen", "amber-bell-cinema"
UNKNOWN: list[tuple[str, str, Any, str]] = [
    ("POST", "/v1/recommend", {"user": "none"}, "unknown user 'none': .*send an event first"),
    ("POST", "/v1/recommend", {"user": USER, "run": "none"}, "unknown run 'none'; served are town, plain"),
    ("POST", "/v1/recommend", {"history": ["none"]}, "unknown item id 'none'"),
    ("POST", "/v1/explain", {"user": USER, "item": "none"}, "unknown item id 'none'"),
    ("POST", "/v1/explain", {"user": "none", "item": ITEM}, "unknown user 'none'"),
    (
        "POST",
        "/v1/what-if",
        {"user": USER, "without": ["<u.none_1>"]},
        "not in this vocabulary; names look like <u.",
    ),
    ("POST", "/v1/what-if", {"user": USER, "swap": {"<u.none_1>": "x"}}, "not in this vocabulary"),
    ("POST", "/v1/what-if", {"user": "none", "without": ["<u.macro_1>"]}, "unknown user"),
    ("POST", "/v1/words/light", {"history": ["none"]}, "unknown item id"),
    (
        "POST",
        "/v1/feedback",
        {"impression": "none", "kind": "clicked"},
        "named in the answer of /v1/recommend",
    ),
    ("POST", "/v1/jobs/retrain", {"run": "none"}, "served are town"),
    ("PUT", "/v1/words/none/gloss", {"gloss": "x"}, "names look like"),
    ("GET", "/v1/users/none", None, "unknown user 'none'"),
    ("GET", "/v1/users?run=none", None, "served are"),
    ("GET", "/v1/items/none", None, "unknown item 'none'"),
    ("GET", "/v1/items/none/similar", None, "unknown item id 'none'"),
    ("GET", "/v1/words/none", None, "names look like"),
    ("GET", "/v1/words/none/owners.csv", None, "names look like"),
    ("GET", "/v1/runs/none/health", None, "served are"),
    ("GET", "/v1/runs/none/report", None, "served are"),
    ("GET", "/v1/runs/town/report", None, "no report yet; write one with: forwhy evaluate .* --report"),
    ("GET", "/v1/jobs/none", None, "GET /v1/jobs lists them"),
    ("DELETE", "/v1/experiments/none", None, "GET /v1/experiments lists them"),
    ("GET", "/v1/none", None, "/docs lists what there is"),
]
WRONG: list[tuple[str, str, Any, str]] = [
    ("POST", "/v1/recommend", {}, "give `user`, or instead `history`, `about` or both"),
    ("POST", "/v1/recommend", {"user": USER, "history": [ITEM]}, "give `user`, or instead"),
    ("POST", "/v1/recommend", {"user": None}, "give `user`"),
    ("POST", "/v1/recommend", {"user": ["a"]}, "user: .*string"),
    ("POST", "/v1/recommend", {"user": USER, "k": 0}, "k: .*greater than or equal to 1"),
    ("POST", "/v1/recommend", {"user": USER, "k": 501}, "k: .*less than or equal to 500"),
    ("POST", "/v1/recommend", {"user": USER, "k": "many"}, "k: .*integer"),
    ("POST", "/v1/recommend", {"user": USER, "excludes": []}, "excludes: Extra inputs are not permitted"),
    ("POST", "/v1/recommend", {"user": USER, "boost": {ITEM: 1e300}}, "is no boost, .* give each one number"),
    ("POST", "/v1/recommend", {"user": USER, "boost": {ITEM: "x"}}, "boost.*number"),
    ("POST", "/v1/recommend", {"history": [ITEM] * 10_001}, "history: .*at most 10000 items"),
    ("POST", "/v1/recommend", {"about": " \n "}, "blank: say what they like"),
    ("POST", "/v1/recommend", {"about": "x" * 20_001}, "about: .*at most 20000 characters"),
    ("POST", "/v1/recommend", {"user": "x" * 201}, "user: .*at most 200 characters"),
    ("POST", "/v1/recommend", [], "body: .*dictionary"),
    ("POST", "/v1/recommend", {"about": "coffee", "run": "plain"}, "ask a run of because"),
    ("POST", "/v1/explain", {"user": USER}, "give one of `item` and `item_text`"),
    ("POST", "/v1/explain", {"user": USER, "item": ITEM, "item_text": "x"}, "give one of"),
    ("POST", "/v1/explain", {"user": USER, "item_text": "  "}, "blank: say what it is"),
    ("POST", "/v1/what-if", {"user": USER}, "name a word in `without` or in `swap`"),
    ("POST", "/v1/what-if", {"user": USER, "without": ["<i.macro_1>"]}, "."),
    ("POST", "/v1/what-if", {"user": USER, "swap": {"<u.macro_1>": "<u.micro_1>"}}, "."),
    ("POST", "/v1/words/light", {}, "give a `history`, a `text`, or both"),
    ("POST", "/v1/events", {"user": USER, "item": ITEM}, "key: Field required"),
    ("POST", "/v1/events", {"key": "b", "user": USER, "item": ""}, "item: .*at least 1 character"),
    ("POST", "/v1/events", {"key": "b", "user": USER, "item": ITEM, "value": "much"}, "value: .*number"),
    (
        "POST",
        "/v1/events",
        {"key": "b", "user": USER, "item": ITEM, "value": 1e305},
        "no finite number; correct it",
    ),
    ("POST", "/v1/events", {"events": []}, "events: .*at least 1 item"),
    (
        "POST",
        "/v1/events",
        {"events": [{"key": "b", "user": USER, "item": ITEM}] * 1_001},
        "at most 1000 items",
    ),
    (
        "POST",
        "/v1/events",
        {"events": [{"key": "b", "user": USER, "item": ITEM}, {"key": "c"}]},
        "events.1.user",
    ),
    (
        "POST",
        "/v1/feedback",
        {"impression": "x", "kind": "loved"},
        "kind: .*'clicked', 'helpful', 'wrong' or 'not_me'",
    ),
    ("POST", "/v1/feedback", {"kind": "wrong"}, "name the `impression` or the `explanation`"),
    ("POST", "/v1/chat/completions", {"messages": []}, "messages: .*at least 1 item"),
    (
        "POST",
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "hello"}]},
        "must be JSON such as",
    ),
    ("PUT", "/v1/items/bad", {"available": "perhaps"}, "available: .*boolean"),
    ("PUT", "/v1/users/bad", {"data": []}, "data: .*dictionary"),
    ("GET", "/v1/users?limit=0", None, "limit: .*greater than or equal to 1"),
    ("GET", "/v1/users?limit=1001", None, "limit: .*less than or equal to 1000"),
    ("GET", "/v1/users?cursor=zz", None, "cursor: not one of ours; give `next` of the page before, or none"),
    ("GET", "/v1/events?cursor=zz", None, "cursor 'zz': none of ours; leave it out"),
    ("GET", "/v1/events/live?after=-1", None, "after: .*greater than or equal to 0"),
    (
        "GET",
        "/v1/items/amber-bell-cinema/similar?run=plain",
        None,
        "its system has no words; ask a run of because",
    ),
    ("GET", "/v1/words/map?run=plain", None, "has no words"),
]


@pytest.fixture(autouse=True, scope="module")
def _known(talk: Talk) -> None:
    assert talk.ask("GET", f"/v1/items/{ITEM}")
    assert talk.ask("GET", f"/v1/users/{USER}")


@pytest.fixture(autouse=True)
def _nothing_is_kept(talk: Talk) -> Any:  # noqa: ANN401
    yield
    database = talk.service.database
    assert database.page("events", 10)[0] == []
    assert (
        database.page("users", 10)[0]
        == database.page("items", 10)[0]
        == database.page("feedback", 10)[0]
        == []
    )
    assert database.jobs() == []


def said(talk: Talk, status: int, case: tuple[str, str, Any, str]) -> None:
    method, path, body, message = case
    told = talk.refusal(status, method, path, body)
    assert re.search(message, told), f"{method} {path}: {told}"


def test_what_is_unknown(talk: Talk) -> None:
    for case in UNKNOWN:
        said(talk, 404, case)


def test_what_cannot_be(talk: Talk) -> None:
    for case in WRONG:
        said(talk, 422, case)


def test_bodies_that_are_no_json(talk: Talk) -> None:
    kind = {"content-type": "application/json"}
    for body in (
        b"{",
        b'{"user": ',
        b"user=1",
        b"[1, 2",
        b'{"user": "\xff"}',
        b"\xff\xfe",
        b"[" * 200_000,
        b"'",
    ):
        for path in ("/v1/recommend", "/v1/events", "/v1/explain"):
            answer = talk.client.post(path, content=body, headers=kind)
            assert "pars" in detail(answer, 400) or "JSON" in detail(answer, 400)
    for body in (b"", b"null", b"7", b'"x"', b"NaN", b"-Infinity"):
        detail(talk.client.post("/v1/recommend", content=body, headers=kind), 422)
    detail(
        talk.client.post("/v1/recommend", content=b'{"user": "x"}', headers={"content-type": "text/plain"}),
        422,
    )
    detail(talk.client.post("/v1/recommend"), 422)


def test_numbers_that_are_none(talk: Talk) -> None:
    event = {"key": "n", "user": USER, "item": ITEM}
    bodies = {
        "/v1/events": [{**event, "value": it} for it in (float("nan"), float("inf"), -float("inf"))],
        "/v1/recommend": [{"user": USER, "boost": {ITEM: float("nan")}}, {"user": USER, "k": float("inf")}],
        "/v1/experiments/n": [{"arms": {it: {"run": "town", "share": float("nan")} for it in "ab"}}],
        "/v1/users/n": [{"data": {"deep": [{"x": float("nan")}]}}],
        "/v1/items/n": [{"data": {"x": float("inf")}}],
    }
    for path, wrong in bodies.items():
        for body in wrong:
            method = "POST" if path in ("/v1/events", "/v1/recommend") else "PUT"
            told = talk.client.request(
                method, path, content=json.dumps(body), headers={"content-type": "application/json"}
            )
            assert detail(told, 422)
    for half in ('{"data": {"a": "\\ud800"}}', '{"data": {"\\udfff": 1}}'):
        for path in ("/v1/users/n", "/v1/items/n"):
            told = talk.client.put(path, content=half, headers={"content-type": "application/json"})
            assert "no JSON document" in detail(told, 422)
    for name in ("user", "about"):
        body = f'{{"{name}": "\\ud800"}}'
        told = talk.client.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
        assert "unicode" in detail(told, 422)


def test_the_longest_and_the_shortest_history(talk: Talk) -> None:
    items = [it["id"] for it in talk.ask("GET", "/v1/items?limit=100")["items"]]
    longest = (items[:20] * 500)[:10_000]
    found = talk.listed(history=longest, k=10)
    assert {row["item_id"] for row in found} == set(items[20:])
    assert talk.ask("POST", "/v1/explain", {"history": longest, "item": items[25]})["text"]
    assert {row["source"] for row in talk.listed(history=[], k=3)} == {"popular"}
    everything = {"history": items, "k": 5}
    assert talk.ask("POST", "/v1/recommend", everything)["items"] == []


def test_methods_and_paths(talk: Talk) -> None:
    answer = talk.client.patch("/v1/users/x")
    assert "/docs lists" in detail(answer, 405)
    assert answer.headers["allow"]
    for path in (
        "/v1",
        "/v2/users",
        "/v1/users/a/b/c",
        "/page/none.js",
        "/page/../app.py",
        "/.env",
        "/v1/words/a/b",
    ):
        detail(talk.client.get(path), 404)
