"""What the service keeps, on SQLite and on a real PostgreSQL: the same answers from both."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from forwhy.data.sources import import_sql
from forwhy.errors import UserError
from forwhy.serve.database import Conflict, Database, DatabaseDown, moment


def event(key: object, user: str = "ann", item: str = "tea", **more: object) -> dict[str, object]:
    return {"key": str(key), "user": user, "item": item, **more}


def pages(database: Database, table: str, limit: int) -> list[list[object]]:
    found, cursor = [], None
    while True:
        rows, cursor = database.page(table, limit, cursor)
        found.append(rows)
        if cursor is None:
            return found


def test_people_and_items_in_pages(database: Database) -> None:
    ids = ["b", "B", "é", "a%", "a_", "😀", "10", "9"]
    database.put("users", [{"id": it, "data": {"é": [1, None, {"deep": "\0"}]}} for it in ids])
    database.put("users", [{"id": "b", "data": {"new": True}}, {"id": "b"}])
    for limit in (1, 3, 8, 9):
        found = pages(database, "users", limit)
        assert [row["id"] for rows in found for row in rows] == sorted(ids)  # type: ignore[index]
        assert all(len(rows) == limit for rows in found[:-1])
    assert database.people("a") == ["a%", "a_"]
    assert database.one("users", id="b")["data"] == {}  # type: ignore[index]
    assert database.one("users", id="é")["data"] == {"é": [1, None, {"deep": "\0"}]}  # type: ignore[index]
    assert database.one("users", id="nobody") is None
    database.put("items", [{"id": "tea", "title": "Tea", "text": "<b>"}, {"id": "mud", "available": False}])
    before = database.items_stamp()
    assert before[0] == len(database.page("items", 10)[0])
    database.put("items", [{"id": "mud", "available": False}])
    assert database.items_stamp() > before
    found = database.one("items", id="tea")
    assert found
    assert {**found, "at": ""} == {
        "id": "tea", "title": "Tea", "text": "<b>", "available": True, "data": {}, "at": "",
    }  # fmt: skip
    assert [row["id"] for row in database.page("items", 5)[0]] == ["mud", "tea"]
    for cursor in ("!", "Zm9v\0", "é", "AAAAAA=="):
        with pytest.raises(UserError, match="cursor .*: none of ours; leave it out"):
            database.page("events", 5, cursor)


def test_an_event_counts_once(database: Database) -> None:
    assert database.add_events([]) == []
    assert database.add_events([event(1), event(2, value=3), event(1)]) == [True, True, False]
    assert database.add_events([event(1), event(3, time="2026-01-01T12:00:00+02:00")]) == [False, True]
    again = event(3, time=1767261600)
    assert database.add_events([again]) == [False]
    for other in (event(1, item="mud"), event(2), event(3, time="2026-01-01"), event(1, kind="see")):
        with pytest.raises(Conflict, match=r"its key stands for another \w+ already; give it a new key"):
            database.add_events([event("new"), other])
    with pytest.raises(Conflict):
        database.add_events([event("x"), event("x", user="bob")])
    rows, cursor = database.page("events", 9)
    assert [row["key"] for row in rows] == ["1", "2", "3"]
    assert cursor is None
    assert rows[1]["value"] == 3
    assert rows[2]["time"] == "2026-01-01T10:00:00.000000Z"
    assert [row["key"] for rows in pages(database, "events", 2) for row in rows] == [
        "1",
        "2",
        "3",
    ]  # type: ignore[index]
    assert database.events_after(rows[0]["seq"], 9) == rows[1:]
    assert database.page("events", 9, user="bob")[0] == []
    many = [event(f"m{it}", user="bob", item=str(it)) for it in range(1201)]
    assert database.add_events(many) == [True] * 1201
    assert database.add_events(many[::-1]) == [False] * 1201
    assert len(database.history("bob")) == 1201


def test_history_is_by_time_and_can_be_taken_back(database: Database) -> None:
    at = "2026-01-0{}".format
    database.add_events(
        [
            event(1, item="c", time=at(3)),
            event(2, item="a", time=at(1)),
            event(3, item="b", time=at(1)),
            event(4, item="a", time=at(4)),
            event(5, item="b", time=at(2), kind="untake"),
            event(6, item="d", kind="see"),
            event(7, item="e", time=at(1), kind="untake"),
            event(8, item="e", time=at(1)),
            event(9, item="f", time=at(5)),
            event(10, item="f", time=at(5), kind="untake"),
            event(11, "bob", "b", kind="untake"),
        ]
    )
    assert database.history("ann") == ["a", "e", "c"]
    assert database.history("nobody") == []


def test_the_data_set_comes_back(database: Database) -> None:
    database.add_events([event(it, f"u{it % 7}", f"i{it % 5}", time=1_700_000_000 + it) for it in range(35)])
    database.add_events([event("back", "u0", "i0", time=1_800_000_000, kind="untake")])
    found = import_sql(
        str(database.url.render_as_string(hide_password=False)), {"interactions": "interactions"}
    )
    edges = found.tables["interactions"]
    assert edges.height == 34
    assert edges["timestamp"].min() == 1_700_000_001


def test_feedback_and_outcomes(database: Database) -> None:
    arms = {
        "a": {"run": "r", "options": {}, "share": 0.5},
        "b": {"run": "s", "options": {"k": 3}, "share": 0.5},
    }
    database.put_experiment({"name": "x", "arms": arms})
    shown = {
        "run": "r",
        "experiment": "x",
        "user": "ann",
        "items": [{"item": "tea", "score": 0.1, "rank": 1}],
    }
    database.put(
        "impressions", [{**shown, "id": f"i{it}", "arm": "a", "asked": {"k": 10}} for it in range(3)]
    )
    database.put("impressions", [{"id": "other", "run": "r"}, {**shown, "id": "i0", "arm": "a"}])
    found = database.one("impressions", id="i1")
    assert found
    assert found["items"] == shown["items"]
    assert found["asked"] == {"k": 10}
    for key, (impression, kind) in enumerate(
        [("i0", "clicked"), ("i0", "clicked"), ("i1", "clicked"), ("i1", "wrong")]
    ):
        for _ in range(2):
            database.add_feedback({"id": str(key), "impression": impression, "kind": kind, "user": "ann"})
    none = {"impressions": 0, "users": 0, "clicked": 0, "helpful": 0, "wrong": 0, "not_me": 0}
    assert database.outcomes({"name": "x", "arms": arms}) == {
        "a": {**none, "impressions": 3, "users": 1, "clicked": 2, "wrong": 1},
        "b": none,
    }
    assert database.outcomes({"name": "nothing", "arms": {}}) == {}
    assert len(database.page("feedback", 9)[0]) == 4
    with pytest.raises(
        UserError, match="feedback 'loved': no such kind; say clicked, helpful, wrong, not_me"
    ):
        database.add_feedback({"id": "z", "kind": "loved"})
    database.end_experiment("x")
    assert database.experiments()[0]["ended"]
    with pytest.raises(Conflict, match="experiment 'x': ended at .*; give the new one another name"):
        database.put_experiment({"name": "x", "arms": arms})


def test_answers_words_jobs_audit(database: Database) -> None:
    for document in ({"text": "old"}, {"text": "why"}):
        database.put(
            "answers", [{"key": "k", "run": "r", "user": "ann", "item": "tea", "document": document}]
        )
    database.put("answers", [{"key": "l", "run": "s", "user": None, "item": None, "document": {}}])
    found = [database.one("answers", key=key) for key in "klm"]
    assert [it and it["document"] for it in found] == [{"text": "why"}, {}, None]
    for gloss in ("sweet", "bitter"):
        database.rename_word("r", "<u.1>", gloss, "me")
    assert {it: row["gloss"] for it, row in database.renamed("r").items()} == {"<u.1>": "bitter"}
    assert database.renamed("s") == {}
    database.add_job("j", {"recipe": "x"})
    with pytest.raises(Conflict, match="being trained"):
        database.add_job("k", {})
    database.update_job("j", "done", {"better": True})
    database.add_job("k", {})
    assert [row["id"] for row in database.jobs()] == ["k", "j"]
    job = database.one("jobs", id="j")
    assert job
    assert (job["state"], job["detail"], job["asked"]) == ("done", {"better": True}, {"recipe": "x"})
    database.audit("me", "delete", {"user": "ann", "users": ["bob"], "table": "users"})
    (row,), _ = database.page("audits", 9)
    assert row["what"]["table"] == "users"
    assert "ann" not in str(row)
    assert "bob" not in str(row)


def test_everything_about_a_person(database: Database) -> None:
    secret = "zanzibar"
    database.put("users", [{"id": secret, "data": {"name": secret}}, {"id": "bob"}])
    database.add_events([event(1, secret), event(2, "bob"), event(3, "bob", secret + "-tea")])
    database.put(
        "impressions", [{"id": "i", "run": "r", "user": secret}, {"id": "j", "run": "r", "user": "bob"}]
    )
    database.put(
        "answers", [{"key": "k", "run": "r", "user": secret, "item": "tea", "document": {"text": secret}}]
    )
    for key, about in enumerate(
        [{"impression": "i"}, {"explanation": "k"}, {"user": secret}, {"impression": "j"}]
    ):
        database.add_feedback({"id": str(key), "kind": "helpful", **about})
    database.audit("me", "look", {"user": secret})
    wanted = {"users": 1, "events": 1, "impressions": 1, "answers": 1, "feedback": 3}
    export = database.export_user(secret)
    assert {name: len(rows) for name, rows in export.items()} == wanted
    assert export["users"][0]["data"] == {"name": secret}
    assert database.delete_user(secret) == wanted
    assert database.export_user(secret) == {name: [] for name in wanted}
    assert len(database.page("events", 9)[0]) == 2
    assert len(database.page("feedback", 9)[0]) == 1
    if database.lite:
        database.add_events([event(4, "bob")])
        place = Path(str(database.url.database))
        left = b"".join(it.read_bytes() for it in place.parent.glob(place.name + "*"))
        assert left.count(secret.encode()) == left.count(secret.encode() + b"-tea")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (event("\0"), "no text that a database can hold"),
        (event("\ud800"), "no text that a database can hold"),
        (event(1, user=3), "no text that a database can hold"),
        (event("é" * 501), "longer than 1,000 bytes"),
        (event(1, value=float("nan")), "value nan is no finite number"),
        (event(1, value=10**400), "is no finite number"),
        (event(1, value="3"), "is no finite number"),
        (event(1, time="yesterday"), "time 'yesterday': none; write it as 2026-11-28T12:56:36Z"),
        (event(1, time=1e300), "time 1e.300: none"),
        (event(1, time=True), "time True: none"),
    ],
)  # fmt: skip
def test_values_that_no_database_holds(database: Database, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        database.add_events([event("fine"), given])
    assert not isinstance(caught.value, DatabaseDown)
    assert database.page("events", 9)[0] == []


def test_questions_that_no_database_understands(database: Database) -> None:
    for table, key in (("users", "id"), ("impressions", "id"), ("answers", "key")):
        with pytest.raises(UserError, match="no text that a database can hold"):
            database.one(table, **{key: "\0"})
    with pytest.raises(UserError, match="no text that a database can hold"):
        database.history("\0")
    for value in (float("inf"), {1, 2}):
        with pytest.raises(UserError, match=r"\{'y': .*\}: no JSON document \(.*\); correct it"):
            database.put("users", [{"id": "x", "data": {"y": value}}])
    with pytest.raises(UserError, match="a value that a database can't hold"):
        database.events_after(2**70, 3)
    assert database.page("users", 0)[0] == []
    database.put("users", [{"id": "'; DROP TABLE users; --", "data": {}}])
    assert len(database.page("users", 10**9)[0]) == 1


def test_times() -> None:
    assert moment("0999-01-01") == "0999-01-01T00:00:00.000000Z"
    assert moment(0) == "1970-01-01T00:00:00.000000Z"
    assert moment("2026-02-01T00:30:00.5+01:00") == "2026-01-31T23:30:00.500000Z"


def test_many_threads(database: Database) -> None:
    """Each key is new once, numbers have no holes in time: who follows them misses nothing."""
    seen: list[int] = []

    def write(writer: int) -> int:
        given = [[event(f"{batch}-{it}", f"u{writer}") for it in range(3)] for batch in range(10)]
        found = 0
        for rows in given:
            with suppress(Conflict):
                found += sum(database.add_events(rows))
            database.put("users", [{"id": f"u{it}"} for it in (writer, 1, 2, 3)])
        return found

    def follow() -> None:
        while len(seen) < 30:
            seen.extend(row["seq"] for row in database.events_after(seen[-1] if seen else 0, 7))

    with ThreadPoolExecutor(9) as threads:
        follower = threads.submit(follow)
        assert sum(threads.map(write, range(8))) == 30
        follower.result(30)
    assert seen == [row["seq"] for row in database.page("events", 99)[0]]


def test_many_processes_start_at_once(url: str) -> None:
    code = f"from forwhy.serve.database import Database as D; d = D({url!r}); d.upgrade()"
    code += "; d.put('users', [{'id': 'x'}])"
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [it.wait(120) for it in started] == [0, 0, 0]
    with Database(url) as database:
        assert len(database.page("users", 9)[0]) == 1
