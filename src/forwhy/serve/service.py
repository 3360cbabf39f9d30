"""What all requests share: the runs, the database, those who write, and what is kept for a second."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from forwhy.errors import Unknown, UserError
from forwhy.serve.database import Database
from forwhy.serve.reasons import Reasons, Why, plainly
from forwhy.serve.runs import Asking, Loaded, ServedRun, answer_key
from forwhy.serve.schemas import Explain, Person, Recommend, WhatIf
from forwhy.serve.writing import Writer

log = logging.getLogger(__name__)
KeptT = TypeVar("KeptT")

_FRESH = 1.0
"""Seconds for which what the database says of items and experiments is taken as it was; our own writes end them."""
_LOOK = 1.0
"""Seconds between two looks at the runs' folders."""
_TIDIED = 60
"""Looks between two times that memory is given back."""
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


def _tidy() -> None:
    """Gives back what requests have left, in an instant: what stays is not walked by the garbage collector again.

    Arrays of a request often hang in cycles, which the collector would leave for hours among a model's many objects;
    and the C library keeps what was freed for itself.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # another C library than Linux's
        ctypes.CDLL(None).malloc_trim(0)


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
class Items:
    """What the database says of items."""

    stamp: tuple[int, str]
    texts: Mapping[str, str]
    """Title first; of those that say something."""
    unavailable: frozenset[str]


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
        self.renamed = {name: Kept(partial(database.renamed, name)) for name in self.runs}
        self.reasons = Reasons(database, self.writers, self.limits.write_seconds, self.named)
        self._listed, self.items = Items((0, ""), {}, frozenset()), Kept(self._read_items)
        self.experiments = Kept(database.experiments)
        self._records: queue.Queue[dict[str, Any] | threading.Event | None] = queue.Queue(_QUEUED)
        self.stopping = threading.Event()
        self.training: threading.Thread | None = None
        self.lost = 0
        """Records of lists that could not be written."""
        self._recorder = threading.Thread(target=self._record, name="recorder", daemon=True)
        self._recorder.start()
        threading.Thread(target=self._watch, name="watcher", daemon=True).start()

    def stop(self) -> None:
        """Ends those who write; what was recorded is written."""
        self.stopping.set()
        self._records.put(None)
        self._recorder.join(10)
        for writer in self.writers.values():
            writer.stop()
        if self.training is not None:
            self.training.join(10)

    def _watch(self) -> None:
        """Loads what says why, so that the first who ask need not wait for it; then looks for what was replaced."""
        for run in self.runs.values():
            try:
                run.current.warm()
            except UserError as error:
                log.warning("run %s: %s", run.name, error)
        served: list[Loaded] = []
        looks = 0
        while not self.stopping.wait(_LOOK):
            with suppress(UserError):  # the database is down; requests say so
                self.look()
            looks += 1
            if looks % _TIDIED == 0 or served != (served := [run.current for run in self.runs.values()]):
                _tidy()

    def check_new(self, item: str) -> None:
        """Refuses an id that no run could list: the catalogues have whole numbers, and this is none."""
        refused = []
        for run in self.runs.values():
            try:
                if run.current.catalogue.items.find(item) < 0:
                    run.current.catalogue.new_id(item)
                return
            except UserError as error:
                refused.append(error)
        raise refused[0]

    def look(self) -> None:
        """Takes runs and items as they are now."""
        items = self.items.get().texts
        for run in self.runs.values():
            run.look(items)

    def served(self, name: str | None) -> ServedRun:
        """A run by its name, or Unknown; the first one without."""
        if name is None:
            return next(iter(self.runs.values()))
        if name not in self.runs:
            raise Unknown(f"unknown run {name[:80]!r}; served are {', '.join(self.runs)}")
        return self.runs[name]

    def loaded(self, name: str | None) -> Loaded:
        """A run as it is now, with items that came later."""
        return self.served(name).current

    @property
    def unavailable(self) -> frozenset[str]:
        """Items that no list holds."""
        return self.items.get().unavailable

    def _read_items(self) -> Items:
        """Items of the database; what was read before, where none has changed."""
        stamp = self.database.items_stamp()
        if self._listed.stamp == stamp:
            return self._listed
        rows = self.database.all_items()
        said = [row for row in rows if row["title"] or row["text"]]
        texts = {row["id"]: f"{row['title']}\n{row['text']}".strip() for row in said}
        self._listed = Items(stamp, texts, frozenset(row["id"] for row in rows if not row["available"]))
        return self._listed

    def asking(self, run: Loaded, person: Person) -> Asking:
        """Who asks, as this run knows them."""
        user = person.user
        live = self.database.history(user) if user is not None else ()
        asking = run.asking(user, person.history, person.about, live)
        if asking.source == "popular" and user and not (live or self.database.one("users", id=user)):
            raise Unknown(
                f"unknown user {user[:80]!r}: neither training nor an event knows them; send an event first, or "
                "ask with `history` or `about`"
            )
        return asking

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

    def named(self, run: str, document: dict[str, Any]) -> dict[str, Any]:
        """A document whose `tokens` say what people call them, where somebody gave them a name."""
        names = self.renamed[run].get()
        new = ({"renamed": names[it["token"]]} if it["token"] in names else {} for it in document["tokens"])
        return {**document, "tokens": [it | more for it, more in zip(document["tokens"], new, strict=True)]}

    def recommend(self, body: Recommend) -> dict[str, Any]:
        """A list, and its record."""
        name, arm, options = self.arm(body.run, body.user)
        run = self.loaded(name)
        asking = self.asking(run, body)
        rules = {"exclude": body.exclude or None, "only": body.only, "boost": body.boost or None}
        rules |= {rule: it for rule, it in options.items() if rules[rule] is None}
        found = self.named(run.name, run.listed(asking, body.k, rules, self.unavailable))
        if body.explain:
            for row in found["items"]:
                row |= self._plainly(run, asking, str(row["item_id"]), {})
        impression, kept = uuid.uuid4().hex, ("score", "rank", "source")
        shown = [{"item": str(row["item_id"]), **{it: row[it] for it in kept}} for row in found["items"]]
        asked = {"k": body.k, "about": body.about is not None, "history": len(body.history or ())}
        said = {"run": run.name, "experiment": None, "arm": None, **arm}
        self.record({"id": impression, **said, "user": body.user, "asked": asked, "items": shown})
        return {"impression": impression, **said, **found}

    def what_if(self, body: WhatIf) -> dict[str, Any]:
        """The list as it is, and with other words of the person."""
        run = self.loaded(body.run)
        asking = self.asking(run, body)
        if asking.source == "popular":
            raise UserError("what-if: nothing is known of this person, so they have no words to change")
        changes = {"without": body.without, "swap": body.swap}
        sides, both = {}, dict[str, Mapping[str, Any]](before={}, after=changes)
        for side, change in both.items():
            sides[side] = self.named(run.name, run.listed(asking, body.k, {}, self.unavailable, **change))
            if body.item is not None:
                sides[side]["reason"] = self._plainly(run, asking, body.item, change)
        return {"run": run.name, **changes, **sides}

    def _plainly(self, run: Loaded, asking: Asking, item: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        told = plainly(Why(run, asking, run.item_asked(item, None), changes))
        return {"explanation": told["text"], **{it: told[it] for it in ("because", "evidence", "claims")}}

    def why(self, body: Explain) -> Why:
        """What a reason is asked about, and under what it is kept; Unknown for no such run, user or item."""
        name, _, _ = self.arm(body.run, body.user)
        run = self.loaded(name)
        asking = self.asking(run, body)
        if body.item is not None and body.item not in run.offered:
            run.catalogue.items.index(body.item)
        item = run.item_asked(body.item, body.item_text)
        changes = {part: it for part, it in (("without", body.without), ("swap", body.swap)) if it}
        user = body.user if asking.user is None else str(asking.user)
        return Why(run, asking, item, changes, answer_key(run, asking, {**item, **changes}), user)

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
        ended = False
        while not ended:
            batch = [self._records.get()]
            with suppress(queue.Empty):
                while len(batch) < 256:
                    batch.append(self._records.get_nowait())
            ended, rows = None in batch, [row for row in batch if isinstance(row, dict)]
            try:
                self.database.put("impressions", rows)
            except UserError as error:
                self.lost += len(rows)
                log.warning("%d records of lists are lost: %s", len(rows), error)
            for one in batch:
                if isinstance(one, threading.Event):
                    one.set()
            self.stopping.wait(0.1)  # the next ones gather

    def status(self) -> list[dict[str, Any]]:
        """All runs."""
        return [{**run.current.document(), "failed": run.failed} for run in self.runs.values()]
