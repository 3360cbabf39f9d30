"""The service as a process: signals, power cuts, clients that are slow or leave, several workers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from talking import Process, pages, sse, until  # noqa: E402

pytestmark = pytest.mark.slow
USER, ITEM = "ada-larsen", "amber-bell-cinema"


@pytest.fixture(scope="module")
def wordy_run(town_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, whose model does not stop before some seconds have gone."""
    folder = Path(shutil.copytree(town_run, tmp_path_factory.mktemp("wordy") / "town"))
    recipe = (folder / "recipe.toml").read_text()
    for name, value in (("max_new_tokens", 600), ("max_words", 5000), ("end_bias", -99.0)):
        recipe, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", recipe)
        assert count >= 1
    (folder / "recipe.toml").write_text(recipe)
    return folder


@pytest.fixture(scope="module")
def served(wordy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    place = tmp_path_factory.mktemp("process")
    found = Process([wordy_run], f"sqlite:///{place}/serve.db", place / "log")
    yield found
    found.end(signal.SIGKILL)


def stream(
    served: Process, item: str, history: list[str] | None = None
) -> Iterator[tuple[str | None, str, object]]:
    who = {"user": USER} if history is None else {"history": history}
    return sse(served.open("POST", "/v1/explain", {**who, "item": item, "stream": True}))


def test_a_stop_lets_a_stream_end(served: Process) -> None:
    started = stream(served, ITEM)
    assert next(started)[1] == "because"
    until(lambda: next(started)[1] == "words")
    with served.open("GET", "/v1/events/live") as live:
        assert live.readline().startswith(b"id: ")
        served.process.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        rest = list(started)
        assert [name for _, name, _ in rest][-2:] == ["claims", "end"]
        assert rest[-1][2] == {"written": "model"}
        with suppress(OSError, HTTPException):
            live.read()
    assert served.end() in (0, -signal.SIGTERM)
    assert time.monotonic() - begun < 12  # who only listens does not hold it up
    assert "Traceback" not in served.log.read_text()
    served.start()
    kept = list(stream(served, ITEM))
    assert kept[-1][2] == {"written": "kept"}


@pytest.mark.parametrize("cut", range(3))
def test_a_power_cut_loses_nothing_acknowledged(served: Process, cut: int) -> None:
    acknowledged: list[str] = []

    def write() -> None:
        with suppress(OSError, ValueError, HTTPException):
            for number in range(10_000):
                row = {"key": f"{cut}-{number}", "user": f"u{number % 9}", "item": ITEM}
                served.ask("POST", "/v1/events", row)
                acknowledged.append(row["key"])

    writing = threading.Thread(target=write)
    writing.start()
    until(lambda: len(acknowledged) > 20 * (cut + 1))
    served.end(signal.SIGKILL)
    writing.join(20)
    served.start()
    rows = pages(lambda cursor: served.ask("GET", f"/v1/events?limit=1000{cursor}"), "events")
    keys = [row["key"] for row in rows if row["key"].startswith(f"{cut}-")]
    assert len(keys) == len(set(keys))
    assert set(acknowledged) <= set(keys)
    assert len(keys) <= len(acknowledged) + 1  # one may be kept whose answer was cut


def descriptors(served: Process) -> int:
    return len(os.listdir(f"/proc/{served.process.pid}/fd"))


def test_clients_that_are_slow_or_leave(served: Process) -> None:
    items = [it["id"] for it in served.ask("GET", "/v1/items")["items"]]
    served.ask("POST", "/v1/recommend", {"user": USER})
    before = descriptors(served)
    slow = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(20)]
    for number, client in enumerate(slow):  # half a head, or half a body
        client.sendall(b"POST /v1/recommend HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        if number % 2:
            client.sendall(b'content-type: application/json\r\ncontent-length: 99\r\n\r\n{"user": ')
    body = json.dumps({"history": items[:3], "item": items[9], "stream": True}).encode()
    head = f"POST /v1/explain HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n"
    for _ in range(30):  # they ask, hear the beginning, and leave
        with socket.create_connection(("127.0.0.1", served.port)) as client:
            client.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
            assert client.recv(64)
    begun = time.monotonic()
    assert served.ask("POST", "/v1/recommend", {"user": USER, "k": 3})["items"]
    assert time.monotonic() - begun < 5
    for client in slow:
        client.close()
    until(lambda: descriptors(served) <= before + 2)
    until(lambda: 'forwhy_waiting{run="town"} 0.0' in served.open("GET", "/metrics").read().decode())
    told = list(stream(served, items[4], items[:2]))
    assert told[-1][1] == "end"
    assert served.status("GET", "/ready")[0] == 200
    assert "Traceback" not in served.log.read_text()


def test_several_workers(plain_run: Path, tmp_path: Path) -> None:
    served = Process([plain_run], f"sqlite:///{tmp_path}/serve.db", tmp_path / "log", "--workers", "2")
    try:
        for number in range(20):
            served.ask("POST", "/v1/events", {"key": str(number), "user": "eva", "item": f"i{number}"})
            assert len(served.ask("GET", "/v1/events?user=eva")["events"]) == number + 1
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
        assert len(children) >= 2
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(30) in (0, -signal.SIGTERM)
        until(lambda: not any(alive(int(child)) for child in children))
    finally:
        served.end(signal.SIGKILL)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
