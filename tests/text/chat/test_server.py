"""An LLM's server that is slow, broken, greedy, hostile or killed; what the judge's tests hold is not said again."""

# ruff: noqa: ANN401 - the fake server's types are those of tests/fake_llm.py, passed as a fixture
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from forwhy.errors import UserError
from forwhy.options import checked
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiry, Malformed, Replies, ask_all
from forwhy.text.chat.base import Answer, ChatConfig, Message, Question, Tally
from forwhy.text.chat.client import Pace, open_chat

SECRET = "sk-very-secret-indeed"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}

Ask = Callable[..., Replies[Any]]


def question(text: str, max_tokens: int = 32, schema: Any = None) -> Question:
    return Question((Message("system", "Answer."), Message("user", text)), max_tokens, schema)


def number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Malformed("not a number") from None


@pytest.fixture
def ask(server: Any) -> Ask:
    """Ask the server; `path` keeps the answers."""

    def ask_once(*texts: str, path: Path | None = None, parse: Any = str, **options: Any) -> Replies[Any]:
        config = ChatConfig(**{"model": "m", "url": server.url, "backoff": 0.001, **options})
        with open_chat(config) as chat, KeptAnswers(path) as cache:
            return ask_all(chat, [Inquiry(question(text), parse) for text in texts], cache, asks=config.asks)

    return ask_once


def count(path: Path) -> int:
    with KeptAnswers(path) as kept:
        return len(kept)


def texts(n: int) -> list[str]:
    return [f"text {row}" for row in range(n)]


def test_the_request_and_its_key(server: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWHY_LLM_KEY", SECRET)
    monkeypatch.setenv("FORWHY_LLM_URL", server.url)
    (reply,) = ask("tea", url=None)
    assert reply.value == "you said: tea"
    assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert server.bodies == [
        {"model": "m", "temperature": 0, "max_tokens": 32, "messages": [
            {"role": "system", "content": "Answer."}, {"role": "user", "content": "tea"}]}
    ]  # fmt: skip


def test_a_schema_goes_along_and_is_dropped_where_it_is_rejected(server: Any, kit: Any) -> None:
    server.behave = lambda llm, _: (
        kit.Response(b"no schemas", 400) if "response_format" in llm.bodies[-1] else kit.completion("1")
    )
    with open_chat(ChatConfig(model="m", url=server.url)) as chat:
        assert [chat.ask(question("x", schema=SCHEMA)).used.calls for _ in range(3)] == [2, 1, 1]
    sent = server.bodies[0]["response_format"]
    assert sent == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
    }


def test_a_server_that_ignores_the_schema_is_asked_again(server: Any, kit: Any, ask: Ask) -> None:
    server.behave = lambda _, text: kit.completion("12" if "not a number" in text else "Well, 12.")
    (reply,) = ask("x", parse=number)
    assert (reply.value, reply.asks) == (12, 2)


def test_a_wrong_key_ends_it_at_once_and_is_not_shown(
    server: Any, kit: Any, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWHY_LLM_KEY", SECRET)
    server.behave = lambda *_: kit.Response(f"bad key {SECRET}".encode(), 401)
    with pytest.raises(UserError, match=r"LLM 'm' at http.*HTTP 401.*check FORWHY_LLM_KEY") as caught:
        ask(*texts(200))
    assert SECRET not in str(caught.value)
    assert len(server.bodies) <= 10


def test_nobody_there(ask: Ask) -> None:
    with pytest.raises(UserError, match="no answer to 10 questions in a row .*no connection.*run again"):
        ask(*texts(50), url="http://127.0.0.1:9/v1", attempts=2)


def test_a_slow_server_is_given_up_by_question(server: Any, kit: Any, ask: Ask) -> None:
    done = Event()

    def slow(_: Any, text: str) -> Any:
        if text == "text 1":
            done.wait(5)
        return kit.completion("ok")

    server.behave = slow
    start = time.monotonic()
    replies = ask(*texts(4), timeout=0.3, attempts=2)
    done.set()
    assert [reply.reason for reply in replies] == [None, "timeout", None, None]
    assert time.monotonic() - start < 4


def test_in_a_storm_of_429_nobody_calls_before_its_time(server: Any, kit: Any, ask: Ask) -> None:
    """What the server says to one caller holds for all of them."""
    calls: list[float] = []

    def storm(*_: object) -> Any:
        calls.append(time.monotonic())
        return kit.completion("ok") if len(calls) > 4 else kit.Response(b"", 429, {"Retry-After": "0.5"})

    server.behave = storm
    replies = ask(*texts(12), concurrency=4, attempts=20)
    assert [reply.reason for reply in replies] == [None] * 12
    # At most the four under way at the first 429 come before it is over.
    assert len([moment for moment in calls if moment - calls[0] < 0.5]) <= 4
    assert len(calls) <= 16


def test_no_more_requests_in_a_minute_than_allowed(server: Any, kit: Any, ask: Ask) -> None:
    calls: list[float] = []

    def note(*_: object) -> Any:
        calls.append(time.monotonic())
        return kit.completion("ok")

    server.behave = note
    start = time.monotonic()
    ask(*texts(6), requests_per_minute=600, concurrency=6)
    assert time.monotonic() - start >= 0.5
    assert sorted(calls)[-1] - sorted(calls)[0] >= 0.45


def test_a_stop_ends_waiting_for_ones_turn() -> None:
    stopped = Event()
    pace = Pace(0.001, stopped)
    pace.wait()
    waiting = Thread(target=pace.wait)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    stopped.set()
    waiting.join(5)
    assert not waiting.is_alive()


def test_cut_answers_get_twice_the_room(server: Any, kit: Any, ask: Ask) -> None:
    server.behave = lambda llm, _: (
        kit.completion("{", finish="length") if llm.bodies[-1]["max_tokens"] < 128 else kit.completion("9")
    )
    (reply,) = ask("x", parse=number)
    assert (reply.value, reply.asks) == (9, 3)
    assert [body["max_tokens"] for body in server.bodies] == [32, 64, 128]


def test_half_characters_do_no_harm(server: Any, kit: Any, ask: Ask, tmp_path: Path) -> None:
    body = b'{"choices": [{"message": {"content": "tea \\ud83d"}, "finish_reason": "stop"}]}'
    server.behave = lambda *_: kit.Response(body)
    for _ in range(2):
        (reply,) = ask("half \ud83d", path=tmp_path / "c")
        assert reply.value == "tea ?"
    assert server.texts == ["half ?"]


def test_a_megabyte_of_answer_is_read_and_more_is_the_servers_fault(
    server: Any, kit: Any, ask: Ask, tmp_path: Path
) -> None:
    long = "дом " * 140_000
    server.behave = lambda _, text: kit.completion(long[:130_000] if text == "a" else long)
    fine, too_long = ask("a", "b", path=tmp_path / "c", attempts=1)
    assert fine.value == long[:130_000]
    assert too_long.reason == "server"
    with KeptAnswers(tmp_path / "c") as cache:
        assert len(cache) == 1


def test_a_key_that_a_server_repeats_is_not_kept(
    server: Any, kit: Any, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behave = lambda llm, _: kit.completion(f"your header: {llm.headers[-1].get('Authorization')}")
    monkeypatch.setenv("FORWHY_LLM_KEY", SECRET)
    assert ask("a", path=tmp_path / "c")[0].value == "your header: Bearer [key]"
    assert SECRET.encode() not in (tmp_path / "c").read_bytes()
    monkeypatch.setenv("FORWHY_LLM_KEY", "none")  # what people set where none is needed
    assert ask("b")[0].value == "your header: Bearer none"


def test_the_budget_of_tokens_is_not_exceeded(server: Any, ask: Ask, tmp_path: Path) -> None:
    replies = ask(*texts(100), budget_tokens=2000, path=tmp_path / "c")
    used = replies.asked.used
    assert used.input_tokens + used.output_tokens == 110 * len(server.bodies) <= 2000
    # A call is some 150 bytes and 32 tokens of answer: what is left unspent is less than one bound.
    assert 110 * len(server.bodies) > 2000 - 400
    assert replies.asked.failed == {"budget": 100 - len(server.bodies)}
    asked = len(server.bodies)
    again = ask(*texts(100), budget_tokens=2000, path=tmp_path / "c")
    assert again.asked.cached == asked  # what is kept costs nothing: the budget is of one run
    assert max(Counter(server.texts).values()) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"budget_tokens": 0}, "budget_tokens"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"input_price": 1}, "prices: .*give both"),
        ({"key": SECRET}, "key"),
        ({"asks": 0, "backoff": -1}, "asks.*backoff"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=f"^LLM: .*{named}") as caught:
        checked(ChatConfig, {"model": "m", **options}, "LLM")
    assert SECRET not in str(caught.value)


def test_the_names_in_the_environment() -> None:
    assert (ChatConfig.url_name, ChatConfig.key_name) == ("FORWHY_LLM_URL", "FORWHY_LLM_KEY")


RUN = """
import sys
from pathlib import Path
from forwhy.text.chat.asking import Malformed, Inquiry, ask_all
from forwhy.text.chat.base import Message, Question
from forwhy.options import checked
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.base import ChatConfig
from forwhy.text.chat.client import open_chat

def number(text):
    if text == "hm":
        raise Malformed("no number")
    return int(text)

tasks = [Inquiry(Question((Message("user", f"text {row}"),)), number) for row in range(40)]
with open_chat(ChatConfig(model="m", url=sys.argv[1], concurrency=4)) as chat:
    with KeptAnswers(Path(sys.argv[2])) as cache:
        replies = ask_all(chat, tasks, cache)
print([reply.value for reply in replies])
"""


def moody(kit: Any, seconds: float = 0.0) -> Callable[[Any, str], Any]:
    """Every fourth question takes two answers."""

    def behave(_: Any, text: str) -> Any:
        time.sleep(seconds)
        number = int(text.split()[1])
        return kit.completion("hm" if number % 4 == 0 and "accepted" not in text else str(number))

    return behave


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_a_second_run_asks_nothing_twice(
    server: Any, kit: Any, tmp_path: Path, end: signal.Signals
) -> None:
    server.behave = moody(kit, 0.05)
    command = [sys.executable, "-c", RUN, server.url, str(tmp_path / "c")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as victim:
        while len(server.texts) < 15:
            assert victim.poll() is None
            time.sleep(0.005)
        victim.send_signal(end)
    time.sleep(0.2)
    asked = list(server.texts)
    lost = len(asked) - count(tmp_path / "c")
    # Ctrl-C waits for the answers under way; a kill loses those.
    assert 0 <= lost <= (0 if end == signal.SIGINT else 4)

    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(range(40))
    times = Counter(server.texts)
    assert len(times) == 50
    assert sum(count - 1 for count in times.values()) == lost
    assert count(tmp_path / "c") == 50
    subprocess.run(command, capture_output=True, check=True)
    assert len(server.texts) == 50 + lost


@pytest.mark.slow
def test_two_processes_on_one_cache_share_their_answers(server: Any, kit: Any, tmp_path: Path) -> None:
    server.behave = moody(kit)
    command = [sys.executable, "-c", RUN, server.url, str(tmp_path / "c")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    assert [json.loads(process.communicate()[0]) for process in both] == [list(range(40))] * 2
    assert max(Counter(server.texts).values()) == 1


def test_a_chat_that_was_stopped_answers_no_more(server: Any) -> None:
    with open_chat(ChatConfig(model="m", url=server.url)) as chat:
        chat.stop()
        assert chat.ask(question("x")) == Answer(reason="server", detail="stopped", used=Tally())
    assert server.bodies == []
