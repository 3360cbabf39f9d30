"""Reasons written together: requests wait in a bounded line, and whatever waits is written in one batch.

A batch of sixteen costs a model little more than one text, so that a busy service gets faster and no request waits for
a full batch. One thread writes for each run; models and tokenizers are used by it alone.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from forwhy.explain.evidence import Explanation
from forwhy.serve.runs import Asking, Loaded

log = logging.getLogger(__name__)


class Full(Exception):
    """The line is full; `seconds`: when to ask again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(eq=False)
class Question:
    """Why this person would want this item."""

    run: Loaded
    asking: Asking
    item: Mapping[str, Any]
    """`item` or `item_text`."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """`without` and `swap`, where there are such."""
    pieces: queue.SimpleQueue[str | None] | None = None
    """Where words go as they come, None at their end; None: the text is wanted whole."""
    until: float = float("inf")
    """When nobody waits for it any more, on the monotonic clock."""
    told: Future[Explanation] = field(default_factory=Future)

    @property
    def alone(self) -> bool:
        """Whether it can stand in no batch."""
        pair = self.asking.user is not None and "item" in self.item
        return not pair or bool(self.changes) or self.pieces is not None

    def words(self, limit: float) -> Iterator[str]:
        """The words as they come; ends where the text ends, or fails, or after so many seconds."""
        end = time.monotonic() + limit
        assert self.pieces is not None
        while time.monotonic() < end:
            try:
                piece = self.pieces.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                return
            if piece is None:
                return
            yield piece


class Writer:
    """Writes for one run."""

    def __init__(self, name: str, together: int = 16, waiting: int = 64) -> None:
        """`together`: most texts of a batch; `waiting`: most requests in line."""
        self._line: queue.Queue[Question | None] = queue.Queue(waiting)
        self.together, self._seconds = together, 1.0
        self._thread = threading.Thread(target=self._work, name=f"writer of {name}", daemon=True)
        self._thread.start()

    def ask(self, question: Question) -> Future[Explanation]:
        """Puts a question in line.

        Raises:
            Full: So many wait that this one would wait too long.
        """
        try:
            self._line.put_nowait(question)
        except queue.Full:
            batches = -(-self._line.maxsize // self.together)
            raise Full(max(1, round(batches * self._seconds))) from None
        return question.told

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return self._line.qsize()

    def stop(self, seconds: float = 10.0) -> None:
        """Ends after the batch that is being written; what still waits is refused."""
        while True:
            try:
                question = self._line.get_nowait()
            except queue.Empty:
                break
            if question is not None:
                question.told.cancel()
        self._line.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (first := self._line.get()) is not None:
            asked = [first, *self._more()]
            begun = time.monotonic()
            self._write([one for one in asked if self._wanted(one)])
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - begun)

    def _more(self) -> Iterator[Question]:
        """What else waits by now, as far as it fits a batch."""
        for _ in range(self.together - 1):
            try:
                question = self._line.get_nowait()
            except queue.Empty:
                return
            if question is None:  # it is over after this batch
                self._line.put(None)
                return
            yield question

    @staticmethod
    def _wanted(question: Question) -> bool:
        """Whether somebody still waits for it."""
        if question.until < time.monotonic():
            question.told.cancel()
        return question.told.set_running_or_notify_cancel()

    def _write(self, asked: Sequence[Question]) -> None:
        groups: dict[tuple[int, int], list[Question]] = {}
        for question in asked:
            key = (id(question.run), id(question) if question.alone else 0)
            groups.setdefault(key, []).append(question)
        for group in groups.values():
            try:
                told = [_streamed(group[0])] if group[0].pieces is not None else _together(group)
            except Exception as error:  # whoever asked is told, and the next are served
                log.warning("a reason could not be written: %s: %s", type(error).__name__, error)
                for question in group:
                    question.told.set_exception(error)
            else:
                for question, one in zip(group, told, strict=True):
                    question.told.set_result(one)
            for question in group:
                if question.pieces is not None:
                    question.pieces.put(None)


def _together(group: Sequence[Question]) -> list[Explanation]:
    """The reasons of questions about one run; one alone is asked as it is."""
    first = group[0]
    if first.alone:
        reasoner = first.run.reasoner(first.asking, first.item.get("item"))
        return [reasoner.explain(**first.asking.who(), **first.item, **first.changes)]
    items, users = zip(*((one.item["item"], one.asking.user) for one in group), strict=True)
    return first.run.opened.reasons(items, users)


def _streamed(question: Question) -> Explanation:
    """One reason, whose words go out as they come."""
    reasoner = question.run.reasoner(question.asking, question.item.get("item"))
    host, who = reasoner.introduced(**question.asking.who(), **question.item)
    if question.changes or not hasattr(host, "unsaid"):
        told: Explanation = host.explain(**who, **question.changes)
        assert question.pieces is not None
        question.pieces.put(told.text)
        return told
    said = []
    for piece in host.stream(**who):
        assert question.pieces is not None
        if question.told.cancelled() or question.until < time.monotonic():
            break
        said.append(piece)
        question.pieces.put(piece)
    found: Explanation = host.unsaid(**who, said="".join(said))
    return found
