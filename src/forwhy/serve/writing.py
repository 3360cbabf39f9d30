"""Reasons written side by side: requests wait in a bounded line, and a slot that gets free is filled at once.

A step for sixteen texts costs a model little more than a step for one, so that a busy service gets faster and nobody
waits for others to end. One thread writes for each run; its model and tokenizer are used by that thread alone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from forwhy.explain.asking import Explains, Question
from forwhy.explain.evidence import Explanation

log = logging.getLogger(__name__)
_DRAINED = 1_000
"""Texts after which what is being written ends before more begins: the tokens of all are held until then."""


@dataclass(eq=False)
class Full(Exception):
    """The line is full."""

    seconds: int
    """When to ask again."""


@dataclass(eq=False)
class Waiting(Question):
    """A question with who answers it, and where its answer goes."""

    reasoner: Explains = field(kw_only=True)
    until: float = float("inf")
    """When nobody waits for it any more, on the monotonic clock."""
    told: Future[Explanation] = field(default_factory=Future)
    heard: Callable[[str | None], object] = field(default=lambda _: None)
    """Gets the words of a watched one as they come, and None at their end, in the thread that writes."""
    begun: float = 0.0
    """When writing began."""
    said: int = 0
    """Letters of the text that went out."""

    late: bool = False
    """Whether who asked was answered otherwise; it is written to its end and kept, for when it is asked again."""

    def leave(self) -> None:
        """Nobody waits for it any more."""
        if not self.late:
            self.dropped = True
            self.told.cancel()

    def say(self, text: str) -> None:
        """Tells what is new in a text that grows."""
        if len(text) > self.said:
            self.heard(text[self.said :])
            self.said = len(text)

    def end(self, answer: Explanation | Exception) -> None:
        """Tells the answer to whoever still waits."""
        if self.told.set_running_or_notify_cancel():
            if isinstance(answer, Explanation):
                self.say(answer.text)
                self.told.set_result(answer)
            else:
                self.told.set_exception(answer)
        self.heard(None)


class Writer:
    """Writes for one run."""

    def __init__(self, name: str, together: int = 16, waiting: int = 64) -> None:
        """`together`: texts that are written side by side; `waiting`: most requests in line."""
        self._line: queue.Queue[Waiting | None] = queue.Queue(waiting)
        self.together, self._seconds = together, 1.0  # that a text takes
        self._next: Waiting | None = None
        """The first of the line that another explainer answers than the one that is writing."""
        self._open: set[Waiting] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=f"writer of {name}", daemon=True)
        self._thread.start()

    def ask(self, question: Waiting) -> Waiting:
        """Puts a question in line; Full where so many wait that this one would wait too long."""
        try:
            self._line.put_nowait(question)
        except queue.Full:
            raise Full(max(1, round(self._line.maxsize * self._seconds / self.together))) from None
        return question

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return self._line.qsize()

    def stop(self, seconds: float = 10.0) -> None:
        """Ends at the next token; what waits or is being written is left."""
        self._stopped = True
        for question in [*iter(self._now, None), *list(self._open)]:
            question.late = False
            question.leave()
        self._line.put(None)
        self._thread.join(seconds)

    def _now(self) -> Waiting | None:
        """The next of the line; None where nobody waits at this moment."""
        try:
            return self._line.get_nowait()
        except queue.Empty:
            return None

    def _work(self) -> None:
        while not self._stopped:
            self._next = self._next or self._line.get()
            if self._next is not None:
                self._write(self._next.reasoner)

    def _write(self, reasoner: Explains) -> None:
        """Answers what one explainer is asked, until nobody asks it."""
        failed: Exception = RuntimeError("nothing was written")
        try:
            for question, answer in reasoner.flow(self._asked(reasoner), self.together):
                assert isinstance(question, Waiting)
                if isinstance(answer, str):
                    question.say(answer)
                    continue
                self._open.discard(question)
                question.end(answer)
                self._seconds += 0.1 * (time.monotonic() - question.begun - self._seconds)
        except Exception as error:  # whoever asked is told, and the next are served
            log.warning("reasons could not be written: %s: %s", type(error).__name__, error)
            failed = error
        for question in self._open:
            question.end(failed)
        self._open.clear()

    def _asked(self, reasoner: Explains) -> Iterator[Waiting | None]:
        """What stands in line for this explainer; None where nothing does at this moment."""
        given = 0
        while given < _DRAINED:
            question, self._next = self._next or self._now(), None
            while question is not None and (question.dropped or question.until < time.monotonic()):
                question.end(TimeoutError("late"))
                question = self._now()
            if question is not None and question.reasoner is not reasoner:
                self._next = question
                return
            if question is not None:
                given, question.begun = given + 1, time.monotonic()
                self._open.add(question)
            yield question
