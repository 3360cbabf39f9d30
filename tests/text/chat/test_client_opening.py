"""Where a model is; what a run would ask: never less than it then takes, and nothing is asked to find out."""

# ruff: noqa: ANN401 - the fake server's types are those of tests/fake_llm.py, passed as a fixture
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiry, Malformed, ask_all
from forwhy.text.chat.base import ChatConfig, Message, Question
from forwhy.text.chat.client import Client, estimate, is_local, model_name, open_chat


def number(text: str) -> int:
    if not text.isdigit():
        raise Malformed("no number")
    return int(text)


def tasks(*texts: str) -> list[Inquiry[int]]:
    return [Inquiry(Question((Message("user", text),), 16, {"type": "integer"}), number) for text in texts]


def config(server: Any, **options: Any) -> ChatConfig:
    return ChatConfig(**{"model": "m", "url": server.url, **options})


@pytest.fixture
def counting(server: Any, kit: Any) -> Any:
    """Answers with the number of letters in the question."""
    server.behave = lambda _, text: kit.completion(str(len(text)))
    return server


def test_nothing_is_asked_and_each_question_counts_once(counting: Any) -> None:
    found = estimate(tasks("a", "b", "a"), config(counting, input_price=1, output_price=10), KeptAnswers())
    assert (found["questions"], found["cached"], found["output_tokens"]) == (2, 0, 32)
    assert found["cost"] == pytest.approx((found["input_tokens"] + 10 * 32) / 1e6)
    assert (found["seconds"], found["pace"].partition(":")[0]) == (None, "unknown")
    assert counting.bodies == []


def test_a_run_takes_no_more_than_was_estimated(counting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget of exactly the estimate is enough for every question."""
    wanted = tasks("tea", "дом 😀" * 50, "\ud83d", 'a"\n\\')
    found = estimate(wanted, config(counting), KeptAnswers())
    bounds = []
    send = Client._send

    def note(self: Client, body: bytes, most: Any) -> Any:
        bounds.append(most)
        return send(self, body, most)

    monkeypatch.setattr(Client, "_send", note)
    options = config(counting, budget_tokens=found["input_tokens"] + found["output_tokens"])
    with Client(options, options.ledger()) as chat:
        replies = ask_all(chat, wanted, KeptAnswers())
    assert [reply.reason for reply in replies] == [None] * 4
    assert sum(most.input_tokens for most in bounds) == found["input_tokens"]
    assert sum(most.output_tokens for most in bounds) == found["output_tokens"]


def test_what_is_kept_costs_nothing(counting: Any, tmp_path: Path) -> None:
    options = config(counting)
    with KeptAnswers(tmp_path / "c") as cache:
        with Client(options, options.ledger()) as chat:
            ask_all(chat, tasks("a", "b"), cache)
        one = estimate(tasks("a", "b", "c"), options, cache)
        assert (one["questions"], one["cached"], one["output_tokens"]) == (3, 2, 16)
        done = estimate(tasks("a", "b"), options, cache)
        assert list(done.values()) == [2, 2, 0, 0, None, 0.0, "nothing is left to ask"]
        other = estimate(tasks("a", "b"), config(counting, model="other"), cache)
        assert other["cached"] == 0


def test_a_question_left_in_the_middle_of_its_asks_is_not_done(counting: Any, kit: Any) -> None:
    counting.behave = lambda *_: kit.completion("no")
    with KeptAnswers() as cache:
        options = config(counting)
        with Client(options, options.ledger()) as chat:
            ask_all(chat, tasks("a"), cache, asks=2)
        assert estimate(tasks("a"), config(counting, asks=2), cache)["cached"] == 1
        assert estimate(tasks("a"), config(counting, asks=3), cache)["cached"] == 0


def test_time_is_what_answers_took_so_far_or_the_limit_of_requests(counting: Any, kit: Any) -> None:
    wanted = tasks(*map(str, range(60)))
    slow = config(counting, requests_per_minute=30)
    assert estimate(wanted, slow, KeptAnswers())["seconds"] == 120
    cache = KeptAnswers()
    with Client(config(counting), config(counting).ledger()) as chat:
        answer = chat.ask(wanted[0].question)
    cache.add(wanted[0].question.key("m"), "m", answer, 8.0)
    found = estimate(wanted, config(counting, concurrency=4), cache)
    assert (found["seconds"], found["pace"]) == (59 * 8 / 4, "8 s per answer kept so far, 4 at a time")
    assert estimate(wanted, config(counting, concurrency=4, requests_per_minute=6), cache)["seconds"] == 590


def test_a_local_model_answers_one_at_a_time(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORWHY_LLM_URL", raising=False)
    options = ChatConfig(model=str(tiny_model), concurrency=8)
    found = estimate(tasks("a", "b"), options, KeptAnswers())
    assert (found["questions"], found["seconds"]) == (2, None)


def test_the_address_decides_where_a_model_is(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_local(ChatConfig(model="m", url=server.url))
    assert is_local(ChatConfig(model="m"))
    monkeypatch.setenv("FORWHY_LLM_URL", server.url)
    assert not is_local(ChatConfig(model="m"))
    assert model_name(ChatConfig(model="m")) == "m"
    with open_chat(ChatConfig(model="m", concurrency=3)) as chat:
        assert isinstance(chat, Client)
        assert (chat.model, chat.concurrency) == ("m", 3)


def test_a_model_that_is_nowhere_is_refused_with_both_remedies(server: Any) -> None:
    with pytest.raises(UserError, match="no such folder.*FORWHY_LLM_URL"):
        open_chat(ChatConfig(model="some-model"))
