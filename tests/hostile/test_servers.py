"""A server of a language model that wants to hold us, fill our memory, or get our key into what we show and keep."""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Inquiry, ask_all
from forwhy.text.chat.base import Answer, ChatConfig, Message, Question
from forwhy.text.chat.client import LONGEST_WAIT, Client, open_chat

KEY = "sk-proj-A1b2C3d4E5f6G7h8I9j0"
PATIENCE = 0.4
"""Seconds that a call may take."""
LATE = 2.0
"""Seconds after which it has not kept this."""
QUESTION = Question((Message("user", "tea?"),), 16)

Behaviour = Callable[[socket.socket], None]


@contextmanager
def misbehaving(behave: Behaviour) -> Iterator[str]:
    """A server on a socket of its own: reads the headers of what it is asked, then does as it likes."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        listening.settimeout(20)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError):
                    threading.Thread(target=answer, args=(listening.accept()[0],), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                asked = b""
                while b"\r\n\r\n" not in asked:
                    asked += connection.recv(1 << 16)
                head, _, body = asked.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split()[0])
                while len(body) < length:
                    body += connection.recv(1 << 16)
                behave(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            ended.set()


def completion(**changes: object) -> bytes:
    told: dict[str, object] = {
        "choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    }
    return json.dumps({**told, **changes}).encode()


def whole(
    body: bytes, status: str = "200 OK", headers: str = "", closes: bool = True, length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    more = "Connection: close\r\n" * closes
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{more}{headers}\r\n".encode() + body


def say(*parts: bytes, then: Behaviour | None = None) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        if then:
            then(connection)

    return behave


def drip(data: bytes, gap: float = 0.02) -> Behaviour:
    """Byte by byte, each well before any time-out of a single one."""

    def behave(connection: socket.socket) -> None:
        for place in range(len(data)):
            connection.sendall(data[place : place + 1])
            time.sleep(gap)

    return behave


def forever(data: bytes, gap: float = 0.0) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        while True:
            connection.sendall(data)
            time.sleep(gap)

    return behave


def silent(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.recv(1)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"
GOOD = whole(completion())
LONG_DRIP = b"X-A: " + b"a" * 1000


def deflated(megabytes: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def packed(name: str, status: str = "200 OK") -> bytes:
    return whole(deflated(300), status, f"Content-Encoding: {name}\r\nContent-Type: application/json\r\n")


def usage(tokens: object) -> bytes:
    return whole(completion(usage={"prompt_tokens": tokens, "completion_tokens": tokens}))


def huge_number() -> bytes:
    text = b'{"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": %s, "completion_tokens": 1}}'
    return whole(text % (b"9" * 5000))


SERVERS: dict[str, tuple[Behaviour, set[str | None]]] = {
    # Slow, at every place of an answer.
    "silence": (silent, {"timeout"}),
    "status line byte by byte": (drip(GOOD), {"timeout"}),
    "headers byte by byte": (say(b"HTTP/1.1 200 OK\r\n", then=drip(LONG_DRIP)), {"timeout"}),
    "a header every moment": (say(b"HTTP/1.1 200 OK\r\n", then=forever(b"X-A: b\r\n", 0.02)), {"timeout"}),
    "headers that stop": (say(b"HTTP/1.1 200 OK\r\nContent-Le", then=silent), {"timeout"}),
    "body byte by byte": (say(OPEN, then=drip(b" " * 1000)), {"timeout"}),
    "body that stops": (say(whole(b"{", length=100, closes=False), then=silent), {"timeout"}),
    "chunk size byte by byte": (say(CHUNKED, then=drip(b"0" * 1000)), {"timeout", "server"}),
    "chunk extension byte by byte": (say(CHUNKED, b"5;", then=drip(b"a" * 1000)), {"timeout"}),
    "chunks of one byte": (say(CHUNKED, then=forever(b"1\r\n \r\n", 0.02)), {"timeout"}),
    "trailers byte by byte": (
        say(CHUNKED, b"2\r\n{}\r\n0\r\n", then=drip(LONG_DRIP)),
        {"timeout", "server"},
    ),
    "a trailer every moment": (
        say(CHUNKED, b"2\r\n{}\r\n0\r\n", then=forever(b"X-A: b\r\n", 0.02)),
        {"timeout", "server"},
    ),
    "error byte by byte": (say(whole(b"", "500 No", length=1000), then=drip(b" " * 1000)), {"timeout"}),
    "100 again and again, slowly": (forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02), {"timeout"}),
    "103 again and again, slowly": (forever(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n", 0.02), {"timeout"}),
    # Endless, as fast as it can.
    "100 without end": (forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 50), {"server", "timeout"}),
    "103 without end": (
        forever(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 50),
        {"server", "timeout"},
    ),
    "102 without end": (forever(b"HTTP/1.1 102 Processing\r\n\r\n" * 50), {"server", "timeout"}),
    "a header without end": (say(b"HTTP/1.1 200 OK\r\nX-A: ", then=forever(b"a" * 4096)), {"server"}),
    "headers without end": (say(b"HTTP/1.1 200 OK\r\n", then=forever(b"X-A: b\r\n" * 500)), {"server"}),
    "status line without end": (say(b"HTTP/1.1 200 ", then=forever(b"a" * 4096)), {"server"}),
    "body without end": (say(OPEN, then=forever(b" " * 65536)), {"server", "timeout"}),
    "chunks without end": (
        say(CHUNKED, then=forever(b"1000\r\n" + b" " * 4096 + b"\r\n")),
        {"server", "timeout"},
    ),
    "chunk extension without end": (say(CHUNKED, b"5;", then=forever(b"a" * 4096)), {"server", "timeout"}),
    "trailers without end": (
        say(CHUNKED, b"0\r\n", then=forever(b"X-A: b\r\n" * 500)),
        {"server", "timeout"},
    ),
    "error without end": (
        say(b"HTTP/1.1 500 No\r\n\r\n", then=forever(b"a" * 65536)),
        {"server", "timeout"},
    ),
    "many small chunks": (say(CHUNKED, then=forever(b"1\r\n \r\n" * 5000)), {"server", "timeout"}),
    "a claim of a terabyte": (say(whole(b"{", length=1 << 40, closes=False)), {"server", "timeout"}),
    # Unfolding.
    "gzip bomb": (say(packed("gzip")), {"server"}),
    "deflate bomb": (say(packed("deflate")), {"server"}),
    "gzip in gzip": (say(packed("gzip, gzip")), {"server"}),
    "zstd, not": (say(packed("zstd")), {"server"}),
    "brotli, not": (say(packed("br")), {"server"}),
    "gzip bomb as error": (say(packed("gzip", "500 No")), {"server"}),
    "gzip of a good answer": (
        say(whole(gzip.compress(completion()), headers="Content-Encoding: gzip\r\n")),
        {"server"},
    ),
    "brackets": (say(whole(b"[" * 200_000)), {"server"}),
    "brackets as error": (say(whole(b"[" * 200_000, "500 No")), {"server"}),
    "objects in objects": (
        say(whole(b'{"choices": ' * 20_000 + b"1" + b"}" * 20_000)),
        {"server"},
    ),
    # No HTTP, or wrong.
    "nothing at all": (say(b""), {"server"}),
    "reset": (reset, {"server"}),
    "another protocol": (say(b"SSH-2.0-OpenSSH_9.2\r\n"), {"server"}),
    "control letters": (say(b"HTTP/1.1 200 \x1b[2J\r\n\r\n"), {"server"}),
    "cut in the body": (say(whole(b"{", length=100)), {"server"}),
    "two lengths": (say(whole(completion(), headers="Content-Length: 3\r\n")), {"server"}),
    "a length below nothing": (say(whole(b"", length=-5)), {"server"}),
    "a chunk size of ten thousand digits": (say(CHUNKED, b"f" * 10_000 + b"\r\n"), {"server"}),
    "status 999": (say(whole(b"", "999 What")), {"server"}),
    "an encoding that is none": (
        say(whole(b"no", "500 No", "Content-Type: text/plain; charset=hex\r\n")),
        {"server"},
    ),
    "upgrade": (say(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", then=forever(b"x" * 100, 0.02)), {"server"}),
    # Numbers.
    "waits that never end": (say(whole(b"", "503 No", "Retry-After: 1e308\r\n")), {"server"}),
    "a day that no calendar has": (
        say(whole(b"", "503 No", "Retry-After: Mon, 01 Jan 99999999999 00:00:00 GMT\r\n")),
        {"server"},
    ),
    "a day of another age": (
        say(whole(b"", "503 No", "Retry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\n")),
        {"server"},
    ),
    "tokens of 400 digits": (say(usage(10**400)), {None}),
    "tokens of 5000 digits": (say(huge_number()), {"server"}),
    "tokens below nothing": (say(usage(-5)), {None}),
    "tokens in words": (say(usage("many")), {None}),
    "half a letter": (say(whole(completion().replace(b"yes", b"\\ud800"))), {None}),
    "content that is no text": (
        say(whole(completion(choices=[{"message": {"content": {"a": 1}}, "finish_reason": "stop"}]))),
        {"server"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWHY_LLM_KEY", KEY)
    monkeypatch.delenv("FORWHY_LLM_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


Ask = Callable[[Behaviour], Answer]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Asks one server, which behaves as it is told, once; the answer's cost is counted too."""
    behaving: list[Behaviour] = []
    config = {"attempts": 1, "timeout": PATIENCE, "backoff": 0.001, "input_price": 1.0, "output_price": 1.0}
    with pytest.MonkeyPatch.context() as patch, misbehaving(lambda it: behaving[-1](it)) as url:
        patch.setenv("FORWHY_LLM_KEY", KEY)
        patch.setenv("NO_PROXY", "127.0.0.1")
        options = ChatConfig(model="m", url=url, **config)

        def once(behave: Behaviour) -> Answer:
            behaving.append(behave)
            answer = client.ask(QUESTION)
            assert options.cost(answer.used) is not None
            return answer

        with Client(options, options.ledger()) as client:
            once(say(GOOD))  # what is imported only then takes its time
            yield once


@pytest.mark.parametrize("name", SERVERS)
def test_no_server_holds_a_call(name: str, ask: Ask) -> None:
    behave, reasons = SERVERS[name]
    start = time.monotonic()
    answer = ask(behave)
    assert time.monotonic() - start < LATE
    assert answer.reason in reasons, answer
    assert len(answer.detail) < 300
    assert answer.detail.isprintable()


def test_there_are_47_ways_and_more() -> None:
    assert len(SERVERS) >= 47


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status: int, ask: Ask) -> None:
    asked: list[bytes] = []
    with misbehaving(lambda connection: asked.append(b"x")) as other:
        there = f"Location: {other}/chat/completions\r\n"
        with pytest.raises(UserError, match=f"HTTP {status}"):
            ask(say(whole(b"", f"{status} Go", there)))
    assert not asked


@pytest.mark.parametrize("wait", ["1e308", "inf", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_server_can_make_nobody_rest_for_long(wait: str) -> None:
    with misbehaving(say(whole(b"", "429 No", f"Retry-After: {wait}\r\n"))) as url:
        config = ChatConfig(model="m", url=url, attempts=1, timeout=PATIENCE)
        with Client(config, config.ledger()) as client:
            assert client.ask(QUESTION).reason == "server"
            assert client._pace._next - time.monotonic() <= LONGEST_WAIT


def test_a_connection_that_is_kept_has_a_deadline_for_each_call() -> None:
    left = [whole(completion(), closes=False)]

    def behave(connection: socket.socket) -> None:
        connection.sendall(left.pop())
        connection.recv(1 << 16)
        drip(LONG_DRIP)(connection)

    with misbehaving(behave) as url:
        config = ChatConfig(model="m", url=url, attempts=1, timeout=PATIENCE)
        with Client(config, config.ledger()) as client:
            assert client.ask(QUESTION).text == "yes"
            start = time.monotonic()
            assert client.ask(QUESTION).reason == "timeout"
            assert time.monotonic() - start < LATE


def test_threads_that_a_server_holds_come_back_after_a_stop() -> None:
    with misbehaving(forever(b"HTTP/1.1 103 Early\r\n\r\n", 0.02)) as url:
        config = ChatConfig(model="m", url=url, timeout=1.0, attempts=100, concurrency=4)
        with open_chat(config) as chat, KeptAnswers() as kept:
            threading.Timer(0.3, chat.stop).start()
            start = time.monotonic()
            inquiries = [Inquiry(Question((Message("user", f"{n}"),)), str) for n in range(20)]
            replies = ask_all(chat, inquiries, kept)
            assert time.monotonic() - start < 4
    assert {reply.reason for reply in replies} <= {"timeout", "server"}


# --- Keys that a server repeats

HEXED = KEY.encode().hex()
WRITTEN = {
    "as it is": KEY,
    "cut": KEY[:14],
    "its end": KEY[-10:],
    "large letters": KEY.swapcase(),
    "letter by letter": " ".join(KEY),
    "line by line": "\n".join(KEY),
    "with what cannot be seen": "\u200b".join(KEY),
    "backwards": KEY[::-1],
    "as a list": repr(list(KEY)),
    "percents": "".join(f"%{ord(c):02x}" for c in KEY),
    "percents of signs": KEY.replace("-", "%2D"),
    "quoted printable": "".join(f"={ord(c):02X}" for c in KEY),
    "escapes of JSON": "".join(f"\\\\u{ord(c):04x}" for c in KEY),
    "escapes of Python": "".join(f"\\\\x{ord(c):02x}" for c in KEY),
    "escapes of HTML": "".join(f"&#{ord(c)};" for c in KEY),
    "base 64": base64.b64encode(KEY.encode()).decode(),
    "base 64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base 64 in an address": base64.urlsafe_b64encode(f"?{KEY}".encode()).decode(),
    "base 16": HEXED,
    "base 16 with colons": ":".join(HEXED[place : place + 2] for place in range(0, len(HEXED), 2)),
    "numbers": ", ".join(str(ord(c)) for c in KEY),
    "octal": "".join(f"\\\\{ord(c):03o}" for c in KEY),
    "base 64 of base 16": base64.b64encode(HEXED.encode()).decode(),
    "base 64 twice": base64.b64encode(base64.b64encode(KEY.encode())).decode(),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_key_is_shown_in_no_writing(name: str, ask: Ask) -> None:
    body = json.dumps({"error": {"message": f"wrong key: {WRITTEN[name]}"}}).encode()
    said = ask(say(whole(body, "500 No"))).detail
    assert said == "HTTP 500: (it repeats the key, so its words are not shown)"


@pytest.mark.parametrize("name", [name for name in WRITTEN if name not in {"as it is", "cut", "its end"}])
def test_an_answer_that_repeats_the_key_is_not_kept(name: str, ask: Ask) -> None:
    body = completion(choices=[{"message": {"content": WRITTEN[name]}, "finish_reason": "stop"}])
    answer = ask(say(whole(body)))
    assert (answer.text, answer.reason) == ("", "malformed")


def test_what_a_server_says_otherwise_is_shown(ask: Ask) -> None:
    said = b'{"error": {"message": "This model\'s maximum context length is 8192 tokens."}}'
    answer = ask(say(whole(said, "500 No")))
    assert answer.detail == "HTTP 500: This model's maximum context length is 8192 tokens."


def test_what_is_no_http_shows_no_key(ask: Ask) -> None:
    assert "A1b2" not in ask(say(f"HTTP/1.1 2x0 {KEY}\r\n\r\n".encode())).detail
