"""Servers of a language model on this machine that answer as a test says: a judge, and one asked anything."""

from __future__ import annotations

import html
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Pair = tuple[str, str]


@dataclass(frozen=True)
class Response:
    """What goes back over the wire."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pieces: float = 0.0
    """Seconds between two bytes."""


Behaviour = Callable[["FakeJudge", Pair], Response]


def completion(text: str | None, *, usage: bool = True, finish: str = "stop", refusal: str = "") -> Response:
    """A well-formed answer: 100 tokens read, 10 written."""
    document: dict[str, Any] = {
        "choices": [{"message": {"content": text, "refusal": refusal or None}, "finish_reason": finish}]
    }
    if usage:
        document["usage"] = {"prompt_tokens": 100, "completion_tokens": 10}
    return Response(json.dumps(document).encode())


def grade(score: int) -> Response:
    return completion(json.dumps({"score": score}))


def by_overlap(_: FakeJudge, pair: Pair) -> Response:
    """A sensible judge: the share of the reference's words that the text has."""
    ours, theirs = (set(text.split()) for text in pair)
    return grade(round(100 * len(ours & theirs) / max(1, len(theirs))))


class FakeJudge:
    """Counts and keeps what it is asked; `behave` makes the answers."""

    def __init__(self) -> None:
        self.behave: Behaviour = by_overlap
        self.bodies: list[dict[str, Any]] = []
        self.pairs: list[Pair] = []
        self.headers: list[Mapping[str, str]] = []
        self.lock = threading.Lock()
        self.url = ""

    def times(self, pair: Pair) -> int:
        """How often it was asked about a pair so far."""
        return self.pairs.count(pair)

    def answer(self, headers: Mapping[str, str], body: dict[str, Any]) -> Response:
        user = body["messages"][1]["content"]
        reference, prediction = re.findall(r"<(?:reference|candidate)>\n(.*?)\n</", user, re.DOTALL)
        pair = html.unescape(prediction), html.unescape(reference)
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.pairs.append(pair)
        return self.behave(self, pair)


def echo(_: FakeLLM, text: str) -> Any:  # noqa: ANN401 - a Response of the judge's
    return completion(f"you said: {text}")


class FakeLLM(FakeJudge):
    """Counts and keeps what it is asked; `behave(server, last message)` makes the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.behave = echo
        self.texts: list[str] = []

    def answer(self, headers: Mapping[str, str], body: dict[str, Any]) -> Any:  # noqa: ANN401
        text = body["messages"][-1]["content"]
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self.texts.append(text)
        return self.behave(self, text)


class Handler(BaseHTTPRequestHandler):
    judge: FakeJudge

    def do_POST(self) -> None:
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            self.send_error(404)
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        response = self.judge.answer(dict(self.headers), body)
        try:
            self.respond(response)
        except OSError:  # the client has given up
            self.close_connection = True

    def respond(self, response: Response) -> None:
        self.send_response(response.status)
        for name, value in {**response.headers, "Content-Length": str(len(response.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not response.pieces:
            self.wfile.write(response.body)
            return
        for start in range(len(response.body)):
            self.wfile.write(response.body[start : start + 1])
            time.sleep(response.pieces)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(judge: FakeJudge) -> Iterator[FakeJudge]:
    """On a port of its own while in use."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"judge": judge}))
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    judge.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield judge
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
