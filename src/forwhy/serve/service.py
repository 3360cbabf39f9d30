"""What all requests share: the runs, the database, those who write, and what is kept for a second."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from forwhy.errors import Unknown, UserError
from forwhy.explain.asking import AskedWho
from forwhy.serve.database import Database
from forwhy.serve.runs import Asking, Loaded, ServedRun, answer_key
from forwhy.serve.schemas import Explain, Person, Recommend, WhatIf
from forwhy.serve.writing import Waiting, Writer

log = logging.getLogger(__name__)
KeptT = TypeVar("KeptT")

_FRESH = 1.0
"""Seconds for which what the database says of items and experiments is taken as it was; our own writes end them."""
_QUEUED = 10_000
"""Lists whose record waits to be written, at most."""


@dataclass(frozen=True)
class Limits:
    """What one request may take."""

    write_seconds: float = 20.0
    """Waited for a model's sentence before a plain one is given."""
    waiting: int = 64
    """Requests in line for a model, of each run."""
    together: int = 16
    """Texts that are written at once."""


class Kept(Generic[KeptT]):
    """A value that is read again when it is older than a second."""

    def __init__(self, read: Callable[[], KeptT]) -> None:
        self._read, self._lock = read, threading.Lock()
        self._value: KeptT | None = None
        self._until = 0.0

    def get(self) -> KeptT:
        """The value."""
        with self._lock:
            if self._value is None or time.monotonic() > self._until:
                self._value, self._until = self._read(), time.monotonic() + _FRESH
            return self._value

    def forget(self) -> None:
        """It is read again when next asked for."""
        self._until = 0.0


@dataclass(frozen=True)
class Why:
    """Why somebody would want something, as a run is asked."""

    run: Loaded
    asking: Asking
    item: Mapping[str, Any]
    """`item` or `item_text`."""
    changes: Mapping[str, Any]
    """`without` and `swap`, where there are such."""
    key: str
    """Under what the answer is kept."""

    def asked(self) -> AskedWho:
        """As an explainer is asked."""
        return cast("AskedWho", {**self.asking.who(), **self.item, **self.changes})


class Service:
    """Runs over a database."""

    def __init__(self, folders: Sequence[Path], database: Database, limits: Limits | None = None) -> None:
        """Loads all runs; names are those of their folders, numbered where two are alike."""
        self.database, self.limits = database, limits or Limits()
        self.runs: dict[str, ServedRun] = {}
        for folder in folders:
            name = folder.resolve().name
            name = name if name not in self.runs else f"{name}-{len(self.runs) + 1}"
            self.runs[name] = ServedRun(folder, name)
        self.writers = {name: Writer(name, self.limits.together, self.limits.waiting) for name in self.runs}
        self.new_items = Kept(self._read_items)
        self.unavailable = Kept(database.unavailable_items)
        self.experiments = Kept(database.experiments)
        self._records: queue.Queue[dict[str, Any] | threading.Event | None] = queue.Queue(_QUEUED)
        self.training, self.stopping = threading.Lock(), threading.Event()
        self.lost = 0
        """Records of lists that could not be written."""
        self._recorder = threading.Thread(target=self._record, name="recorder", daemon=True)
        self._recorder.start()

    def stop(self) -> None:
        """Ends those who write; what was recorded is written."""
        self.stopping.set()
        self._records.put(None)
        self._recorder.join(10)
        for writer in self.writers.values():
            writer.stop()

    # --- runs and people

    def served(self, name: str | None) -> ServedRun:
        """A run by its name; the first one without.

        Raises:
            Unknown: There is none of this name.
        """
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            raise Unknown(f"unknown run {name[:80]!r}; served are {', '.join(self.runs)}")
        return self.runs[name]

    def loaded(self, name: str | None) -> Loaded:
        """The newest of a run, with items that came later."""
        return self.served(name).latest(self.new_items.get())

    def _read_items(self) -> Mapping[str, str]:
        """Items of the database that say something, title first."""
        found: dict[str, str] = {}
        cursor = None
        while True:
            rows, cursor = self.database.items(1_000, cursor)
            found |= {
                row["id"]: f"{row['title']}\n{row['text']}".strip()
                for row in rows
                if row["title"] or row["text"]
            }
            if cursor is None:
                return found

    def asking(self, run: Loaded, person: Person) -> Asking:
        """Who asks, as this run knows them."""
        live = self.database.history(person.user) if person.user is not None else ()
        asking = run.asking(person.user, person.history, person.about, live)
        if (
            asking.source == "popular"
            and person.user is not None
            and not live
            and not self._known(person.user)
        ):
            raise Unknown(
                f"unknown user {person.user[:80]!r}: neither training nor an event knows them; send an event first, or "
                "ask with `history` or `about`"
            )
        return asking

    def _known(self, user: str) -> bool:
        return self.database.user(user) is not None

    def arm(self, run: str | None, user: str | None) -> tuple[str | None, dict[str, str], Mapping[str, Any]]:
        """Run, experiment with its arm, and rules of who takes part; as asked for where there is none."""
        if run is None and user is not None:
            for one in (it for it in self.experiments.get() if it["ended"] is None):
                name, arms = one["name"], one["arms"]
                share = int(hashlib.sha256(f"{name}\0{user}".encode()).hexdigest()[:12], 16) / 16**12
                for arm, it in arms.items():
                    share -= it["share"]
                    if share < 0 and it["run"] in self.runs:
                        return it["run"], {"experiment": name, "arm": arm}, it["options"]
        return run, {}, {}

    # --- what is asked

    def recommend(self, body: Recommend) -> dict[str, Any]:
        """A list, and its record."""
        name, arm, options = self.arm(body.run, body.user)
        run = self.loaded(name)
        asking = self.asking(run, body)
        rules = {"exclude": body.exclude or None, "only": body.only, "boost": body.boost or None}
        rules |= {rule: it for rule, it in options.items() if rules[rule] is None}
        found = run.listed(asking, body.k, rules, self.unavailable.get())
        if body.explain:
            for row in found["items"]:
                row |= self._plainly(run, asking, str(row["item_id"]))
        impression = uuid.uuid4().hex
        shown = [
            {"item": str(row["item_id"]), "score": row["score"], "rank": row["rank"], "source": row["source"]}
            for row in found["items"]
        ]
        asked = {"k": body.k, "about": body.about is not None, "history": len(body.history or ())}
        self.record(
            {"id": impression, "run": run.name, **arm, "user": body.user, "asked": asked, "items": shown}
        )
        return {"impression": impression, "run": run.name, "experiment": None, "arm": None, **arm, **found}

    def what_if(self, body: WhatIf) -> dict[str, Any]:
        """The list as it is, and with other words of the person."""
        run = self.loaded(body.run)
        asking = self.asking(run, body)
        if asking.source == "popular":
            raise UserError("what-if: nothing is known of this person, so they have no words to change")
        changes = {"without": body.without, "swap": body.swap}
        nothing: Mapping[str, Any] = {}
        sides = {}
        for side, change in (("before", nothing), ("after", changes)):
            sides[side] = run.listed(asking, body.k, {}, self.unavailable.get(), **change)
            if body.item is not None:
                sides[side]["reason"] = self._plainly(run, asking, body.item, change)
        return {"run": run.name, **changes, **sides}

    def _plainly(
        self, run: Loaded, asking: Asking, item: str, changes: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A sentence made of what was counted and read, without a model."""
        told = self.plainly(Why(run, asking, run.item_asked(item, None), changes or {}, ""))
        return {
            "explanation": told["text"],
            **{part: told[part] for part in ("because", "evidence", "claims")},
        }

    # --- reasons

    def why(self, body: Explain) -> Why:
        """What a reason is asked about, and under what it is kept.

        Raises:
            Unknown: No such run, user or item.
        """
        name, _, _ = self.arm(body.run, body.user)
        run = self.loaded(name)
        asking = self.asking(run, body)
        if body.item is not None and body.item not in run.offered:
            run.catalogue.items.index(body.item)
        item = run.item_asked(body.item, body.item_text)
        changes = {part: it for part, it in (("without", body.without), ("swap", body.swap)) if it}
        return Why(run, asking, item, changes, answer_key(run, asking, {**item, **changes}))

    def explain(self, body: Explain) -> dict[str, Any]:
        """A reason, whole: a kept one, a new one, or a plain one where no model writes or it is late.

        Raises:
            Full: Too many wait.
        """
        why = self.why(body)
        if kept := self.database.answer(why.key):
            return {**kept, "written": "kept"}
        waiting = self.begin(why)
        return (
            self.plainly(why)
            if waiting is None
            else self.ended(why, waiting, body, self.limits.write_seconds)
        )

    def begin(self, why: Why, watched: bool = False) -> Waiting | None:
        """The question in line; None where no model says why.

        Raises:
            Full: Too many wait.
        """
        if why.run.is_plain(why.asking, why.item.get("item")):
            return None
        reasoner, until = (
            why.run.reasoner(why.asking, why.item.get("item")),
            self.limits.write_seconds + time.monotonic(),
        )
        asked = Waiting(why.asked(), watched, reasoner=reasoner, until=until)
        return self.writers[why.run.name].ask(asked)

    def ended(self, why: Why, waiting: Waiting, body: Explain, seconds: float) -> dict[str, Any]:
        """The answer, kept; the plain one where it is late or the model failed."""
        try:
            told = waiting.told.result(seconds)
        except UserError:
            raise
        except Exception as error:  # late, or the model failed: what is counted still answers
            waiting.leave()
            log.warning("explain: a plain sentence instead: %s %s", type(error).__name__, error)
            late = isinstance(error, TimeoutError | CancelledError)
            note = (
                f"the model {'is late' if late else 'failed'}, so this is made of what was counted; ask again"
            )
            return {**self.plainly(why), "note": note}
        document = {"id": why.key[:32], **told.document(), "written": "model"}
        user = body.user if why.asking.user is None else str(why.asking.user)
        self.database.keep_answer(why.key, why.run.name, user, body.item, document)
        return document

    def plainly(self, why: Why) -> dict[str, Any]:
        """The plain sentence about a question."""
        told = why.run.plain(why.asking).explain(**why.asked())
        return {"id": why.key[:32], **told.document(), "written": "plain"}

    # --- records of lists, written by the way

    def record(self, row: dict[str, Any]) -> None:
        """Notes what was shown; soon in the database."""
        try:
            self._records.put_nowait({**row, "at": datetime.now(UTC)})
        except queue.Full:
            self.lost += 1

    def flush(self) -> None:
        """Waits until all that was noted is written."""
        done = threading.Event()
        self._records.put(done)
        done.wait(10)

    def _record(self) -> None:
        for batch in self._batches():
            rows = [row for row in batch if isinstance(row, dict)]
            try:
                if rows:
                    self.database.add_impressions(rows)
            except UserError as error:
                self.lost += len(rows)
                log.warning("%d records of lists are lost: %s", len(rows), error)
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()

    def _batches(self) -> Iterator[list[dict[str, Any] | threading.Event]]:
        """What waits, a batch at a time, until the end."""
        while (first := self._records.get()) is not None:
            batch = [first]
            while len(batch) < 256:
                try:
                    one = self._records.get_nowait()
                except queue.Empty:
                    break
                if one is None:
                    self._records.put(None)
                    break
                batch.append(one)
            yield batch
            time.sleep(0.02)  # the next ones gather

    # --- the page's tables

    def status(self) -> list[dict[str, Any]]:
        """All runs."""
        return [{**run.latest().document(), "failed": run.failed} for run in self.runs.values()]


def event(name: str, data: Any, number: int | None = None) -> str:  # noqa: ANN401 - what JSON holds
    """A server-sent event."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {name}\ndata: {json.dumps(data, ensure_ascii=False, default=str)}\n\n"
