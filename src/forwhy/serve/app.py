"""The service as an ASGI application: routes, problems, the page."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from forwhy import __version__
from forwhy.errors import Unknown, UserError, need
from forwhy.serve import asking, keeping
from forwhy.serve.database import Conflict, Database, DatabaseDown
from forwhy.serve.guard import PROBLEM, Guard, Metrics, Refused, said
from forwhy.serve.service import Limits, Service
from forwhy.serve.writing import Full

PAGE = Path(__file__).parent / "page"
_PROBLEMS: dict[str, Any] = {
    "description": "A problem (RFC 9457), with the remedy in `detail`.",
    "content": {PROBLEM: {"schema": {"type": "object", "required": ["type", "title", "status", "detail"]}}},
}
_MISTAKES: tuple[tuple[type[UserError], int, str, dict[str, str]], ...] = (
    (DatabaseDown, 503, "Database down", {"retry-after": "5"}),
    (Conflict, 409, "Conflict", {}),
    (Unknown, 404, "Unknown", {}),
    (UserError, 422, "Not possible", {}),
)
"""Kind of mistake -> status, title and headers; the first that fits."""
VIEWS = ("people", "words", "test", "items", "runs", "experiments", "events", "docs")
"""First parts of the page's own paths."""


def create_app(
    folders: Sequence[Path],
    database: Database,
    *,
    loopback: bool = True,
    limits: Limits | None = None,
    per_minute: int = 6_000,
) -> FastAPI:
    """The service over finished runs; UserError where a folder is no run, or the database cannot be used.

    Args:
        folders: Run folders; the first answers where none is named.
        database: What the shop knows since then; its schema is brought up to date.
        loopback: Whether it listens on this machine alone; else every request needs a key.
        limits: Of lines and seconds.
        per_minute: Requests of one key.
    """
    database.upgrade()
    service, metrics = Service(folders, database, limits), Metrics()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        _heed(service)
        yield
        service.stop()

    app = FastAPI(
        title="forwhy",
        version=__version__,
        description="Recommendations with a because.",
        lifespan=life,
        docs_url=None,  # the page draws the description: FastAPI's own pages load scripts from elsewhere
        redoc_url=None,
        responses={"4XX": _PROBLEMS, "5XX": _PROBLEMS},
    )
    app.state.service = service
    _traced(app)
    app.include_router(keeping.router)  # first: its paths say more, and an id may have slashes
    app.include_router(asking.router)
    _watched(app, service, metrics)
    _problems(app)
    _page(app)
    app.add_middleware(Guard, database=database, metrics=metrics, loopback=loopback, per_minute=per_minute)
    return app


def _heed(service: Service) -> None:
    """Who only listens is let go when the process is told to stop; the server itself waits for all answers to end."""
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(number: int, frame: FrameType | None) -> None:
        service.stopping.set()
        if callable(before := servers[number]):
            before(number, frame)

    servers: dict[int, Any] = {it: signal.signal(it, stop) for it in (signal.SIGINT, signal.SIGTERM)}


def _traced(app: FastAPI) -> None:
    """A span for every request, sent to where OTEL_EXPORTER_OTLP_ENDPOINT says; nothing without it."""
    if not any(os.environ.get(f"OTEL_EXPORTER_OTLP_{it}ENDPOINT") for it in ("", "TRACES_")):
        return
    need("opentelemetry", "otel")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "forwhy")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["receive", "send"])


def _watched(app: FastAPI, service: Service, metrics: Metrics) -> None:

    @app.get("/live")
    def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/ready", response_model=None)
    def ready() -> dict[str, Any] | JSONResponse:
        """The database answers and the runs are the newest."""
        failed = {name: run.failed for name, run in service.runs.items() if run.failed}
        try:
            service.database.ping()
        except UserError as error:
            return said(503, "Not ready", str(error))
        return {"status": "ready", "runs": list(service.runs), **({"stale": failed} if failed else {})}

    @app.get("/metrics", response_class=Response)
    def counted() -> Response:
        """For Prometheus."""
        for name, writer in service.writers.items():
            metrics.waiting.labels(name).set(writer.waiting)
        metrics.lost.set(service.lost)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _problems(app: FastAPI) -> None:

    @app.exception_handler(UserError)
    def mistaken(_: Request, error: UserError) -> JSONResponse:
        status, title, headers = next(it[1:] for it in _MISTAKES if isinstance(error, it[0]))
        return said(status, title, str(error), **headers)

    @app.exception_handler(Full)
    def busy(_: Request, error: Full) -> JSONResponse:
        detail = f"so many wait for a reason that yours would be late; ask again in {error.seconds} s"
        return said(429, "Busy", detail, **{"retry-after": str(error.seconds)})

    @app.exception_handler(Refused)
    def refused(_: Request, error: Refused) -> JSONResponse:
        return error.answer

    @app.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        broken = any(one["type"] == "json_invalid" for one in found)
        parts = [f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in found[:5]]
        return said(400 if broken else 422, "Malformed JSON" if broken else "Invalid", "; ".join(parts))

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> JSONResponse:
        detail = f"{request.url.path[:200]}: {error.detail}; /docs lists what there is"
        return said(error.status_code, str(error.detail), detail, **(error.headers or {}))


def _page(app: FastAPI) -> None:
    if not PAGE.is_dir():
        return
    app.mount("/page", StaticFiles(directory=PAGE), name="page")

    def document() -> FileResponse:
        return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})

    app.get("/", include_in_schema=False)(document)
    for view in VIEWS:
        app.get(f"/{view}", include_in_schema=False)(document)
        app.get(f"/{view}/{{rest:path}}", include_in_schema=False)(document)
