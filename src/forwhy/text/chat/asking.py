"""Questions side by side, and when to give up on whoever is asked."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Lock
from typing import Generic, Literal, TypeVar

from forwhy.errors import UserError
from forwhy.progress import Progress
from forwhy.text.chat.base import FINAL, STOPPED, Answer, Chat, Prices, Question, Reason, Tally
from forwhy.text.chat.cache import ReplyCache

J = TypeVar("J")
R = TypeVar("R")

GIVE_UP = 10
"""Questions in a row without any answer after which the server, not the questions, is at fault."""
_AHEAD = 4
"""Questions in the pool for each one under way: millions of them at once would take gigabytes."""


class Patience:
    """Notices a server that is silent for question after question; safe from several threads."""

    def __init__(self) -> None:
        self._heard, self._silence, self._counting = False, 0, Lock()
        self.detail = ""
        """What the server or the network said last, where there was no text."""

    def ends(self, answer: Answer) -> bool:
        """Whether, with this answer, it is over. Some rejected questions do not end it, once it has spoken."""
        with self._counting:
            if answer.detail == STOPPED:
                return False
            self.detail = answer.detail or self.detail
            self._heard = self._heard or answer.reason in FINAL
            if answer.reason in FINAL:
                self._silence = 0
            elif answer.reason != "budget" and not (answer.reason == "rejected" and self._heard):
                self._silence += 1
            return self._silence >= GIVE_UP


def each(
    chat: Chat,
    jobs: Mapping[str, J],
    do: Callable[[J], R],
    done: Callable[[str, R], None],
    title: str,
    note: Callable[[], str],
) -> None:
    """`done(key, do(job))` for every job, `chat.concurrency` of them side by side, as they end.

    An error or Ctrl-C stops the chat; what is under way is paid for, so it is waited for.

    Args:
        chat: Who is asked; stopped when it has to end early.
        jobs: By key, begun in this order.
        do: Called in threads.
        done: Called in this thread.
        title: Of the progress bar.
        note: What stands beside the bar.
    """

    def guarded(job: J) -> R:
        try:
            return do(job)
        except BaseException:
            chat.stop()
            raise

    with Progress(title, len(jobs)) as progress, ThreadPoolExecutor(chat.concurrency) as pool:
        left = iter(jobs.items())
        running: dict[Future[R], str] = {}
        try:
            while True:
                for key, job in islice(left, _AHEAD * chat.concurrency - len(running)):
                    running[pool.submit(guarded, job)] = key
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done(running.pop(future), future.result())
                    progress.advance(note=note())
        except BaseException:
            chat.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


# --- Many questions to one model: each asked once, wrong answers asked again, every answer kept as it comes.


log = logging.getLogger(__name__)

T = TypeVar("T")

Failure = Reason | Literal["malformed"]
DOUBLINGS = 2
"""Times that an answer cut short is asked for again with twice the tokens."""
_COMPLAINT = 300
"""Most characters of a complaint that are repeated."""
_AGAIN = "An answer you gave before was not accepted: {}. Answer again, in exactly the form asked for."


class Malformed(ValueError):
    """A reply that does not fit; its message says what is wrong and stands in the next ask."""


@dataclass(frozen=True)
class Repaired(Generic[T]):
    """What `Task.parse` gives instead of the value where the reply was broken in form only."""

    value: T


@dataclass(frozen=True)
class Task(Generic[T]):
    """A question, and how its answer is read."""

    question: Question
    parse: Callable[[str], T | Repaired[T]]
    """The value that a text stands for; the same for equal texts.

    Raises:
        Malformed: it stands for none.
    """


@dataclass(frozen=True)
class Reply(Generic[T]):
    """How a task ended."""

    value: T | None
    reason: Failure | None
    """None: there is a value. `malformed`: no answer had the form asked for."""
    key: str
    """`Question.key` of the question whose answer this is (the task's own, or that of its last re-ask)."""
    cached: bool = False
    """Whether nothing was asked for it: all its answers were kept ones."""
    asks: int = 1
    """Answers it took, kept ones included."""
    repaired: bool = False
    """Whether the answer was broken in form and mended."""


@dataclass
class Asked:
    """What a call of `ask_all` came to."""

    tasks: int = 0
    """Replies wanted; those of equal questions count one by one."""
    cached: int = 0
    """Different questions of which nothing had to be asked."""
    asked: int = 0
    """Different questions of which something was asked."""
    answered: int = 0
    """Different questions with a value."""
    repaired: int = 0
    """Those of them whose answer was mended."""
    asked_again: int = 0
    """Answers beyond the first of a question: malformed or cut short before; kept ones included."""
    failed: dict[str, int] = field(default_factory=dict)
    """Reason -> different questions without a value."""
    used: Tally = Tally()
    """Bought by this call."""
    kept: Tally = Tally()
    """What the answers that it found took when they were bought."""
    cost: float | None = None
    """Of `used`, where prices are known."""

    def __str__(self) -> str:
        """One line for a reader."""
        parts = [f"{self.answered} of {self.cached + self.asked} questions answered"]
        parts += [f"{self.cached} of them kept ones"] if self.cached else []
        counts = {"repaired": self.repaired, "asked again": self.asked_again, **self.failed}
        parts += [f"{name} {count}" for name, count in counts.items() if count]
        used = f"{self.used.calls} calls, {self.used.input_tokens} + {self.used.output_tokens} tokens"
        return f"{', '.join(parts)}; {used}" + ("" if self.cost is None else f", cost {self.cost:.4f}")


class Replies(list[Reply[T]]):
    """Replies in the order of their tasks, with the account of how they were had."""

    def __init__(self, replies: Iterable[Reply[T]], asked: Asked) -> None:
        super().__init__(replies)
        self.asked = asked


def ask_all(
    chat: Chat,
    tasks: Sequence[Task[T]],
    cache: ReplyCache,
    asks: int = 3,
    title: str = "asking",
    prices: Prices | None = None,
) -> Replies[T]:
    """A reply for every task, in their order; equal questions are asked once.

    Every final answer is in the cache before the next is asked for, also one of the wrong form: a second
    run asks nothing twice and goes on with its re-asks. An answer of the wrong form is asked for again with
    what was wrong with it, `asks` answers in all; one cut short with twice the tokens, twice at most.
    Cost: `chat.concurrency` threads; a killed process loses the answers under way.

    Args:
        chat: Who is asked.
        tasks: What; equal questions must have equal parsers.
        cache: Open; see `ReplyCache`.
        asks: Answers read for one question until one has a value.
        title: Of the progress bar.
        prices: For the cost in `Replies.asked`.

    Raises:
        UserError: no question can succeed, no answer for `GIVE_UP` questions in a row, or a full disk;
            answers so far are kept.
    """
    run: Run[T] = Run(chat, cache, asks)
    keys = [task.question.key(chat.model) for task in tasks]
    found: dict[str, Reply[T]] = {}
    each(chat, distinct(keys, tasks), run.settle, found.__setitem__, title, run.note)
    asked = _account(found.values(), run)
    asked.tasks, asked.cost = len(tasks), None if prices is None else prices.cost(run.used)
    if "budget" in asked.failed:
        log.warning("%s: the budget is spent; %d questions are left", title, asked.failed["budget"])
    log.info("%s: %s", title, asked)
    return Replies([found[key] for key in keys], asked)


def distinct(keys: Iterable[str], tasks: Iterable[Task[T]]) -> dict[str, Task[T]]:
    """Key -> the first task with it."""
    jobs: dict[str, Task[T]] = {}
    for key, task in zip(keys, tasks, strict=True):
        jobs.setdefault(key, task)
    return jobs


def _account(replies: Collection[Reply[T]], run: Run[T]) -> Asked:
    cached = sum(reply.cached for reply in replies)
    return Asked(
        cached=cached,
        asked=len(replies) - cached,
        answered=sum(reply.reason is None for reply in replies),
        repaired=sum(reply.repaired for reply in replies),
        asked_again=sum(reply.asks - 1 for reply in replies),
        failed=dict(sorted(Counter(str(reply.reason) for reply in replies if reply.reason).items())),
        used=run.used,
        kept=run.kept,
    )


@dataclass
class _Course:
    """What became of a question so far, and so what is asked next."""

    task: Question
    complaints: list[str] = field(default_factory=list)
    doublings: int = 0

    def question(self) -> Question:
        """The task's own, with room for a longer answer and what was wrong with those before."""
        *before, last = self.task.messages
        again = "".join(f"\n\n{_AGAIN.format(complaint)}" for complaint in self.complaints)
        messages = (*before, replace(last, content=last.content + again))
        return replace(self.task, messages=messages, max_tokens=self.task.max_tokens << self.doublings)


class Run(Generic[T]):
    """Settles tasks one by one, from the cache where it can; safe from several threads."""

    def __init__(self, chat: Chat, cache: ReplyCache, asks: int) -> None:
        self._chat, self._cache, self._asks = chat, cache, asks
        self._patience, self._counting = Patience(), Lock()
        self.used, self.kept = Tally(), Tally()
        """Bought, and found in the cache."""

    def note(self) -> str:
        """What was bought so far, for a progress bar."""
        return f"{self.used.calls} calls, {self.used.input_tokens} + {self.used.output_tokens} tokens"

    def settle(self, task: Task[T]) -> Reply[T]:
        """One task's reply, after as many answers as it takes.

        Raises:
            UserError: the model cannot be asked any more.
        """
        course, cached, count = _Course(task.question), True, 0
        while True:
            question = course.question()
            key = question.key(self._chat.model)
            answer, was_kept = self._answer(key, question)
            cached, count = cached and was_kept, count + 1
            reply = self._read(task, course, key, answer)
            if reply is not None:
                return replace(reply, cached=cached, asks=count)

    def _read(self, task: Task[T], course: _Course, key: str, answer: Answer) -> Reply[T] | None:
        """The reply that an answer ends the task with; None: it is asked again, as `course` now says."""
        if answer.reason == "truncated" and course.doublings < DOUBLINGS:
            course.doublings += 1
            return None
        if answer.reason is not None:
            # A server without room for a longer answer does not undo what is known: the first was cut short.
            cut = answer.reason == "rejected" and course.doublings > 0
            return Reply(None, "truncated" if cut else answer.reason, key)
        try:
            value = task.parse(answer.text)
        except Malformed as error:
            course.complaints.append(" ".join(str(error).split())[:_COMPLAINT])
            return Reply(None, "malformed", key) if len(course.complaints) >= self._asks else None
        if isinstance(value, Repaired):
            return Reply(value.value, None, key, repaired=True)
        return Reply(value, None, key)

    def _answer(self, key: str, question: Question) -> tuple[Answer, bool]:
        """The answer, and whether it was a kept one."""
        kept = self._cache.get(key)
        if kept is not None:
            with self._counting:
                self.kept += kept.used
            return kept, True
        start = time.monotonic()
        answer = self._chat.ask(question)
        self._cache.add(key, self._chat.model, answer, time.monotonic() - start)
        with self._counting:
            self.used += answer.used
        if self._patience.ends(answer):
            raise UserError(f"LLM {self._chat.model!r}: {self._given_up()}")
        return answer, False

    def _given_up(self) -> str:
        kept = f"; answers so far are kept in {self._cache.path}" if self._cache.path else ""
        return f"no answer to {GIVE_UP} questions in a row ({self._patience.detail}); see to it and run again{kept}"
