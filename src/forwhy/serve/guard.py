"""What every request passes: who may ask, how much, from where, and what is counted and noted of it."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forwhy.errors import UserError
from forwhy.serve.database import Database
from forwhy.serve.keys import ROLES, RateLimit, hashed

PROBLEM = "application/problem+json"
CSP = (
    "default-src 'self'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; object-src 'none'; frame-ancestors 'self'"
)
"""Content security policy: nothing inline, nothing from elsewhere."""
_DOCS = CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""Of a run's report, which is one page with its style in it and no script."""
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
LONGEST = 600
"""Letters of a problem's sentence."""
MOST = 8 << 20
"""Bytes of a body."""
OPEN = ("/live", "/ready")
"""Paths that ask for no key, beside the page."""
ADMIN = ("/v1/jobs", "/v1/experiments", "/v1/audit", "/v1/keys")
"""Where writing is for admins."""
READING = ("/v1/recommend", "/v1/explain", "/v1/what-if", "/v1/words/light", "/v1/chat/completions")
"""Questions, which are posted and yet only read."""
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"}
_KEY_SECONDS = 5.0


def problem(status: int, title: str, detail: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """A problem as RFC 9457 wants it; what repeats a long body is cut in the middle, so that its remedy stays."""
    if len(detail) > LONGEST:
        detail = f"{detail[: LONGEST // 2]} … {detail[-LONGEST // 3 :]}"
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, **more}


def said(status: int, title: str, detail: str, **headers: str) -> JSONResponse:
    """An answer that is a problem."""
    return JSONResponse(problem(status, title, detail), status, headers=headers, media_type=PROBLEM)


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Metrics:
    """Counters in a registry of their own."""

    def __init__(self) -> None:
        self.registry = here = CollectorRegistry()
        labels = ["method", "path", "status"]
        self.requests = Counter("forwhy_requests", "Answered requests.", labels, registry=here)
        self.seconds = Histogram(
            "forwhy_seconds", "Seconds until a request is answered.", ["path"], registry=here
        )
        self.waiting = Gauge("forwhy_waiting", "Requests in line for a model.", ["run"], registry=here)
        self.lost = Gauge("forwhy_lost_records", "Lists whose record was lost.", registry=here)


class Refused(HTTPException):
    """A request that is not let in."""

    def __init__(self, status: int, title: str, detail: str, **headers: str) -> None:
        super().__init__(status, detail)
        self.answer = said(status, title, detail, **headers)


class Guard:
    """ASGI middleware around the whole service."""

    def __init__(
        self, app: ASGIApp, database: Database, metrics: Metrics, loopback: bool, per_minute: int
    ) -> None:
        """`loopback`: listens on this machine alone, where no keys are needed as long as there are none."""
        self.app, self.database, self.metrics, self.loopback = app, database, metrics, loopback
        self.limit = RateLimit(per_minute)
        self._known: dict[str, tuple[float, Any]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or answers it with a problem."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500
        scope["state"]["who"], scope["state"]["role"] = "nobody", None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/page/"):
                    headers.setdefault("cache-control", "no-cache")
                if headers.get("content-type", "").startswith("text/html") and "/report" in scope["path"]:
                    headers["content-security-policy"] = _DOCS
            await send(message)

        try:
            await run_in_threadpool(self._check, scope)
            await self.app(scope, _Bounded(receive, Headers(scope=scope)), sending)
        except Refused as refused:
            await refused.answer(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.requests.labels(method, route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - begun)

    def _check(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        try:
            self._same_origin(headers)
        except ValueError:
            told = "host or origin is no address; correct it, or leave origin out"
            raise Refused(400, "Bad request", told) from None
        if path in OPEN or not (path.startswith("/v1") or path in ("/metrics", "/openapi.json")):
            return
        try:
            self._let_in(scope, headers, path)
        except UserError as error:
            raise Refused(503, "Database down", str(error), **{"retry-after": "5"}) from None

    def _same_origin(self, headers: Headers) -> None:
        """No page from elsewhere asks, also not by a name that was bent to this address."""
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self.loopback and not is_loopback(name) and name != "testserver":
            told = f"host {name[:80]!r}: this service listens on this machine alone"
            raise Refused(421, "Misdirected", told)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            told = "pages of other origins may not ask; call from a server, or from /"
            raise Refused(403, "Forbidden", told)

    def _let_in(self, scope: Scope, headers: Headers, path: str) -> None:
        here = self.loopback and not self._asked(
            "", lambda: self.database.keys()
        )  # a key that a client sends by habit is let pass
        key = {"name": "this machine", "role": "admin"} if here else self._key(headers)
        needed = needed_role(scope["method"], path)
        if ROLES.index(key["role"]) < ROLES.index(needed):
            told = f"this needs a key of role {needed}; key {key['name']!r} has role {key['role']}"
            raise Refused(403, "Forbidden", told)
        if wait := math.ceil(self.limit.wait(key["name"])):
            raise Refused(429, "Too many requests", f"ask again in {wait} s", **{"retry-after": str(wait)})
        scope["state"]["who"], scope["state"]["role"] = key["name"], key["role"]

    def _key(self, headers: Headers) -> dict[str, Any]:
        scheme, _, text = headers.get("authorization", "").partition(" ")
        if not text or scheme.lower() != "bearer":
            told = "send `Authorization: Bearer KEY`; make one with: forwhy serve keys add NAME --role read"
            raise Refused(401, "Unauthorized", told, **{"www-authenticate": "Bearer"})
        digest = hashed(text.strip())
        found: dict[str, Any] | None
        found = self._asked(digest, lambda: self.database.one("keys", hash=digest, revoked=None))
        if found is None:
            told = "this key is unknown or revoked"
            raise Refused(401, "Unauthorized", told, **{"www-authenticate": "Bearer"})
        return found

    def _asked(self, about: str, read: Callable[[], Any]) -> Any:  # noqa: ANN401 - what is read
        """What the database says of a key; of all keys without."""
        until, found = self._known.get(about, (0.0, None))
        if time.monotonic() > until:
            found = read()
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[about] = (time.monotonic() + _KEY_SECONDS, found)
        return found


def needed_role(method: str, path: str) -> str:
    """Which role a request needs."""
    if method in ("GET", "HEAD", "OPTIONS"):
        secret = path.startswith(("/v1/audit", "/v1/keys")) or path.endswith("/export")
        return "admin" if secret else "read"
    if path in READING:
        return "read"
    admin = path.startswith(ADMIN) or (method == "DELETE" and path.startswith("/v1/users"))
    return "admin" if admin else "write"


class _Bounded:
    def __init__(self, receive: Receive, headers: Headers) -> None:
        self._receive, self._read = receive, 0
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > MOST:
            raise _too_large()

    async def __call__(self) -> Message:
        message = await self._receive()
        self._read += len(message.get("body", b""))
        if self._read > MOST:
            raise _too_large()
        return message


def _too_large() -> Refused:
    return Refused(413, "Too large", f"a body may have {MOST >> 20} MiB; send events in several calls")
