"""Many questions to one model: each asked once, wrong answers asked again, every answer kept as it comes."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import islice
from threading import Lock
from typing import Generic, TypeVar

from forwhy.errors import UserError
from forwhy.progress import Progress
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.base import FINAL, STOPPED, Answer, Chat, ChatConfig, Prices, Question, Reason, Tally

log = logging.getLogger(__name__)

T = TypeVar("T")

GIVE_UP = 10
"""Questions in a row without any answer after which the server, not the questions, is at fault."""
DOUBLINGS = 2
"""Times that an answer cut short is asked for again with twice the tokens."""
_AHEAD = 4
"""Questions in the pool for each one under way: millions of them at once would take gigabytes."""
_COMPLAINT = 300
"""Most characters of a complaint that are repeated."""
_AGAIN = "An answer you gave before was not accepted: {}. Answer again, in exactly the form asked for."


class Malformed(ValueError):
    """A reply that does not fit; its message says what is wrong and stands in the next ask."""


@dataclass(frozen=True)
class Repaired(Generic[T]):
    """What `Inquiry.parse` gives instead of the value where the reply was broken in form only."""

    value: T


@dataclass(frozen=True)
class Inquiry(Generic[T]):
    """A question, and how its answer is read."""

    question: Question
    parse: Callable[[str], T | Repaired[T]]
    """The value that a text stands for; the same for equal texts.

    Raises:
        Malformed: it stands for none.
    """
    reminder: str = ""
    """Ends the question when it is asked again; empty: what was wrong with the answers before does."""


@dataclass(frozen=True)
class Reply(Generic[T]):
    """How an inquiry ended."""

    value: T | None
    reason: Reason | None
    """None: there is a value."""
    cached: bool = False
    """Whether nothing was asked for it: all its answers were kept ones."""
    asks: int = 1
    """Answers it took, kept ones included."""
    repaired: bool = False
    """Whether the answer was broken in form and mended."""


@dataclass
class Asked:
    """What asking came to."""

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
        cost = "" if self.cost is None else f", cost {self.cost:.4f}"
        return f"{', '.join(parts)}; {self.used}{cost}"


class Replies(list[Reply[T]]):
    """Replies in the order of their inquiries, with the account of how they were had."""

    def __init__(self, replies: Iterable[Reply[T]], asked: Asked) -> None:
        super().__init__(replies)
        self.asked = asked


def ask_all(
    chat: Chat,
    inquiries: Sequence[Inquiry[T]],
    kept: KeptAnswers,
    asks: int = 3,
    title: str = "asking",
    prices: Prices | None = None,
) -> Replies[T]:
    """A reply for every inquiry, in their order; equal questions are asked once.

    Every final answer is kept before the next is asked for, also one of the wrong form: a second run asks
    nothing twice and goes on with its re-asks. An answer of the wrong form is asked for again with what was
    wrong with it, `asks` answers in all; one cut short with twice the tokens, twice at most.
    Cost: `chat.concurrency` threads; a killed process loses the answers under way.

    Args:
        chat: Who is asked.
        inquiries: What; equal questions must have equal parsers.
        kept: Open; see `KeptAnswers`.
        asks: Answers read for one question until one has a value.
        title: Of the progress bar.
        prices: For the cost in `Replies.asked`.

    Raises:
        UserError: no question can succeed, no answer for `GIVE_UP` questions in a row, or a full disk;
            answers so far are kept.
    """
    run = Inquiries(chat.model, inquiries, kept, asks)
    run.ask(chat, title)
    replies = run.replies(prices)
    if "budget" in replies.asked.failed:
        log.warning("%s: the budget is spent; %d questions are left", title, replies.asked.failed["budget"])
    log.info("%s: %s", title, replies.asked)
    return replies


@dataclass
class _Course(Generic[T]):
    """An inquiry under way: what became of it so far, and so what is asked next."""

    inquiry: Inquiry[T]
    complaints: list[str] = field(default_factory=list)
    doublings: int = 0
    answers: int = 0
    asked: bool = False

    def question(self) -> Question:
        """The inquiry's own, with room for a longer answer and what was wrong with those before."""
        own, reminder = self.inquiry.question, self.inquiry.reminder
        if not self.complaints and not self.doublings:
            return own
        said = [reminder] if reminder else [_AGAIN.format(complaint) for complaint in self.complaints]
        *before, last = own.messages
        again = "".join(f"\n\n{one}" for one in said if self.complaints)
        return replace(
            own,
            messages=(*before, replace(last, content=last.content + again)),
            max_tokens=own.max_tokens << self.doublings,
            identity=own.identity and (*own.identity, f"{len(self.complaints)} {self.doublings}"),
        )

    def take(self, answer: Answer, asks: int) -> Reply[T] | None:
        """The reply that an answer ends the inquiry with; None: it is asked again, as `question` now says."""
        self.answers += 1
        if answer.reason == "truncated" and self.doublings < DOUBLINGS:
            self.doublings += 1
            return None
        if answer.reason is not None:
            # A server without room for a longer answer does not undo what is known: the first was cut short.
            cut = answer.reason == "rejected" and self.doublings > 0
            return self._ended(None, "truncated" if cut else answer.reason)
        try:
            value = self.inquiry.parse(answer.text)
        except Malformed as error:
            self.complaints.append(" ".join(str(error).split())[:_COMPLAINT])
            return self._ended(None, "malformed") if len(self.complaints) >= asks else None
        if isinstance(value, Repaired):
            return replace(self._ended(value.value, None), repaired=True)
        return self._ended(value, None)

    def _ended(self, value: T | None, reason: Reason | None) -> Reply[T]:
        return Reply(value, reason, cached=not self.asked, asks=self.answers)


class Inquiries(Generic[T]):
    """Inquiries to one model. What kept answers settle is settled when this is made; `ask` does the rest.

    Args:
        model: Whose answers count.
        inquiries: Those with equal questions are one.
        kept: Where answers are looked for and kept; open.
        asks: Answers read for one question until one has a value.
        who: What errors call the model.
    """

    def __init__(
        self,
        model: str,
        inquiries: Sequence[Inquiry[T]],
        kept: KeptAnswers,
        asks: int,
        who: str = ChatConfig.who,
    ) -> None:
        self._model, self._kept, self._asks, self._who = model, kept, asks, who
        self._counting, self._silence, self._heard = Lock(), 0, False
        self._keys = [inquiry.question.key(model) for inquiry in inquiries]
        self._found: dict[str, Reply[T]] = {}
        self._left: dict[str, _Course[T]] = {}
        self.used, self.kept = Tally(), Tally()
        """Bought, and found among the kept answers."""
        self.detail = ""
        """What the server or the network said last, where there was no text."""
        for key, inquiry in dict(zip(self._keys, inquiries, strict=True)).items():
            course = _Course(inquiry)
            reply = self._followed(course)
            if reply is None:
                self._left[key] = course
            else:
                self._found[key] = reply

    @property
    def left(self) -> list[Question]:
        """What is asked next of each inquiry that is not settled."""
        return [course.question() for course in self._left.values()]

    def ask(self, chat: Chat, title: str) -> None:
        """Ask what is left, `chat.concurrency` questions side by side.

        An error or Ctrl-C stops the chat; what is under way is paid for, so it is waited for.

        Raises:
            UserError: as `ask_all`.
        """
        with Progress(title, len(self._left)) as progress, ThreadPoolExecutor(chat.concurrency) as pool:
            left = iter(self._left.items())
            running: dict[Future[Reply[T] | None], str] = {}
            try:
                while True:
                    for key, course in islice(left, _AHEAD * chat.concurrency - len(running)):
                        running[pool.submit(self._followed, course, chat)] = key
                    if not running:
                        break
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        key, reply = running.pop(future), future.result()
                        if reply is not None:
                            self._found[key] = reply
                        progress.advance(note=str(self.used))
            except BaseException:
                chat.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._left = {}

    def replies(self, prices: Prices | None = None) -> Replies[T]:
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
            cost=None if prices is None else prices.cost(self.used),
        )
        return Replies([self._found[key] for key in self._keys], asked)

    def _followed(self, course: _Course[T], chat: Chat | None = None) -> Reply[T] | None:
        """The reply, after as many answers as it takes; without a chat None where one has to be asked for."""
        while True:
            question = course.question()
            key = question.key(self._model)
            answer = self._kept.get(key)
            if answer is not None:
                self._counted(kept=answer.used)
            elif chat is None:
                return None
            else:
                answer = self._asked(chat, course, key, question)
            reply = course.take(answer, self._asks)
            if reply is not None:
                return reply

    def _asked(self, chat: Chat, course: _Course[T], key: str, question: Question) -> Answer:
        """The model's answer, kept; or that which another process has got meanwhile."""
        with self._kept.alone(key):
            kept = self._kept.get(key)
            if kept is not None:
                self._counted(kept=kept.used)
                return kept
            start = time.monotonic()
            answer = chat.ask(question)
            self._kept.add(key, self._model, answer, time.monotonic() - start)
        course.asked = True
        self._counted(used=answer.used)
        with self._counting:
            over = self._is_over(answer)
        if over:
            place = f"; answers so far are kept in {self._kept.path}" if self._kept.path else ""
            raise UserError(
                f"{self._who} {self._model!r}: no answer to {GIVE_UP} questions in a row ({self.detail}); see to it "
                f"and run again{place}"
            )
        return answer

    def _counted(self, used: Tally = Tally(), kept: Tally = Tally()) -> None:  # noqa: B008 - frozen
        with self._counting:
            self.used, self.kept = self.used + used, self.kept + kept

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
