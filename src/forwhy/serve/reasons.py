"""Reasons over HTTP: kept ones, new ones whole or as a stream, plain ones where no model is in time."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from starlette.concurrency import run_in_threadpool

from forwhy.errors import UserError
from forwhy.explain.asking import AskedWho
from forwhy.explain.evidence import Explanation
from forwhy.serve.database import Database
from forwhy.serve.guard import problem
from forwhy.serve.runs import Asking, Loaded
from forwhy.serve.writing import Waiting, Writer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Why:
    """Why somebody would want something, as a run is asked."""

    run: Loaded
    asking: Asking
    item: Mapping[str, Any]
    """`item` or `item_text`."""
    changes: Mapping[str, Any]
    """`without` and `swap`, where there are such."""
    key: str = ""
    """Under what the answer is kept."""
    user: str | None = None
    """Whose answer it is, so that it goes when they are forgotten."""

    def asked(self) -> AskedWho:
        """As an explainer is asked."""
        return cast("AskedWho", {**self.asking.who(), **self.item, **self.changes})


@dataclass(frozen=True, eq=False)
class Reasons:
    """Who says why: a writer for each run, and the database, which keeps what was said."""

    database: Database
    writers: Mapping[str, Writer]
    seconds: float
    """Waited for a model's sentence before a plain one is given."""
    named: Callable[[str, dict[str, Any]], dict[str, Any]]
    """Gives words their names."""

    async def whole(self, why: Why) -> dict[str, Any]:
        """A reason, whole: a kept one, a new one, or a plain one where no model writes or it is late."""
        told = await run_in_threadpool(self.kept, why)
        if told is None:
            waiting = await run_in_threadpool(self.begin, why)
            told = await self.ended(why, waiting) if waiting else await run_in_threadpool(plainly, why)
        return self.named(why.run.name, told)

    def kept(self, why: Why) -> dict[str, Any] | None:
        """The answer, where one was kept."""
        found = self.database.one("answers", key=why.key)
        return None if found is None else {**found["document"], "written": "kept"}

    def begin(self, why: Why, heard: Callable[[str | None], object] | None = None) -> Waiting | None:
        """The question in line, or Full; None where no model says why. `heard`: gets the words as they come."""
        reasoner = why.run.writes(why.asking, why.item.get("item"))
        if reasoner is None:
            return None
        waiting = Waiting(why.asked(), heard is not None, reasoner=reasoner)
        waiting.until = time.monotonic() + self.seconds
        waiting.heard = heard or waiting.heard
        waiting.told.add_done_callback(partial(self._keep, why))
        return self.writers[why.run.name].ask(waiting)

    async def ended(self, why: Why, waiting: Waiting) -> dict[str, Any]:
        """The answer; a plain one where it is late (it is written to its end and kept) or the model failed."""
        answer = asyncio.wrap_future(waiting.told)
        answer.add_done_callback(
            lambda it: it.cancelled() or it.exception()
        )  # also where nobody waits any more
        try:
            async with asyncio.timeout(max(0.1, waiting.until - time.monotonic())):
                told = await asyncio.shield(answer)
        except TimeoutError:
            waiting.late = True
            return await self._instead(why, "is late")
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise  # who asked has left
            return await self._instead(why, "stops")
        except UserError:
            raise
        except Exception as error:  # what is counted still answers
            log.warning("explain: a plain sentence instead: %s: %s", type(error).__name__, error)
            return await self._instead(why, "failed")
        finally:
            waiting.leave()
        return _written(why, told)

    def _keep(self, why: Why, told: Future[Explanation]) -> None:
        if told.cancelled() or told.exception() is not None:
            return
        try:
            about = {"key": why.key, "run": why.run.name, "user": why.user, "item": why.item.get("item")}
            self.database.put("answers", [{**about, "document": _written(why, told.result())}])
        except UserError as error:
            log.warning("explain: an answer is not kept: %s", error)

    async def _instead(self, why: Why, what: str) -> dict[str, Any]:
        note = f"the model {what}, so this is made of what was counted and read; ask again in a while"
        return {**await run_in_threadpool(plainly, why), "note": note}

    async def streamed(self, why: Why) -> AsyncIterator[str]:
        """The same as server-sent events: what carried the score, evidence, words as they come, claims, the end.

        Full, where too many wait, is raised before the first event.
        """
        kept = await run_in_threadpool(self.kept, why)
        words: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def heard(piece: str | None) -> None:
            with suppress(RuntimeError):  # the service has ended meanwhile
                loop.call_soon_threadsafe(words.put_nowait, piece)

        waiting = await run_in_threadpool(self.begin, why, heard) if kept is None else None
        plain = await run_in_threadpool(plainly, why) if kept is None else kept
        return self._events(why, waiting, words, plain)

    async def _events(
        self, why: Why, waiting: Waiting | None, words: asyncio.Queue[str | None], told: dict[str, Any]
    ) -> AsyncIterator[str]:
        try:
            told = self.named(why.run.name, told)
            yield event("because", {name: told[name] for name in ("because", "tokens")})
            yield event("evidence", told["evidence"])
            if waiting is None:
                yield event("words", {"text": told["text"]})
            else:
                async for piece in _pieces(words, waiting):
                    yield event("words", {"text": piece})
                told = self.named(why.run.name, await self.ended(why, waiting))
            claims = ("id", "text", "claims", "evidence", "because", "tokens")
            yield event("claims", {name: told[name] for name in claims})
            yield event("end", {name: told[name] for name in ("written", "note") if name in told})
        except UserError as error:
            yield event("problem", problem(422, "Not possible", str(error)))
        finally:  # also when the client leaves: its slot is free for others
            if waiting is not None:
                waiting.leave()


def plainly(why: Why) -> dict[str, Any]:
    """The plain sentence about a question."""
    told = why.run.plain(why.asking).explain(**why.asked())
    return {"id": why.key, **told.document(), "written": "plain"}


async def _pieces(words: asyncio.Queue[str | None], waiting: Waiting) -> AsyncIterator[str]:
    """Words as they come; ends where the text ends, or fails, or is late."""
    while (left := waiting.until - time.monotonic()) > 0:
        try:
            piece = await asyncio.wait_for(words.get(), left)
        except TimeoutError:
            return
        if piece is None:
            return
        yield piece


def _written(why: Why, told: Explanation) -> dict[str, Any]:
    return {"id": why.key, **told.document(), "written": "model"}


def event(name: str, data: Any, number: int | None = None) -> str:  # noqa: ANN401 - what JSON holds
    """A server-sent event."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, ensure_ascii=False, default=str)}\n\n"
