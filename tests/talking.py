"""The service under test: asked in this process, or as a process of its own on a port that stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import pytest
from fastapi.testclient import TestClient

from ports import free_port

Json = Any


class Talk:
    """Asks an application; an answer of another status than was expected fails the test with what it says."""

    def __init__(self, client: TestClient) -> None:
        self.client, self.app = client, client.app

    @property
    def service(self) -> Any:  # noqa: ANN401 - `Service`, which needs the extra
        return self.app.state.service  # type: ignore[attr-defined]

    def ask(self, method: str, path: str, body: Json = None, status: int = 200, **more: Any) -> Any:  # noqa: ANN401
        """The JSON of an answer; None where it is empty."""
        answer = self.client.request(method, path, json=body, **more)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def refusal(self, status: int, method: str, path: str, body: Json = None, **more: Any) -> str:  # noqa: ANN401
        """The sentence of a problem document."""
        sent = {} if body is None else {"json": body}
        return detail(self.client.request(method, path, **sent, **more), status)

    def events(self, path: str, body: Json) -> list[tuple[str, Any]]:
        """Server-sent events of a whole answer."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text[:500]
        assert answer.headers["content-type"].startswith("text/event-stream")
        return parsed(answer.text)

    def take(self, user: str, item: str, **more: Any) -> None:  # noqa: ANN401
        """An event."""
        key = f"{user}/{item}/{more.get('kind', 'take')}"
        self.ask("POST", "/v1/events", {"key": key, "user": user, "item": item, **more}, 201)

    def listed(self, **asked: Any) -> list[dict[str, Any]]:  # noqa: ANN401
        """Items of a list."""
        return list(self.ask("POST", "/v1/recommend", asked)["items"])


def detail(answer: Any, status: int) -> str:  # noqa: ANN401 - an answer of httpx
    """What a problem document says to do; checks that it is one (RFC 9457)."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail"} <= problem.keys()
    assert problem["status"] == status
    assert problem["title"]
    assert "\n" not in problem["detail"]
    assert len(problem["detail"]) < 2_000
    return str(problem["detail"])


def parsed(text: str) -> list[tuple[str, Any]]:
    """Names and data of server-sent events."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def pages(read: Callable[[str], dict[str, Any]], rows: str) -> list[Any]:
    """All rows of a list, page by page."""
    found, cursor = [], ""
    while True:
        page = read(cursor)
        found += page[rows]
        if page["next"] is None:
            return found
        assert cursor != f"&cursor={page['next']}", "it does not go on"
        cursor = f"&cursor={page['next']}"


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Waits for something; fails when it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


class Process:
    """`forwhy serve` as a process of its own."""

    def __init__(
        self, folders: Sequence[Path], url: str, log: Path, *options: str, wait: bool = True
    ) -> None:
        self.port, self.log = free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        command = ["-m", "forwhy", "serve", *map(str, folders), "--port", str(self.port), "--database", url]
        self.command = [sys.executable, *command, *options]
        self.start(wait)

    def start(self, wait: bool = True) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)
        until(lambda: not wait or self._ready(), 60)

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"the service ended: {self.log.read_text()[-2000:]}")
        try:
            self.ask("GET", "/ready")
        except OSError:
            return False
        return True

    def ask(self, method: str, path: str, body: Json = None, timeout: float = 30, **headers: str) -> Any:  # noqa: ANN401
        """The JSON of an answer; an `HTTPError` is an OSError."""
        with self.open(method, path, body, timeout, **headers) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def open(self, method: str, path: str, body: Json = None, timeout: float = 30, **headers: str) -> Any:  # noqa: ANN401
        """An answer, to be read as it comes."""
        data = None if body is None else json.dumps(body).encode()
        headers = {
            "content-type": "application/json",
            **{name.replace("_", "-"): it for name, it in headers.items()},
        }
        asked = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        return urllib.request.urlopen(asked, timeout=timeout)

    def status(self, method: str, path: str, body: Json = None) -> tuple[int, Any]:
        """Status and JSON, also of a problem."""
        try:
            return 200, self.ask(method, path, body)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def end(self, how: int = signal.SIGTERM, seconds: float = 30) -> int:
        """The exit status after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(seconds)


def sse(answer: Any) -> Iterator[tuple[str | None, str, Any]]:  # noqa: ANN401 - an open answer
    """Id, name and data of server-sent events as they come."""
    lines: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            lines[name] = value
        elif "event" in lines:
            yield lines.get("id"), lines["event"], json.loads(lines["data"])
            lines = {}


class Listening:
    """An application on a real port, in a thread of this process, for streams and clients that leave."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401 - FastAPI, which needs the extra
        import uvicorn

        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = uvicorn.Config(
            app, port=self.port, log_level="error", timeout_graceful_shutdown=1, lifespan="off"
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)

    def post(self, path: str, body: Json) -> HTTPConnection:
        """A connection on which a question was asked; nothing is read from it yet."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        return connection


class Gate:
    """Stands before what writes for a run: nothing is told until it is opened, or writing fails."""

    def __init__(self, patch: pytest.MonkeyPatch, service: Any, run: str) -> None:  # noqa: ANN401 - `Service`
        loaded = service.runs[run].current
        until(lambda: "trained" in loaded.opened.__dict__)
        self.opened, self.begun, self.fails = threading.Event(), threading.Event(), False
        self._flow = loaded.opened.trained.flow
        patch.setattr(loaded.opened.trained, "flow", self.flow)

    def flow(self, questions: Any, together: int) -> Iterator[Any]:  # noqa: ANN401
        for told in self._flow(questions, together):
            self.begun.set()
            assert self.opened.wait(20)
            if self.fails:
                raise RuntimeError("the model broke")
            yield told
