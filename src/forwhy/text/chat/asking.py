"""Many questions to one model: each asked once, wrong answers asked again, every answer kept as it comes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock
from typing import Generic, TypeVar

from forwhy.errors import NoAnswer
from forwhy.progress import Progress
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.base import FINAL, STOPPED, Answer, Chat, ChatConfig, Question, Reason, Tally

log = logging.getLogger(__name__)
T = TypeVar("T")

GIVE_UP = 10
"""Questions in a row without any answer after which the server, not the questions, is at fault."""
DOUBLINGS = 2
"""Times that an answer cut short is asked for again with twice the tokens."""
_AHEAD = 4
"""Questions in the pool for each one under way: millions of them at once would take gigabytes."""
_COMPLAINT = 300  # most characters of a complaint that are repeated
_AGAIN = "An answer you gave before was not accepted: {}. Answer again, in exactly the form asked for."


Cost = Callable[[Tally], float | None] | None
"""`ChatConfig.cost`, where prices are known."""


class Malformed(ValueError):
    """A reply that does not fit; its message says what is wrong and is told to the model when it is asked again."""


@dataclass(frozen=True)
class Repaired(Generic[T]):
    """What `Inquiry.parse` gives instead of the value where the reply was broken in form only."""

    value: T


@dataclass(frozen=True)
class Inquiry(Generic[T]):
    """A question, and how its answer is read."""

    question: Question
    parse: Callable[[str], T | Repaired[T]]
    """Reads the value out of an answer, or raises `Malformed`; equal answers give equal values."""
    reminder: str = ""
    """Ends the question when it is asked again; empty: it ends with what was wrong with the answers before."""


Wanted = Sequence[Inquiry[T]]


@dataclass(frozen=True)
class Reply(Generic[T]):
    """How an inquiry ended."""

    value: T | None
    reason: Reason | None
    """None: there is a value."""
    cached: bool = False
    """Whether nothing was asked: all its answers were kept ones."""
    asks: int = 1
    """Answers it took, kept ones included."""
    repaired: bool = False
    """Whether the answer was broken in form and mended."""


@dataclass(frozen=True)
class Asked:
    """What asking came to."""

    tasks: int
    """Replies wanted; those of equal questions count one by one."""
    cached: int
    """Different questions of which nothing had to be asked."""
    asked: int
    """Different questions of which something was asked."""
    answered: int
    """Different questions with a value."""
    repaired: int
    """Different questions with a value whose answer was mended."""
    asked_again: int
    """Answers beyond the first of a question: malformed or cut short before; kept ones included."""
    failed: dict[str, int]
    """Reason -> different questions without a value."""
    used: Tally
    """Bought by this call."""
    kept: Tally
    """What the answers that were found kept took when they were bought."""
    cost: float | None
    """Of `used`, where prices are known."""

    def __str__(self) -> str:
        parts = [f"{self.answered} of {self.cached + self.asked} questions answered"]
        parts += [f"{self.cached} of them kept ones"] if self.cached else []
        counts = {"repaired": self.repaired, "asked again": self.asked_again, **self.failed}
        parts += [f"{name} {count}" for name, count in counts.items() if count]
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        return f"{', '.join(parts)}; {self.used}{cost}"


Course = Generator[Question, Answer, Reply[T]]
"""Yields what is asked next, is sent the answer to it, and returns the reply in the end."""


class Replies(list[Reply[T]]):
    """Replies in the order of their inquiries, with the account of how they were had."""

    def __init__(self, replies: Iterable[Reply[T]], asked: Asked) -> None:
        super().__init__(replies)
        self.asked = asked


def ask_all(
    chat: Chat, tasks: Wanted[T], kept: KeptAnswers, asks: int = 3, title: str = "asking", cost: Cost = None
) -> Replies[T]:
    """A reply for every inquiry, in their order; equal questions are asked once.

    Every final answer is kept before the next is asked for, also one of the wrong form: a second run asks nothing twice
    and goes on with its re-asks. An answer of the wrong form is asked for again with what was wrong with it, `asks`
    answers in all; one cut short with twice the tokens, twice at most. Equal questions must have equal parsers. Takes
    `chat.concurrency` threads; a kill loses the answers under way. A UserError ends it where no question can succeed,
    after `GIVE_UP` questions in a row without an answer, and on a full disk.
    """
    run = Inquiries(chat.model, tasks, kept, asks)
    run.ask(chat, title)
    replies = run.replies(cost)
    if "budget" in replies.asked.failed:
        log.warning("%s: the budget is spent; %d questions are left", title, replies.asked.failed["budget"])
    log.info("%s: %s", title, replies.asked)
    return replies


def _course(inquiry: Inquiry[T], asks: int) -> Course[T]:
    complaints: list[str] = []
    doublings = answers = 0
    while True:
        answer = yield _asked_again(inquiry, complaints, doublings)
        answers += 1
        if answer.reason == "truncated" and doublings < DOUBLINGS:
            doublings += 1
            continue
        if answer.reason is not None:
            # A server without room for a longer answer does not undo what is known: the first was cut short.
            cut = answer.reason == "rejected" and doublings > 0
            return Reply(None, "truncated" if cut else answer.reason, asks=answers)
        try:
            value = inquiry.parse(answer.text)
        except Malformed as error:
            complaints.append(" ".join(str(error).split())[:_COMPLAINT])
            if len(complaints) >= asks:
                return Reply(None, "malformed", asks=answers)
            continue
        if isinstance(value, Repaired):
            return Reply(value.value, None, asks=answers, repaired=True)
        return Reply(value, None, asks=answers)


def _asked_again(inquiry: Inquiry[T], complaints: Sequence[str], doublings: int) -> Question:
    """The inquiry's question, with room for a longer answer and what was wrong with those before."""
    own = inquiry.question
    if not complaints and not doublings:
        return own
    said = [_AGAIN.format(complaint) for complaint in complaints]
    if inquiry.reminder:
        said = [inquiry.reminder] if complaints else []
    *before, last = own.messages
    messages = (*before, replace(last, content="\n\n".join([last.content, *said])))
    identity = own.identity and (*own.identity, f"{len(complaints)} {doublings}")
    return replace(own, messages=messages, max_tokens=own.max_tokens << doublings, identity=identity)


class Inquiries(Generic[T]):
    """Inquiries to one model. What kept answers settle is settled when this is made; `ask` does the rest.

    Those with equal questions are one, for which `asks` answers are read at most; errors call the model `who`.
    """

    def __init__(
        self, model: str, inquiries: Wanted[T], kept: KeptAnswers, asks: int, who: str = ChatConfig.who
    ) -> None:
        self._model, self._kept, self._who = model, kept, who
        self._counting, self._silence, self._heard = Lock(), 0, False
        self._keys = [inquiry.question.key(model) for inquiry in inquiries]
        self._found: dict[str, Reply[T]] = {}
        self._left: dict[str, tuple[Question, Course[T]]] = {}
        self.used, self.kept = Tally(), Tally()
        """Bought, and found among the kept answers."""
        self.detail = ""
        """What the server or the network said last, where there was no text."""
        for key, inquiry in dict(zip(self._keys, inquiries, strict=True)).items():
            course = _course(inquiry, asks)
            self._follow(key, next(course), course)

    @property
    def left(self) -> list[Question]:
        """What is asked next of each inquiry that is not settled."""
        return [question for question, _ in self._left.values()]

    def ask(self, chat: Chat, title: str) -> None:
        """Ask what is left, `chat.concurrency` questions side by side; refused as by `ask_all`.

        An error or Ctrl-C stops the chat; what is under way is paid for, so it is waited for.
        """
        with Progress(title, len(self._left)) as progress, ThreadPoolExecutor(chat.concurrency) as pool:
            left = iter(self._left.items())
            running: set[Future[None]] = set()
            try:
                while True:
                    for key, (question, course) in islice(left, _AHEAD * chat.concurrency - len(running)):
                        running.add(pool.submit(self._follow, key, question, course, chat))
                    if not running:
                        break
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                        progress.advance(note=str(self.used))
            except BaseException:
                chat.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._left = {}

    def replies(self, cost: Cost = None) -> Replies[T]:
        """One for every inquiry, in their order."""
        found = self._found.values()
        cached = sum(reply.cached for reply in found)
        asked = Asked(
            tasks=len(self._keys),
            cached=cached,
            asked=len(found) - cached,
            answered=sum(reply.reason is None for reply in found),
            repaired=sum(reply.repaired for reply in found),
            asked_again=sum(reply.asks - 1 for reply in found),
            failed=dict(sorted(Counter(reply.reason for reply in found if reply.reason).items())),
            used=self.used,
            kept=self.kept,
            cost=None if cost is None else cost(self.used),
        )
        return Replies([self._found[key] for key in self._keys], asked)

    def _follow(self, key: str, question: Question, course: Course[T], chat: Chat | None = None) -> None:
        """To the reply, through as many answers as it takes; without a chat through the kept ones only."""
        asked = False
        try:
            while True:
                answer = self._kept.get(question.key(self._model))
                if answer is not None:
                    with self._counting:
                        self.kept += answer.used
                elif chat is None:
                    self._left[key] = question, course
                    return
                else:
                    answer, bought = self._ask(chat, question)
                    asked = asked or bought
                question = course.send(answer)
        except StopIteration as ended:
            self._found[key] = replace(ended.value, cached=not asked)
        except BaseException:
            if chat is not None:
                chat.stop()
            raise

    def _ask(self, chat: Chat, question: Question) -> tuple[Answer, bool]:
        """The model's answer, kept; or one that another process has got meanwhile, and False."""
        key = question.key(self._model)
        with self._kept.alone(key):
            kept = self._kept.get(key)
            if kept is None:
                start = time.monotonic()
                answer = chat.ask(question)
                self._kept.add(key, self._model, answer, time.monotonic() - start)
        with self._counting:
            if kept is not None:
                self.kept += kept.used
                return kept, False
            self.used += answer.used
            if not self._is_over(answer):
                return answer, True
        place = f"; answers so far are kept in {self._kept.path}" if self._kept.path else ""
        wrong = f"no answer to {GIVE_UP} questions in a row ({self.detail})"
        raise NoAnswer(f"{self._who} {self._model!r}: {wrong}; see to it and run again{place}")

    def _is_over(self, answer: Answer) -> bool:
        """Whether the server is at fault. Some rejected questions do not end it, once it has spoken."""
        if answer.detail == STOPPED:
            return False
        self.detail = answer.detail or self.detail
        if answer.reason in FINAL:
            self._heard, self._silence = True, 0
        elif answer.reason != "budget" and not (answer.reason == "rejected" and self._heard):
            self._silence += 1
        return self._silence >= GIVE_UP
