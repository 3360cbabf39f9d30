"""Reasons over HTTP: whole, as a stream, kept, and plain where no model writes, is late or fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient  # noqa: E402

import forwhy  # noqa: E402
from forwhy import OpenRun  # noqa: E402
from forwhy.serve.app import create_app  # noqa: E402
from forwhy.serve.database import Database  # noqa: E402
from forwhy.serve.service import Limits  # noqa: E402
from talking import Gate, Listening, Talk, detail, parsed, sse, until  # noqa: E402


@pytest.fixture(scope="module")
def opened(town_run: Path) -> OpenRun:
    return forwhy.open(town_run)


@pytest.fixture(scope="module")
def pairs(opened: OpenRun) -> list[tuple[str, str]]:
    """Different people with the best item of each."""
    listed = opened.recommend(opened.recommender.served()[:16], k=1)
    return [(str(user), str(item)) for user, item in listed.select("user_id", "item_id").iter_rows()]


@pytest.fixture
def narrow(town_run: Path, tmp_path: Path) -> Iterator[Talk]:
    """A service that writes one text at a time, lets one wait, and waits two seconds for either."""
    limits = Limits(write_seconds=2.0, waiting=1, together=1)
    with (
        Database(f"sqlite:///{tmp_path}/serve.db") as database,
        TestClient(create_app([town_run], database, limits=limits), raise_server_exceptions=False) as client,
    ):
        yield Talk(client)


def test_a_reason_is_that_of_the_run(talk: Talk, opened: OpenRun, pairs: list[tuple[str, str]]) -> None:
    for user, item in pairs[:3]:
        told, expected = (
            talk.ask("POST", "/v1/explain", {"user": user, "item": item}),
            opened.explain((user, item)),
        )
        assert told["written"] == "model"
        assert told["text"] == expected.text
        assert json.loads(json.dumps(expected.document()))["evidence"] == told["evidence"]
        assert told["because"]["score"] == pytest.approx(opened.recommend(user, k=1)["score"][0], abs=1e-5)
        assert sum(it["share"] for it in told["because"]["shares"]) == pytest.approx(1)
        assert [it["token"] for it in told["tokens"] if it["side"] == "user"] == [
            it["token"] for it in talk.ask("GET", f"/v1/users/{user}")["tokens"]
        ]
        again = talk.ask("POST", "/v1/explain", {"user": user, "item": item})
        assert again == {**told, "written": "kept"}


def test_claims_point_to_evidence(talk: Talk, pairs: list[tuple[str, str]]) -> None:
    claims = 0
    for user, item in pairs[8:]:
        body = {"user": user, "item": item}
        answers = [talk.ask("POST", "/v1/explain", {**body, "run": run}) for run in ("town", "plain")]
        answers += [
            talk.ask("POST", "/v1/recommend", {"user": user, "only": [item], "explain": True})["items"][0]
        ]
        for told in answers:
            ids = [it["id"] for it in told["evidence"]["statements"]]
            assert len(set(ids)) == len(ids)
            assert all(it["id"][0] == it["side"][0] for it in told["evidence"]["statements"])
            assert all(set(it["evidence"]) <= set(ids) for it in told["claims"])
            if told is not answers[0]:  # whose random letters are cleaned first
                assert all(
                    it["text"] in told.get("text", told.get("explanation")) for it in told["claims"]
                ), told
            claims += sum(len(it["evidence"]) for it in told["claims"])
    assert claims > 8


def test_a_stream_in_its_order(talk: Talk, opened: OpenRun, pairs: list[tuple[str, str]]) -> None:
    user, item = pairs[4]
    events = talk.events("/v1/explain", {"user": user, "item": item, "stream": True})
    names, data = [name for name, _ in events], dict(events)
    pieces = [it["text"] for name, it in events if name == "words"]
    assert names == ["because", "evidence", *["words"] * len(pieces), "claims", "end"]
    assert len(pieces) > 1
    assert "".join(pieces) == data["claims"]["text"] == opened.explain((user, item)).text
    assert data["end"] == {"written": "model"}
    whole = talk.ask("POST", "/v1/explain", {"user": user, "item": item})
    assert whole["written"] == "kept"
    assert data["because"] == {name: whole[name] for name in ("because", "tokens")}
    assert data["evidence"]["statements"]
    assert data["claims"] == {name: it for name, it in whole.items() if name != "written"}
    again = talk.events("/v1/explain", {"user": user, "item": item, "stream": True})
    assert [name for name, _ in again] == ["because", "evidence", "words", "claims", "end"]
    assert again[2][1]["text"] == whole["text"]
    assert again[-1][1] == {"written": "kept"}
    asked = {"user": pairs[5][0], "item": pairs[5][1]}
    streamed = talk.client.post("/v1/explain", json=asked, headers={"accept": "text/event-stream"})
    assert [name for name, _ in parsed(streamed.text)][-1] == "end"
    plain = dict(talk.events("/v1/explain", {**asked, "run": "plain", "stream": True}))
    assert plain["end"] == {"written": "plain"}
    assert plain["words"]["text"] == plain["claims"]["text"]


def test_reasons_for_everybody(talk: Talk, opened: OpenRun, pairs: list[tuple[str, str]]) -> None:
    history, (user, item) = [it for _, it in pairs[:3]], pairs[6]
    told = talk.ask("POST", "/v1/explain", {"history": history, "item": item})
    assert told["text"] == opened.explain(history=history, item=item).text
    about = {"about": "likes quiet cinemas"}
    assert (
        talk.ask("POST", "/v1/explain", {**about, "item": item})["text"]
        == opened.explain(**about, item=item).text
    )
    text = "Night Owl\na late cinema with old films"
    told = talk.ask("POST", "/v1/explain", {"user": user, "item_text": text})
    assert told["text"] == opened.explain(user=user, item_text=text).text
    assert any("old films" in it["text"] for it in told["evidence"]["statements"])
    nobody = talk.ask("POST", "/v1/explain", {"history": [], "item": item})
    assert nobody["written"] == "plain"
    assert nobody["because"]["kind"] == "popularity"
    token = talk.ask("GET", f"/v1/users/{user}")["tokens"][0]["token"]
    without = talk.ask("POST", "/v1/explain", {"user": user, "item": item, "without": [token]})
    after = talk.ask("POST", "/v1/what-if", {"user": user, "item": item, "without": [token]})["after"]
    assert without["because"] == after["reason"]["because"]
    assert without["text"] == opened.explain(user=user, item=item, without=[token]).text
    assert "ask again" not in talk.refusal(404, "POST", "/v1/explain", {"user": user, "item": "nothing"})
    assert "unknown user" in talk.refusal(404, "POST", "/v1/explain", {"user": "no one", "item": item})
    lacking = {"user": user, "item": item, "without": ["<u.macro_99>"], "stream": True}
    assert "vocabulary" in talk.refusal(404, "POST", "/v1/explain", lacking)


def test_openais_client_understands_it(talk: Talk, pairs: list[tuple[str, str]]) -> None:
    openai = pytest.importorskip("openai")
    user, item = pairs[7]
    with Listening(talk.app) as there:
        client = openai.OpenAI(base_url=f"{there.url}/v1", api_key="none", max_retries=0)
        message: Any = {"role": "user", "content": json.dumps({"user": user, "item": item})}
        system: Any = {"role": "system", "content": "Be brief."}
        stranger: Any = {"role": "user", "content": json.dumps({"user": "no one", "item": item})}
        with client:
            ask = client.chat.completions.create
            told = ask(model="town", messages=[system, message], temperature=0.2)
            with pytest.raises(openai.UnprocessableEntityError) as wordy:
                ask(model="town", messages=[{"role": "user", "content": "why?"}])
            with pytest.raises(openai.NotFoundError) as unknown:
                ask(model="any", messages=[message, stranger])
            with pytest.raises(openai.UnprocessableEntityError) as streamed:
                ask(model="town", messages=[message], stream=True)
    assert "must be JSON such as" in wordy.value.response.text
    assert "unknown user" in unknown.value.response.text
    assert "/v1/explain with stream" in streamed.value.response.text
    type(told).model_validate(told.model_dump())
    whole = talk.ask("POST", "/v1/explain", {"user": user, "item": item})
    assert told.object == "chat.completion"
    assert told.model == "town"
    assert [(it.index, it.finish_reason, it.message.role) for it in told.choices] == [
        (0, "stop", "assistant")
    ]
    assert told.choices[0].message.content == whole["text"]
    assert told.model_extra["forwhy"]["evidence"] == whole["evidence"]
    for content in (
        '{"user": "a"}',
        '{"item": "x"}',
        '{"user": [], "item": {}}',
        "[]",
        "7",
        '{"user": "\\ud800"}',
    ):
        talk.refusal(
            422, "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]}
        )


def test_a_late_reason_is_plain_and_comes_later(
    narrow: Talk, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, body = Gate(monkeypatch, narrow.service, "town"), dict(zip(("user", "item"), pairs[0], strict=True))
    told = narrow.ask("POST", "/v1/explain", body)
    assert told["written"] == "plain"
    assert "the model is late" in told["note"]
    assert told["text"]
    assert told["evidence"]["statements"]
    gate.opened.set()
    until(lambda: narrow.service.database.one("answers", key=told["id"]))  # though nobody asks again
    again = narrow.ask("POST", "/v1/explain", body)
    assert again["written"] == "kept"
    assert again["text"] != told["text"]


def test_a_late_stream_ends_plainly(
    narrow: Talk, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, narrow.service, "town")
    user, item = pairs[1]
    events = narrow.events("/v1/explain", {"user": user, "item": item, "stream": True})
    assert [name for name, _ in events] == ["because", "evidence", "claims", "end"]
    assert events[-1][1]["written"] == "plain"
    assert "late" in events[-1][1]["note"]
    assert events[2][1]["text"]
    gate.opened.set()


def test_a_model_that_breaks_leaves_plain_reasons(
    narrow: Talk, opened: OpenRun, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch, narrow.service, "town")
    gate.opened.set()
    gate.fails = True
    bodies = [{"user": user, "item": item} for user, item in pairs[:4]]
    for body in bodies:
        told = narrow.ask("POST", "/v1/explain", body)
        assert told["written"] == "plain"
        assert "the model failed" in told["note"]
        assert told["text"] == opened.plain.explain(**body).text  # type: ignore[arg-type]
        stream = dict(narrow.events("/v1/explain", {**body, "stream": True}))
        assert stream["end"]["written"] == "plain"
    gate.fails = False
    assert narrow.ask("POST", "/v1/explain", bodies[0])["written"] == "model"


def test_a_full_line_says_when_to_come_back(
    narrow: Talk, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, service = Gate(monkeypatch, narrow.service, "town"), narrow.service
    bodies = [{"user": user, "item": item, "stream": True} for user, item in pairs[:4]]
    with Listening(narrow.app) as there:
        first = there.post("/v1/explain", bodies[0])
        assert gate.begun.wait(10)
        second = there.post("/v1/explain", bodies[1])
        until(lambda: service.writers["town"].waiting == 1)
        assert 'forwhy_waiting{run="town"} 1.0' in narrow.client.get("/metrics").text
        for stream in (True, False):
            refused = narrow.client.post("/v1/explain", json={**bodies[2], "stream": stream})
            assert "ask again in" in detail(refused, 429)
            assert int(refused.headers["retry-after"]) >= 1
        assert narrow.listed(user=pairs[2][0], k=2, explain=True)[0]["explanation"]  # the rest goes on
        gate.opened.set()
        for connection in (first, second):
            names = [name for _, name, _ in sse(connection.getresponse())]
            assert names[-2:] == ["claims", "end"]
            connection.close()
        until(lambda: narrow.ask("POST", "/v1/explain", {**bodies[2], "stream": False})["written"] == "model")


def test_whoever_leaves_frees_the_slot(
    narrow: Talk, pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, writer = Gate(monkeypatch, narrow.service, "town"), narrow.service.writers["town"]
    bodies = [{"user": user, "item": item, "stream": True} for user, item in pairs[:3]]
    with Listening(narrow.app) as there:
        first = there.post("/v1/explain", bodies[0])
        answer = first.getresponse()
        assert next(sse(answer))[1] == "because"
        assert gate.begun.wait(10)
        second = there.post("/v1/explain", bodies[1])
        until(lambda: writer.waiting == 1)
        (written,) = writer._open
        answer.close()
        first.close()
        second.close()
        until(lambda: written.dropped)
        gate.opened.set()
        until(lambda: not writer._open and not writer.waiting)
        assert narrow.ask("POST", "/v1/explain", {**bodies[2], "stream": False})["written"] == "model"
    for body in bodies[:2]:  # nobody waited for them, so that nothing was written
        told = narrow.ask("POST", "/v1/explain", {**body, "stream": False})
        assert told["written"] == "model"
