"""Routes of what is kept: people, items, events, feedback, words and their names, experiments, jobs, the record."""

from __future__ import annotations

import asyncio
import csv
import io
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from forwhy import __version__
from forwhy.errors import Unknown
from forwhy.recommend.rules import Rules
from forwhy.serve import words as book
from forwhy.serve.asking import UNBUFFERED, RunName, Shared
from forwhy.serve.database import DatabaseDown
from forwhy.serve.jobs import retrain
from forwhy.serve.outcomes import compared
from forwhy.serve.reasons import event as sent
from forwhy.serve.schemas import Event, Events, Experiment, Feedback, Gloss, ItemData, Name, Retrain, UserData
from forwhy.serve.service import Service

router = APIRouter(prefix="/v1")
Limit = Annotated[int, Query(ge=1, le=1_000)]
Cursor = Annotated[str | None, Query(max_length=400, description="`next` of the page before.")]
Search = Annotated[str | None, Query(max_length=200)]
_LIVE_SECONDS, _PING = 0.5, 15.0


def _noted(request: Request, service: Any, action: str, **what: Any) -> None:  # noqa: ANN401
    service.database.audit(request.state.who, action, what)


@router.get("/status")
def status(request: Request, service: Shared) -> dict[str, Any]:
    """Version, runs, experiments, and the role of the caller."""
    names, role = [one["name"] for one in service.experiments.get()], request.state.role
    return {"version": __version__, "runs": service.status(), "experiments": names, "role": role}


@router.get("/runs")
def runs(service: Shared) -> dict[str, Any]:
    """The runs that are served."""
    return {"runs": service.status()}


@router.get("/runs/{run}/health")
def health(run: Name, service: Shared) -> dict[str, Any]:
    """How its words are used, and what training measured."""
    loaded = service.loaded(run)
    books = {}
    if loaded.has_words:
        sizes = loaded.words.codebooks
        books = {name: {**it, "size": len(sizes[name])} for name, it in loaded.words.health().items()}
    return {"books": books, "document": loaded.document()}


@router.get("/runs/{run}/report", response_class=FileResponse)
def report(run: Name, service: Shared) -> FileResponse:
    """The report of its evaluation, where one was written into its folder."""
    file = service.served(run).folder / "report.html"
    if not file.is_file():
        how = f"forwhy evaluate {file.parent} --report {file}"
        raise Unknown(f"run {run}: no report yet; write one with: {how}")
    return FileResponse(file, media_type="text/html")


@router.get("/users")
def users(
    service: Shared, run: RunName = None, q: Search = None, limit: Limit = 50, cursor: Cursor = None
) -> Any:  # noqa: ANN401
    """People that training or the database knows, by the beginning of an id."""
    return book.people(service, run, q or "", limit, cursor)


@router.put("/users/{user:path}", status_code=204)
def put_user(user: Name, body: UserData, request: Request, service: Shared) -> None:
    """Keeps what a shop knows of a person."""
    service.database.put("users", [{"id": user, "data": body.data}])
    _noted(request, service, "put user", user=user)


@router.delete("/users/{user:path}")
def delete_user(user: Name, request: Request, service: Shared) -> dict[str, Any]:
    """Forgets a person: rows, events, lists, feedback and answers."""
    service.flush()
    deleted = service.database.delete_user(user)
    _noted(request, service, "delete user", rows=sum(deleted.values()))
    inside = [name for name in service.runs if service.loaded(name).trained(user)]
    remains, remedy = "No run that is served was trained with this person.", None
    if inside:
        learned = "were trained with this person's interactions; what was learned stays in them."
        remains = f"The runs {', '.join(inside)} {learned}"
        remedy = "Take the person out of the data set and train again: see “delete a person” in docs/production.md."
    return {"deleted": deleted, "remains": remains, "remedy": remedy}


@router.get("/users/{user:path}/export")
def export_user(user: Name, service: Shared) -> dict[str, Any]:
    """All that the database holds of a person."""
    service.flush()
    return service.database.export_user(user)


@router.get("/items")
def items(
    service: Shared, run: RunName = None, q: Search = None, limit: Limit = 50, cursor: Cursor = None
) -> Any:  # noqa: ANN401
    """Items that training or the database knows, by a part of a title or an id."""
    return book.things(service, run, q or "", limit, cursor)


@router.put("/items/{item:path}", status_code=204)
def put_item(item: Name, body: ItemData, request: Request, service: Shared) -> None:
    """Keeps an item: a new one is listed by its text, one that is not available by no list."""
    service.check_new(item)
    service.database.put("items", [{"id": item, **body.model_dump()}])
    service.items.forget()
    service.look()
    _noted(request, service, "put item", id=item)


@router.post("/events", status_code=201)
def events(body: Event | Events, service: Shared) -> dict[str, int]:
    """Keeps what people did; answered when it is on disk. An event sent again by its key counts once."""
    rows = [body] if isinstance(body, Event) else body.events
    kept = service.database.add_events([row.model_dump() for row in rows])
    return {"accepted": sum(kept), "known": len(kept) - sum(kept)}


@router.get("/events")
def list_events(
    service: Shared,
    limit: Limit = 100,
    cursor: Cursor = None,
    user: Name | None = None,
    item: Name | None = None,
) -> dict[str, Any]:
    """Events in the order in which they came."""
    rows, after = service.database.page("events", limit, cursor, user=user, item=item)
    return {"events": rows, "next": after}


@router.get("/events/live", response_class=StreamingResponse)
def live(
    request: Request, service: Shared, after: Annotated[int | None, Query(ge=0)] = None
) -> StreamingResponse:
    """Events as they come, as server-sent events; `Last-Event-ID` goes on where a connection was cut."""
    last = request.headers.get("last-event-id", "")
    begin = int(last) if last.isdecimal() and len(last) < 19 else after
    if begin is None:
        begin = service.database.last_event()
    return StreamingResponse(_live(service, begin), media_type="text/event-stream", headers=UNBUFFERED)


async def _live(service: Service, seen: int) -> AsyncIterator[str]:
    heard = time.monotonic()
    yield f"id: {seen}\n\n"  # whoever is cut off before the first event goes on from here
    while not service.stopping.is_set():
        try:
            rows = await run_in_threadpool(service.database.events_after, seen, 100)
        except DatabaseDown:
            return  # who listens comes back, and goes on from the last number
        for row in rows:
            seen = row["seq"]
            yield sent("event", row, seen)
        if rows or time.monotonic() - heard > _PING:
            heard = time.monotonic()
            if not rows:
                yield ": still here\n\n"
        if not rows:
            await asyncio.sleep(_LIVE_SECONDS)


@router.post("/feedback", status_code=201)
def feedback(body: Feedback, service: Shared) -> dict[str, str]:
    """Keeps what a person thinks of a list or of a reason."""
    if body.impression is not None and service.database.one("impressions", id=body.impression) is None:
        service.flush()
        if service.database.one("impressions", id=body.impression) is None:
            where = "it is named in the answer of /v1/recommend"
            raise Unknown(f"unknown impression {body.impression[:80]!r}; {where}")
    number = uuid.uuid4().hex
    service.database.add_feedback({"id": number, **body.model_dump(), "at": datetime.now(UTC)})
    return {"id": number}


@router.get("/experiments")
def experiments(service: Shared) -> dict[str, Any]:
    """Each experiment with what its arms brought, and the difference with its interval."""
    service.flush()
    known = service.experiments.get()
    return {"experiments": [compared(one, service.database.outcomes(one)) for one in known]}


@router.put("/experiments/{name}", status_code=204)
def put_experiment(name: Name, body: Experiment, request: Request, service: Shared) -> None:
    """Begins an experiment over runs or rules."""
    for arm in body.arms.values():
        Rules.of(service.loaded(arm.run).catalogue.items, **arm.options)  # lists would be refused later
    service.database.put_experiment({"name": name, "arms": body.model_dump()["arms"]})
    service.experiments.forget()
    _noted(request, service, "put experiment", name=name)


@router.delete("/experiments/{name}", status_code=204)
def end_experiment(name: Name, request: Request, service: Shared) -> None:
    """Ends an experiment; what was recorded stays."""
    if name not in [one["name"] for one in service.experiments.get()]:
        raise Unknown(f"unknown experiment {name[:80]!r}; GET /v1/experiments lists them")
    service.database.end_experiment(name)
    service.experiments.forget()
    _noted(request, service, "end experiment", name=name)


@router.get("/words")
def words(
    service: Shared,
    run: RunName = None,
    q: Search = None,
    book_name: Annotated[str | None, Query(alias="book", max_length=40)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Words by a part of their name or meaning, the most used first."""
    return book.listed(service, run, q or "", book_name, limit, cursor)


@router.get("/words/map")
def words_map(service: Shared, run: RunName = None) -> dict[str, Any]:
    """Where the words lie, book by book, in two dimensions."""
    return {"points": book.points(service.loaded(run))}


@router.get("/words/{token}")
def word(token: Name, service: Shared, run: RunName = None) -> dict[str, Any]:
    """One word: meaning, use, owners, neighbours."""
    return book.one(service, run, token)


@router.get("/words/{token}/owners.csv", response_class=Response)
def owners(token: Name, service: Shared, run: RunName = None) -> Response:
    """Who has a word, as a table."""
    text, rows = io.StringIO(), book.owners(service.loaded(run), token)
    cells = [["id", "title"], *([_safe(row["id"]), _safe(row.get("title", ""))] for row in rows)]
    csv.writer(text).writerows(cells)
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8")


def _safe(cell: object) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = str(cell)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


@router.put("/words/{token}/gloss", status_code=204)
def rename(token: Name, body: Gloss, request: Request, service: Shared) -> None:
    """Names a word's meaning; who and when is kept."""
    run = service.loaded(body.run)
    run.words.word(token)
    service.database.rename_word(run.name, token, body.gloss, request.state.who)
    service.renamed[run.name].forget()
    _noted(request, service, "rename word", run=run.name, token=token, gloss=body.gloss)


@router.post("/jobs/retrain", status_code=202)
def retrain_run(body: Retrain, request: Request, service: Shared) -> dict[str, str]:
    """Trains a run again on what is known now, and swaps it in if validation is not worse."""
    job = retrain(service, service.served(body.run))
    _noted(request, service, "retrain", run=body.run, job=job)
    return {"id": job}


@router.get("/jobs")
def jobs(service: Shared) -> dict[str, Any]:
    """Trainings, the newest first."""
    return {"jobs": service.database.jobs()}


@router.get("/jobs/{job}")
def job(job: Name, service: Shared) -> dict[str, Any]:
    """One training."""
    found = service.database.one("jobs", id=job)
    if found is None:
        raise Unknown(f"unknown job {job[:80]!r}; GET /v1/jobs lists them")
    return found


@router.get("/audit")
def audit(service: Shared, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Who wrote what, and when."""
    rows, after = service.database.page("audits", limit, cursor)
    return {"record": rows, "next": after}
