"""Questions side by side, and when to give up on whoever is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from threading import Lock
from typing import TypeVar

from forwhy.progress import Progress
from forwhy.text.chat.base import FINAL, STOPPED, Answer, Chat

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
