"""What is kept over HTTP: events, people, feedback, experiments, names of words, the record of who wrote what."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

import sqlalchemy as sa  # noqa: E402
from scipy.stats import binomtest  # noqa: E402

from forwhy.serve import tables  # noqa: E402
from forwhy.serve.outcomes import newcombe, wilson  # noqa: E402
from talking import Listening, Talk, pages, until  # noqa: E402


@pytest.fixture(scope="module")
def users(talk: Talk) -> list[str]:
    return [it["id"] for it in talk.ask("GET", "/v1/users?limit=1000")["users"]]


@pytest.fixture(scope="module")
def items(talk: Talk) -> list[str]:
    return [it["id"] for it in talk.ask("GET", "/v1/items?limit=1000")["items"]]


# --- events


def test_an_event_sent_again_counts_once(talk: Talk, items: list[str]) -> None:
    bare = {"key": "again", "user": "eva", "item": items[0]}
    assert talk.ask("POST", "/v1/events", bare, 201) == {"accepted": 1, "known": 0}
    assert talk.ask("POST", "/v1/events", bare, 201) == {"accepted": 0, "known": 1}
    timed = {**bare, "key": "timed", "value": 2.5, "time": "2026-03-01T12:00:00+02:00"}
    for time in (timed["time"], "2026-03-01T10:00:00Z", "2026-03-01T10:00:00", 1772359200):
        talk.ask("POST", "/v1/events", {**timed, "time": time}, 201)
    for other in ({"item": items[1]}, {"user": "eve"}, {"value": 3}, {"kind": "see"}, {"time": "2026-03-02"}):
        assert "give it a new key" in talk.refusal(409, "POST", "/v1/events", {**timed, **other})
    both = {
        "events": [bare, {**bare, "key": "more", "item": items[1]}, {**bare, "key": "more", "item": items[1]}]
    }
    assert talk.ask("POST", "/v1/events", both, 201) == {"accepted": 1, "known": 2}
    broken = {"events": [{**bare, "key": "alone"}, {**timed, "value": 9}]}
    talk.refusal(409, "POST", "/v1/events", broken)
    rows = talk.ask("GET", "/v1/events?user=eva")["events"]
    assert [row["key"] for row in rows] == ["again", "timed", "more"]  # all or none
    assert rows[1] == {**timed, "kind": "take", "time": "2026-03-01T10:00:00.000000Z", "seq": rows[1]["seq"]}


def test_out_of_order_and_with_a_wrong_clock(talk: Talk, items: list[str]) -> None:
    first, second, third = items[:3]
    for number, (item, time) in enumerate(
        [(second, "2026-05-02"), (third, "9999-12-31T23:59:59Z"), (first, "0001-01-01T00:00:00Z")]
    ):
        talk.ask("POST", "/v1/events", {"key": f"o{number}", "user": "otto", "item": item, "time": time}, 201)
    history = [it["item_id"] for it in talk.ask("GET", "/v1/users/otto")["history"]]
    assert history == [first, second, third]  # by when it happened, not by when it came
    back = {"key": "o4", "user": "otto", "item": second, "kind": "untake", "time": "2026-05-01"}
    talk.ask("POST", "/v1/events", back, 201)  # before it was taken, so that it takes nothing back
    assert len(talk.ask("GET", "/v1/users/otto")["history"]) == 3
    talk.ask("POST", "/v1/events", {**back, "key": "o5", "time": "2026-05-03"}, 201)
    assert [it["item_id"] for it in talk.ask("GET", "/v1/users/otto")["history"]] == [first, third]
    for time in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", 1e20, "soon", "NaN"):
        said = talk.refusal(
            422, "POST", "/v1/events", {"key": "o6", "user": "otto", "item": first, "time": time}
        )
        assert "time" in said


def test_cursors_walk_all_rows_once(talk: Talk, items: list[str]) -> None:
    rows = [{"key": f"c{it}", "user": f"walker {it % 7}", "item": items[it % 30]} for it in range(40)]
    talk.ask("POST", "/v1/events", {"events": rows}, 201)
    for limit in (1, 7, 1000):
        read = pages(
            lambda cursor, limit=limit: talk.ask("GET", f"/v1/events?limit={limit}{cursor}"), "events"
        )
        assert [row["key"] for row in read if row["key"][0] == "c"] == [row["key"] for row in rows]
        assert [row["seq"] for row in read] == sorted({row["seq"] for row in read})
        mine = pages(
            lambda cursor, limit=limit: talk.ask("GET", f"/v1/events?user=walker 3&limit={limit}{cursor}"),
            "events",
        )
        assert [row["key"] for row in mine] == [row["key"] for row in rows if row["user"] == "walker 3"]
    for path, name, size in (("users", "users", 40), ("items", "items", 30), ("words", "words", 64)):
        whole = talk.ask("GET", f"/v1/{path}?limit=1000")[name]
        walked = pages(lambda cursor, path=path: talk.ask("GET", f"/v1/{path}?limit=9{cursor}"), name)
        assert walked == whole
        ids = [it.get("id", it.get("token")) for it in whole]
        assert len(ids) == len(set(ids)) >= size
    for path in ("users", "items", "words", "events", "audit"):
        assert "cursor" in talk.refusal(422, "GET", f"/v1/{path}?cursor=@@")


def test_live_events_go_on_where_they_were_cut(talk: Talk, items: list[str]) -> None:
    talk.take("before", items[0])
    with Listening(talk.app) as there:
        import http.client

        from talking import sse

        newest = pages(lambda cursor: talk.ask("GET", f"/v1/events?limit=1000{cursor}"), "events")[-1]["seq"]

        def listen(**headers: str) -> tuple[Any, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", there.port, timeout=10)
            connection.request(
                "GET", "/v1/events/live", headers={it.replace("_", "-"): v for it, v in headers.items()}
            )
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.getheader("content-type", "").startswith("text/event-stream")
            first = answer.readline().decode()
            assert first == f"id: {headers.get('last_event_id', newest)}\n"
            return connection, answer

        connection, answer = listen()
        stream = sse(answer)
        talk.take("live", items[1])
        seq, name, row = next(stream)
        assert (name, row["user"], row["item"], str(row["seq"])) == ("event", "live", items[1], seq)
        answer.close()
        connection.close()
        for item in items[2:5]:
            talk.take("live", item)
        connection, answer = listen(last_event_id=str(seq))
        stream = sse(answer)
        missed = [next(stream) for _ in range(3)]
        assert [row["item"] for _, _, row in missed] == items[2:5]
        numbers = [int(number or 0) for number, _, _ in missed]
        assert numbers == sorted(numbers)
        assert numbers[0] > int(seq or 0)
        answer.close()
        connection.close()


# --- experiments


def test_intervals_are_those_of_the_books() -> None:
    for hits, of in ((0, 1), (1, 1), (3, 10), (0, 50), (50, 50), (81, 263), (999, 100_000)):
        expected = binomtest(hits, of).proportion_ci(0.95, "wilson")
        assert wilson(hits, of) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) == (0, 1)
    # Newcombe (1998), table II, method 10: cases a, b, d, e, g
    for one, other, low, high in (
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
    ):
        assert newcombe(one, other) == pytest.approx((low, high), abs=5e-5)


def test_an_experiment(talk: Talk, users: list[str]) -> None:
    arms = {"now": {"run": "town", "share": 0.25}, "plain": {"run": "plain", "share": 0.75}}
    talk.ask("PUT", "/v1/experiments/autumn", {"arms": arms}, 204)
    try:
        served: dict[str, str] = {}
        clicked = {"now": 0, "plain": 0}
        for user in users[:40]:
            said = talk.ask("POST", "/v1/recommend", {"user": user, "k": 1})
            served[user] = said["arm"]
            assert said["run"] == arms[said["arm"]]["run"]
            assert said["experiment"] == "autumn"
            share = int(hashlib.sha256(f"autumn\0{user}".encode()).hexdigest()[:12], 16) / 16**12
            assert said["arm"] == ("now" if share < 0.25 else "plain")
            if user < "c":
                clicked[said["arm"]] += 1
                for _ in range(2):  # a list counts once
                    talk.ask(
                        "POST", "/v1/feedback", {"impression": said["impression"], "kind": "clicked"}, 201
                    )
            assert talk.ask("POST", "/v1/recommend", {"user": user, "k": 1, "run": "town"})["arm"] is None
            assert talk.ask("POST", "/v1/explain", {"user": user, "item": said["items"][0]["item_id"]})[
                "text"
            ]
        assert set(served.values()) == {"now", "plain"}
        assert talk.ask("POST", "/v1/recommend", {"user": users[0], "k": 1})["arm"] == served[users[0]]
        assert talk.ask("POST", "/v1/recommend", {"history": []})["arm"] is None
        (found,) = talk.ask("GET", "/v1/experiments")["experiments"]
        assert talk.ask("GET", "/v1/status")["experiments"] == ["autumn"]
    finally:
        talk.ask("DELETE", "/v1/experiments/autumn", None, 204)
    counts = {}
    for arm in found["arms"]:
        counts[arm["arm"]] = clicked[arm["arm"]], arm["impressions"]
        again = served[users[0]] == arm["arm"]
        assert arm["impressions"] == list(served.values()).count(arm["arm"]) + again
        assert arm["clicked"] == clicked[arm["arm"]]
        assert arm["rate"] == clicked[arm["arm"]] / arm["impressions"]
        expected = binomtest(arm["clicked"], arm["impressions"]).proportion_ci(0.95, "wilson")
        assert arm["interval"] == pytest.approx([expected.low, expected.high])
    assert found["minus_first"] == {"plain": pytest.approx(list(newcombe(counts["plain"], counts["now"])))}
    assert talk.ask("POST", "/v1/recommend", {"user": users[0]})["arm"] is None
    assert "ended" in talk.refusal(409, "PUT", "/v1/experiments/autumn", {"arms": arms})
    talk.refusal(404, "DELETE", "/v1/experiments/winter")


def test_shares_are_respected(talk: Talk) -> None:
    """Of 4,000 people an arm gets its share, within four standard errors."""
    arms = {
        "a": {"run": "town", "share": 0.2},
        "b": {"run": "town", "share": 0.3},
        "c": {"run": "plain", "share": 0.5},
    }
    talk.ask("PUT", "/v1/experiments/three", {"arms": arms}, 204)
    got = [talk.service.arm(None, f"person {it}")[1]["arm"] for it in range(4_000)]
    again = [talk.service.arm(None, f"person {it}")[1]["arm"] for it in range(4_000)]
    talk.ask("DELETE", "/v1/experiments/three", None, 204)
    assert got == again
    for arm, it in arms.items():
        share = float(str(it["share"]))
        assert got.count(arm) / 4_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4_000) ** 0.5)


def test_rules_of_an_arm(talk: Talk, users: list[str]) -> None:
    user = users[9]
    best = talk.listed(user=user, k=3)
    gone = best[0]["item_id"]
    arm = {"run": "town", "share": 0.5, "options": {"exclude": [gone]}}
    talk.ask("PUT", "/v1/experiments/rules", {"arms": {"a": arm, "b": arm}}, 204)
    try:
        assert talk.listed(user=user, k=2) == [{**row, "rank": row["rank"] - 1} for row in best[1:]]
        assert (
            talk.listed(user=user, k=1, exclude=[best[1]["item_id"]])[0]["item_id"] == gone
        )  # the caller's go first
    finally:
        talk.ask("DELETE", "/v1/experiments/rules", None, 204)
    body: dict[str, Any]
    for options in (
        {"boost": {"nothing": 1}},
        {"only": ["nothing"]},
        {"boost": [gone]},
        {"exclude": gone},
        {"x": []},
    ):
        body = {"arms": {"a": {**arm, "options": options}, "b": arm}}
        talk.refusal(422, "PUT", "/v1/experiments/broken", body)
    for share in (0.2, 0, -1, 2):
        talk.refusal(422, "PUT", "/v1/experiments/broken", {"arms": {"a": {**arm, "share": share}, "b": arm}})
    body = {"arms": {"a": {**arm, "run": "none"}, "b": arm}}
    assert "served are town" in talk.refusal(404, "PUT", "/v1/experiments/broken", body)
    assert [row["item_id"] for row in talk.listed(user=user, k=1)] == [gone]


# --- feedback, names, the record


def test_feedback(talk: Talk, users: list[str]) -> None:
    said = talk.ask("POST", "/v1/recommend", {"user": users[10], "k": 1})
    told = talk.ask("POST", "/v1/explain", {"user": users[10], "item": said["items"][0]["item_id"]})
    ids = []
    for kind, about in itertools.product(
        ("clicked", "helpful", "wrong", "not_me"), ("impression", "explanation")
    ):
        number = said["impression"] if about == "impression" else told["id"]
        body = {"kind": kind, about: number, "user": users[10], "item": said["items"][0]["item_id"]}
        ids.append(talk.ask("POST", "/v1/feedback", body, 201)["id"])
    kept = [row for row in talk.ask("GET", f"/v1/users/{users[10]}/export")["feedback"] if row["id"] in ids]
    assert [row["id"] for row in kept] == ids
    assert {row["impression"] for row in kept} == {said["impression"], None}
    assert "/v1/recommend" in talk.refusal(
        404, "POST", "/v1/feedback", {"kind": "clicked", "impression": "none"}
    )
    for body in ({"kind": "liked", "impression": said["impression"]}, {"kind": "clicked"}, {}):
        talk.refusal(422, "POST", "/v1/feedback", body)


def test_a_word_is_renamed(talk: Talk) -> None:
    word = talk.ask("GET", "/v1/words?limit=1")["words"][0]
    token = quote(word["token"])
    for gloss in ("people of the evening", "  night people <b> "):
        talk.ask("PUT", f"/v1/words/{token}/gloss", {"gloss": gloss}, 204)
    renamed = talk.ask("GET", f"/v1/words/{token}")["renamed"]
    assert renamed["gloss"] == "night people <b>"
    assert renamed["who"] == "this machine"
    assert renamed["at"].endswith("Z")
    found = talk.ask("GET", "/v1/words?q=NIGHT people")["words"]
    assert [it["token"] for it in found] == [word["token"]]
    assert found[0]["gloss"] == word["gloss"]  # what was learned stays beside it
    assert talk.ask("GET", "/v1/words?q=people of the evening")["words"] == []
    talk.refusal(404, "PUT", "/v1/words/none/gloss", {"gloss": "x"})
    for gloss in ("", "   ", "x" * 201, 7.5, None):
        status = 204 if gloss == 7.5 else 422  # a number is text
        talk.ask("PUT", f"/v1/words/{token}/gloss", {"gloss": gloss}, status)


def test_the_record_of_who_wrote_what(talk: Talk, items: list[str]) -> None:
    secret = "Ada Lovelace, 12 Hill Road"
    talk.ask("PUT", f"/v1/users/{quote(secret)}", {"data": {"mail": "ada@example.org"}}, 204)
    talk.ask("PUT", f"/v1/items/{items[0]}", {"available": True}, 204)
    talk.ask("DELETE", f"/v1/users/{quote(secret)}")
    rows = pages(lambda cursor: talk.ask("GET", f"/v1/audit?limit=3{cursor}"), "record")
    assert [row["action"] for row in rows[-3:]] == ["put user", "put item", "delete user"]
    assert {row["who"] for row in rows} == {"this machine"}
    assert rows[-2]["what"] == {"id": items[0]}
    assert rows[-3]["what"] == {"user": "sha256:" + hashlib.sha256(secret.encode()).hexdigest()}
    assert {"put experiment", "end experiment", "rename word"} <= {row["action"] for row in rows}


# --- forgetting a person


def test_a_person_is_exported_and_forgotten(talk: Talk, users: list[str], items: list[str]) -> None:
    trained, stranger = users[11], "Zebedee-Quux-77"
    database = talk.service.database
    for user in (trained, stranger):
        talk.ask("DELETE", f"/v1/users/{user}")
        talk.ask("PUT", f"/v1/users/{user}", {"data": {"mail": f"mail-of-{user}"}}, 204)
        talk.take(user, items[20])
        said = talk.ask("POST", "/v1/recommend", {"user": user, "k": 2, "run": "town"})
        item = said["items"][0]["item_id"]
        told = talk.ask("POST", "/v1/explain", {"user": user, "item": item, "run": "town"})
        talk.ask("POST", "/v1/feedback", {"impression": said["impression"], "kind": "clicked"}, 201)
        talk.ask(
            "POST", "/v1/feedback", {"explanation": told["id"], "kind": "not_me"}, 201
        )  # nobody is named
        talk.ask("POST", "/v1/feedback", {"explanation": "e", "kind": "wrong", "user": user}, 201)
        until(lambda user=user: talk.ask("GET", f"/v1/users/{user}/export")["answers"])
        export = talk.ask("GET", f"/v1/users/{user}/export")
        assert {name: len(rows) for name, rows in export.items()} == {
            "users": 1, "events": 1, "impressions": 1, "answers": 1, "feedback": 3,
        }  # fmt: skip
        assert export["users"][0]["data"] == {"mail": f"mail-of-{user}"}
        assert export["answers"][0]["document"]["text"] == told["text"]
    for user in (trained, stranger):
        gone = talk.ask("DELETE", f"/v1/users/{user}")
        assert gone["deleted"] == {"users": 1, "events": 1, "impressions": 1, "answers": 1, "feedback": 3}
        assert ("town" in gone["remains"]) == (user == trained)
        assert (gone["remedy"] is None) == (user == stranger)
        assert not any(talk.ask("GET", f"/v1/users/{user}/export").values())
        with database.reading() as connection:
            for table in tables.metadata.sorted_tables:
                for row in connection.execute(sa.select(table)):
                    assert user not in str(row), table.name
        assert not any(talk.ask("DELETE", f"/v1/users/{user}")["deleted"].values())
    talk.refusal(404, "GET", f"/v1/users/{stranger}")
    talk.refusal(404, "POST", "/v1/recommend", {"user": stranger})
    assert stranger not in [it["id"] for it in talk.ask("GET", "/v1/users?limit=1000")["users"]]
    assert talk.listed(user=trained, k=1)  # what was learned stays in the run, and the answer said so
    talk.ask("DELETE", f"/v1/users/{trained}")
    if database.lite:
        for file in Path(database.url.database or "").parent.iterdir():
            assert stranger.encode() not in file.read_bytes(), file.name
