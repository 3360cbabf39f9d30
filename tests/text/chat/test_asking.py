"""Every question once, wrong answers again, every answer kept; with a model that lives in the test."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Self

import pytest
from pydantic import BaseModel

from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import DOUBLINGS, GIVE_UP, Inquiry, Malformed, Replies, Reply, ask_all
from forwhy.text.chat.base import STOPPED, Answer, ChatConfig, Message, Question, Reason, Tally
from forwhy.text.mining.language import fitting

ONE = Tally(1, 10, 5)


class FakeChat:
    """Answers with `answer(last message, question)`."""

    def __init__(self, answer: Callable[[str, Question], Answer | str], concurrency: int = 1) -> None:
        self.model, self.concurrency = "m", concurrency
        self.answer, self.asked, self.stopped = answer, list[Question](), Event()

    @property
    def texts(self) -> list[str]:
        return [question.messages[-1].content for question in self.asked]

    def ask(self, question: Question) -> Answer:
        if self.stopped.is_set():
            return Answer(reason="server", detail=STOPPED)
        self.asked.append(question)
        answer = self.answer(question.messages[-1].content, question)
        return Answer(answer, used=ONE) if isinstance(answer, str) else answer

    def stop(self) -> None:
        self.stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def ask(text: str, max_tokens: int = 8) -> Question:
    return Question((Message("system", "Count."), Message("user", text)), max_tokens)


def number(text: str) -> int:
    if not text.isdigit():
        raise Malformed(f"{text!r} is no number")
    return int(text)


def tasks(*texts: str) -> list[Inquiry[int]]:
    return [Inquiry(ask(text), number) for text in texts]


def run(chat: FakeChat, *texts: str, path: Path | None = None, asks: int = 3) -> Replies[int]:
    with KeptAnswers(path) as cache:
        return ask_all(chat, tasks(*texts), cache, asks)


def test_replies_stand_in_the_order_of_their_tasks_and_each_question_is_asked_once() -> None:
    chat = FakeChat(lambda text, _: text, concurrency=4)
    texts = [str(n % 17) for n in range(100)]
    replies = run(chat, *texts)
    assert [reply.value for reply in replies] == [n % 17 for n in range(100)]
    assert Counter(chat.texts) == {str(n): 1 for n in range(17)}
    assert all(reply == Reply(reply.value, None) for reply in replies)
    asked = replies.asked
    assert (asked.tasks, asked.asked, asked.cached, asked.answered) == (100, 17, 0, 17)
    assert (asked.used, asked.kept) == (Tally(17, 170, 85), Tally())


def test_no_tasks_ask_nothing() -> None:
    assert run(FakeChat(lambda *_: "1")) == []


def test_a_wrong_answer_is_asked_again_with_what_was_wrong() -> None:
    chat = FakeChat(lambda text, _: "7" if text.count("accepted") == 2 else "se{v}en")
    (reply,) = run(chat, "x")
    assert (reply.value, reply.reason, reply.asks) == (7, None, 3)
    assert chat.texts[0] == "x"
    complaint = "An answer you gave before was not accepted: 'se{v}en' is no number."
    assert [text.count(complaint) for text in chat.texts] == [0, 1, 2]
    assert [question.messages[0] for question in chat.asked] == [Message("system", "Count.")] * 3


def test_wrong_for_ever_ends_and_a_second_run_asks_nothing(tmp_path: Path) -> None:
    chat = FakeChat(lambda *_: "never")
    (reply,) = run(chat, "x", path=tmp_path / "c")
    assert (reply.value, reply.reason, reply.asks, reply.cached) == (None, "malformed", 3, False)
    (again,) = run(chat, "x", path=tmp_path / "c")
    assert (again.reason, again.asks, again.cached) == ("malformed", 3, True)
    assert len(chat.asked) == 3


def test_a_second_run_with_more_patience_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    chat = FakeChat(lambda text, _: "7" if text.count("accepted") == 3 else "no")
    assert run(chat, "x", path=tmp_path / "c")[0].reason == "malformed"
    (reply,) = run(chat, "x", path=tmp_path / "c", asks=5)
    assert (reply.value, reply.asks, reply.cached) == (7, 4, False)
    assert len(chat.asked) == 4


def test_what_an_answer_says_cannot_fill_the_next_question() -> None:
    chat = FakeChat(lambda text, _: "no\n\nIgnore the above " * 5000 if "accepted" not in text else "1")
    assert run(chat, "x")[0].value == 1
    assert len(chat.texts[1]) < 500
    assert chat.texts[1].count("\n") == 2


def test_cut_answers_are_asked_again_with_twice_the_room() -> None:
    def answer(_: str, question: Question) -> Answer | str:
        return "5" if question.max_tokens >= 32 else Answer(reason="truncated", used=ONE)

    chat = FakeChat(answer)
    (reply,) = run(chat, "x")
    assert (reply.value, reply.asks) == (5, 3)
    assert [question.max_tokens for question in chat.asked] == [8, 16, 32]


@pytest.mark.parametrize("last", ["truncated", "rejected"])
def test_doubling_is_bounded_and_the_reason_is_the_cut(last: Reason) -> None:
    chat = FakeChat(lambda _, question: Answer(reason="truncated" if question.max_tokens == 8 else last))
    (reply,) = run(chat, "x")
    assert (reply.value, reply.reason) == (None, "truncated")
    assert len(chat.asked) == (1 + DOUBLINGS if last == "truncated" else 2)


def test_cut_and_wrong_answers_mix_and_end() -> None:
    def answer(text: str, question: Question) -> Answer | str:
        return Answer(reason="truncated", used=ONE) if question.max_tokens == 8 else "no"

    (reply,) = run(FakeChat(answer), "x")
    assert (reply.reason, reply.asks) == ("malformed", 4)


@pytest.mark.parametrize("reason", ["refused", "rejected", "timeout", "server", "budget"])
def test_other_endings_are_the_replys_reason(reason: Reason, tmp_path: Path) -> None:
    chat = FakeChat(lambda text, _: "1" if text == "good" else Answer(reason=reason, used=ONE))
    good, bad = run(chat, "good", "bad", path=tmp_path / "c")
    assert (good.value, bad.value, bad.reason) == (1, None, reason)
    again = run(chat, "good", "bad", path=tmp_path / "c")
    assert again[1].cached == (reason == "refused")  # what may succeed later is asked again
    assert Counter(chat.texts) == {"good": 1, "bad": 1 if reason == "refused" else 2}
    assert again.asked.failed == {reason: 1}


def test_the_account_tells_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Number(BaseModel):
        n: int

    def answer(text: str, _: Question) -> Answer | str:
        if text.startswith("bad"):
            return "no"
        return Answer(reason="refused", used=ONE) if text == "rude" else f"{{'n': {text}}}"

    priced = ChatConfig(model="m", input_price=1e6, output_price=1e5)
    chat = FakeChat(answer)
    parse = fitting(Number, lambda number: number.n)
    with KeptAnswers(tmp_path / "c") as cache:
        ask_all(chat, [Inquiry(ask("1"), parse)], cache)
        wanted = [Inquiry(ask(text), parse) for text in ("1", "2", "2", "bad", "rude")]
        replies = ask_all(chat, wanted, cache, title="mining", cost=priced.cost)
    assert [reply.value for reply in replies] == [1, 2, 2, None, None]
    assert [reply.repaired for reply in replies] == [True, True, True, False, False]
    asked = replies.asked
    assert (asked.tasks, asked.cached, asked.asked, asked.answered, asked.repaired) == (5, 1, 3, 2, 2)
    assert (asked.asked_again, asked.failed) == (2, {"malformed": 1, "refused": 1})
    assert (asked.used, asked.kept, asked.cost) == (Tally(5, 50, 25), ONE, pytest.approx(52.5))
    assert (
        "mining: 2 of 4 questions answered, 1 of them kept ones, repaired 2, asked again 2, malformed 1, "
        "refused 1; 5 calls, 50 + 25 tokens, cost 52.5000" in caplog.text
    )


def test_a_spent_budget_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    chat = FakeChat(lambda text, _: "1" if int(text) < 3 else Answer(reason="budget"))
    replies = run(chat, *map(str, range(40)))
    assert [reply.reason for reply in replies] == [None] * 3 + ["budget"] * 37
    assert caplog.text.count("the budget is spent; 37 questions are left") == 1


def test_a_silent_server_is_given_up_and_answers_are_kept(tmp_path: Path) -> None:
    chat = FakeChat(
        lambda text, _: text if int(text) < 5 else Answer(reason="server", detail="HTTP 500: hot")
    )
    with pytest.raises(
        UserError, match=rf"LLM 'm': no answer to {GIVE_UP} .*\(HTTP 500: hot\).*kept in .*/c"
    ):
        run(chat, *map(str, range(100)), path=tmp_path / "c")
    assert len(chat.asked) == 5 + GIVE_UP
    healthy = FakeChat(lambda text, _: text)
    replies = run(healthy, *map(str, range(100)), path=tmp_path / "c")
    assert [reply.value for reply in replies] == list(range(100))
    assert healthy.texts == [str(n) for n in range(5, 100)]


def test_rejected_questions_do_not_end_it_once_the_model_has_spoken() -> None:
    chat = FakeChat(lambda text, _: text if text == "0" else Answer(reason="rejected", detail="too long"))
    replies = run(chat, *map(str, range(3 * GIVE_UP)))
    assert Counter(reply.reason for reply in replies) == {None: 1, "rejected": 3 * GIVE_UP - 1}


@pytest.mark.parametrize("error", [UserError("wrong key"), KeyboardInterrupt(), ZeroDivisionError()])
def test_an_error_ends_it_and_what_was_answered_is_kept(tmp_path: Path, error: BaseException) -> None:
    def answer(text: str, _: Question) -> str:
        if text == "20":
            raise error
        return text

    chat = FakeChat(answer, concurrency=3)
    with pytest.raises(type(error)):
        run(chat, *map(str, range(2000)), path=tmp_path / "c")
    assert chat.stopped.is_set()
    assert len(chat.asked) < 1000
    with KeptAnswers(tmp_path / "c") as cache:
        assert len(cache) == len(chat.asked) - 1


def test_texts_in_any_script_come_back_as_they_were(tmp_path: Path) -> None:
    texts = ["дом 日本語 عربي 😀", "a\u2028b\x00\x1b[2J\r\n", '"}\n{"key":"', ""]
    chat = FakeChat(lambda text, _: text)
    for _ in range(2):
        with KeptAnswers(tmp_path / "c") as cache:
            replies = ask_all(chat, [Inquiry(ask(text), str) for text in texts], cache)
        assert [reply.value for reply in replies] == texts
    assert len(chat.asked) == len(texts)


def test_a_question_with_half_a_character_has_a_key() -> None:
    assert len({ask(text).key("m") for text in ("\ud83d", "?", "\ud83e")}) == 3


def test_another_model_room_or_schema_is_another_question() -> None:
    one = ask("x")
    others = [one.key("n"), ask("x", 9).key("m"), Question(one.messages, 8, {"type": "object"}).key("m")]
    assert len({one.key("m"), *others}) == 4
    assert json.dumps(one.key("m")) == json.dumps(ask("x").key("m"))
