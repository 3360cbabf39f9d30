"""One call to a server that behaves well, badly, or not at all."""

# ruff: noqa: ANN401 - the fake server's types are those of tests/fake_llm.py, passed as a fixture
from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Event, Timer
from typing import Any

import pytest

from forwhy.errors import UserError
from forwhy.evaluate.judge import SCHEMA, JudgeConfig, messages, question
from forwhy.text.chat.base import Answer, Ledger, Tally
from forwhy.text.chat.client import Client, endpoint

Ask = Callable[..., Answer]
KEY, URL = JudgeConfig.key_name, JudgeConfig.url_name
SECRET = "sk-very-secret"


@pytest.fixture
def ask(server: Any, kit: Any) -> Ask:
    """Ask about one pair; `ledger` is where it is booked."""

    server.behave = lambda *_: kit.grade(50)

    def ask_once(ledger: Ledger | None = None, **options: Any) -> Answer:
        config = JudgeConfig(**{"model": "m", "url": server.url, "backoff": 0.001, **options})
        with Client(config, ledger or config.ledger()) as client:
            return client.ask(question("good tea", "good cake", 64))

    return ask_once


def say(server: Any, answers: Sequence[Any]) -> None:
    """Give these answers in turn, the last one again and again."""
    left = list(answers)
    server.behave = lambda *_: left.pop(0) if len(left) > 1 else left[0]


def test_the_request_is_what_every_compatible_server_knows(
    server: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, f" {SECRET}\n")
    assert ask() == Answer('{"score": 50}', used=Tally(1, 100, 10))
    (body,), (headers,) = server.bodies, server.headers
    assert body == {
        "model": "m", "temperature": 0, "max_tokens": 64, "response_format": SCHEMA,
        "messages": [vars(turn) for turn in messages("good tea", "good cake")],
    }  # fmt: skip
    assert headers["Authorization"] == f"Bearer {SECRET}"


def test_without_a_key_none_is_sent(server: Any, ask: Ask) -> None:
    ask()
    assert "Authorization" not in server.headers[0]


def test_nothing_goes_out_that_the_library_finds_in_the_environment(
    server: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "sk-somebody-elses")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer sk-somebody-elses\nX-Key: sk-other")
    ask()
    (headers,) = server.headers
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert "sk-" not in str({**headers, "Authorization": ""})
    assert {name for name in headers if name.lower().startswith("x-")} == {"x-stainless-raw-response"}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 529])
def test_a_busy_or_broken_server_is_asked_again(server: Any, kit: Any, ask: Ask, status: int) -> None:
    say(server, [kit.Response(b"", status), kit.Response(b"", status), kit.grade(9)])
    assert ask() == Answer('{"score": 9}', used=Tally(3, 100, 10))


def test_a_broken_server_is_given_up(server: Any, kit: Any, ask: Ask) -> None:
    say(server, [kit.Response(b'{"error": {"message": "no\\u001b[2J GPU"}}', 500)])
    answer = ask(attempts=3)
    assert (answer.reason, answer.detail, answer.used) == ("server", "HTTP 500: no [2J GPU", Tally(3))
    assert len(server.bodies) == 3


def test_retry_after_is_obeyed(server: Any, kit: Any, ask: Ask) -> None:
    say(server, [kit.Response(b"", 429, {"Retry-After": "0.3"}), kit.grade(9)])
    start = time.monotonic()
    assert ask().reason is None
    assert time.monotonic() - start >= 0.3


def test_retry_after_may_be_a_date_or_nonsense(server: Any, kit: Any, ask: Ask) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2.5), usegmt=True)
    say(server, [kit.Response(b"", 429, {"Retry-After": value}) for value in (date, "soon", "-5", "nan")])
    start = time.monotonic()
    assert ask(attempts=4).reason == "server"
    assert 1 < time.monotonic() - start < 30


def test_waits_double_with_jitter_up_to_a_limit(server: Any) -> None:
    config = JudgeConfig(model="m", url=server.url, backoff=2)
    with Client(config, config.ledger()) as client:
        for attempt in range(1, 30):
            wait = client._pause(attempt, 0.0)
            assert min(300, 0.5 * 2**attempt) <= wait <= min(300, 1.5 * 2**attempt)
        assert len({client._pause(1, 0.0) for _ in range(5)}) > 1
        assert client._pause(1, 40.0) == 40
        assert client._pause(1, 4000.0) == 300


def test_a_stop_ends_waiting_and_calling(server: Any, kit: Any) -> None:
    say(server, [kit.Response(b"", 500)])
    config = JudgeConfig(model="m", url=server.url, backoff=1000)
    with Client(config, config.ledger()) as client:
        Timer(0.2, client.stop).start()
        assert client.ask(question("a", "b", 64)).detail.startswith("HTTP 500")
        assert client.ask(question("a", "b", 64)) == Answer(reason="server", detail="stopped")
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b'{"choices": [{"message": {"content": "{\\"score', b"[]", b'{"choices": []}', b"<html>", b"\xff"],
)
def test_a_broken_body_is_asked_again_and_its_cost_is_bounded(
    server: Any, kit: Any, ask: Ask, body: bytes
) -> None:
    say(server, [kit.Response(body), kit.grade(9)])
    answer = ask()
    size = len(json.dumps(server.bodies[0], ensure_ascii=False).encode())
    assert answer == Answer('{"score": 9}', used=Tally(2, 100 + size + 64, 10 + 64, estimated=1))


def test_an_endless_body_is_cut(server: Any, kit: Any, ask: Ask) -> None:
    say(server, [kit.Response(b" " * (3 << 20))])
    assert ask(attempts=1).reason == "server"


def test_without_usage_tokens_are_bounded(server: Any, kit: Any, ask: Ask) -> None:
    say(server, [kit.completion("5", usage=False)])
    used = ask().used
    assert (used.calls, used.estimated, used.output_tokens) == (1, 1, 64)
    assert used.input_tokens > len(json.dumps(server.bodies[0]["messages"]))


@pytest.mark.parametrize("pieces", [0.0, 0.03])
def test_a_late_answer_is_given_up_and_counted(server: Any, kit: Any, ask: Ask, pieces: float) -> None:
    """Silence, and a body that drips in too slowly though no byte is late."""
    done = Event()

    def late(*_: object) -> Any:
        if not pieces:
            done.wait(5)
        return kit.Response(kit.grade(5).body, pieces=pieces)

    server.behave = late
    start = time.monotonic()
    answer = ask(timeout=0.3, attempts=2)
    done.set()
    assert time.monotonic() - start < 4
    assert (answer.reason, answer.used.calls, answer.used.estimated) == ("timeout", 2, 2)


def test_nobody_there(ask: Ask) -> None:
    answer = ask(url="http://127.0.0.1:9/v1", attempts=2)
    assert (answer.reason, answer.used) == ("server", Tally(2))
    assert "no connection" in answer.detail


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_what_no_retry_can_help_ends_it_without_showing_the_key(
    server: Any, kit: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv(KEY, SECRET)
    body = json.dumps({"error": {"message": f"{'x' * 190} key {SECRET}"}}).encode()
    say(server, [kit.Response(body, status, {"Location": "http://127.0.0.1:9/"})])
    with pytest.raises(UserError, match=f"judge 'm' at http.*HTTP {status}.*check {KEY}") as caught:
        ask()
    assert "sk-" not in str(caught.value)
    assert len(server.bodies) == 1


def test_a_server_without_schemas_is_asked_without(server: Any, kit: Any, ask: Ask) -> None:
    def plain(judge: Any, _: object) -> Any:
        return kit.Response(b"", 400) if "response_format" in judge.bodies[-1] else kit.grade(8)

    server.behave = plain
    assert ask() == Answer('{"score": 8}', used=Tally(2, 100, 10))
    assert ask(structured=False).used.calls == 1


def test_what_works_once_is_kept(server: Any, kit: Any) -> None:
    server.behave = lambda judge, _: (
        kit.Response(b"", 400) if "response_format" in judge.bodies[-1] else kit.grade(8)
    )
    config = JudgeConfig(model="m", url=server.url)
    with Client(config, config.ledger()) as client:
        assert [client.ask(question("a", "b", 64)).used.calls for _ in range(3)] == [2, 1, 1]


def test_a_rejected_pair_is_not_asked_again(server: Any, kit: Any, ask: Ask) -> None:
    say(server, [kit.Response(b"too long", 413)])
    answer = ask()
    assert (answer.reason, answer.detail, answer.used) == ("rejected", "HTTP 413: too long", Tally(2))


def test_refused_and_cut_answers_are_told_apart(server: Any, kit: Any, ask: Ask) -> None:
    for response, reason in [
        (kit.completion(None, refusal="I'd rather not"), "refused"),
        (kit.completion("", finish="content_filter"), "refused"),
        (kit.completion("7", finish="length"), "truncated"),
        (kit.completion(None), None),
    ]:
        say(server, [response])
        assert ask() == Answer(reason=reason, used=Tally(1, 100, 10))


def test_the_budget_stops_before_the_call(server: Any, ask: Ask) -> None:
    ledger = JudgeConfig(model="m", budget=0.0005, input_price=1, output_price=1).ledger()
    assert ask(ledger).reason == "budget"
    assert server.bodies == []
    assert ledger.bought == Tally()


@pytest.mark.parametrize(
    ("given", "posted"),
    [
        ("http://h:1/v1", "http://h:1/v1/chat/completions"),
        ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
        ("https://h", "https://h/v1/chat/completions"),
        ("https://h/api/v3/chat/completions", "https://h/api/v3/chat/completions"),
    ],
)
def test_addresses(given: str, posted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert endpoint(JudgeConfig(model="m", url=given)) == posted
    monkeypatch.setenv(URL, given)
    assert endpoint(JudgeConfig(model="m")) == posted
    assert endpoint(JudgeConfig(model="m", url="http://other/v1")) == "http://other/v1/chat/completions"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "no address"), ("", "no address"), ("h/v1", "not an address"), ("file:///etc", "not an address"),
        ("http://", "not an address"), ("http://h/v1?key=1", "not an address"), ("http://[h/v1", "not an address"),
        ("http://h:x/v1", "not an address"),
        (f"https://me:{SECRET}@h/v1", "holds a name or a password"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused(given: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    with pytest.raises(UserError, match=said) as caught:
        endpoint(JudgeConfig(model="m", url=given))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-\nx", "clé"])
def test_a_key_that_no_header_carries_is_refused(
    server: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv(KEY, key)
    with pytest.raises(UserError, match=f"^{KEY}: holds letters") as caught:
        ask()
    assert key not in str(caught.value)
    assert server.bodies == []
