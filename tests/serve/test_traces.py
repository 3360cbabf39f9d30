"""Spans of requests go where OpenTelemetry's own environment says, and nowhere without it."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from forwhy.serve.app import _traced


class _Collector(BaseHTTPRequestHandler):
    got: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        type(self).got.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


def _app() -> FastAPI:
    app = FastAPI()
    app.get("/live")(lambda: {"status": "alive"})
    _traced(app)
    return app


def test_a_request_becomes_a_span_at_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.instrumentation.fastapi")
    _Collector.got = []
    server = HTTPServer(("127.0.0.1", 0), _Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    arrived = threading.Event()
    answer = _Collector.do_POST
    monkeypatch.setattr(_Collector, "do_POST", lambda self: (answer(self), arrived.set()))
    try:
        assert TestClient(_app()).get("/live").status_code == 200
        assert arrived.wait(10)
    finally:
        server.shutdown()
    path, body = _Collector.got[0]
    assert path == "/v1/traces"
    assert b"GET /live" in body
    assert b"forwhy" in body


def test_without_an_endpoint_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert not getattr(_app(), "_is_instrumented_by_opentelemetry", False)
