"""Calls to an OpenAI-compatible server: every ending has a name and a price, and none exceeds the budget."""

from __future__ import annotations

import json
import math
import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from forwhy.errors import UserError
from forwhy.text.chat.base import LLM, STOPPED, Answer, AskingConfig, Ledger, Question, Reason, Speaker, Tally

if TYPE_CHECKING:
    from httpx2 import Request
    from openai import APIStatusError

LONGEST_WAIT = 300.0
"""Seconds that a server's Retry-After is obeyed for."""
LARGEST_ANSWER = 1 << 20
TEMPLATE_TOKENS = 64
"""What a server may wrap around the messages."""
_AGAIN: frozenset[Reason | None] = frozenset({"timeout", "server"})
_SECRET = 16
"""Letters of the shortest key that is looked for in answers; a shorter one is a word such as `none`."""
_UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""Errors of httpx2 before anything was sent."""
_HEADERS = frozenset(
    {"host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent"}
    | {"x-stainless-raw-response"}
)
"""What a request carries beside our key; the last is how the openai client knows that we read the answer ourselves."""


class Pace:
    """Gives out moments to call at: evenly spaced, none while the server has asked for rest. Safe from threads.

    Args:
        per_minute: Most calls in a minute; 0 = no limit.
        stopped: Ends all waiting.
    """

    def __init__(self, per_minute: float, stopped: Event) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._stopped, self._lock = stopped, Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this call's turn, or at once after a stop."""
        while not self._stopped.is_set():
            with self._lock:
                now = time.monotonic()
                if self._next <= now:
                    self._next = now + self._gap
                    return
                left = self._next - now
            self._stopped.wait(left)

    def rest(self, seconds: float) -> None:
        """No call for so long: what a server says to one caller holds for all."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@dataclass(frozen=True)
class _Ended:
    """How a call ended."""

    answer: Answer
    wait: float = 0.0
    """Seconds that the server asks for before the next attempt."""
    busy: bool = False
    """Whether it says so of all calls, not of this one."""


class Client:
    """One model's server, a `Chat`; safe from several threads, to be closed.

    The `openai` client carries the calls. Attempts are ours: each is held in the ledger before it is made, all
    threads rest when the server is busy, and a stop ends every wait.

    Raises:
        UserError: openai is missing, no address, or a key or an address that cannot be used.
    """

    def __init__(self, config: AskingConfig, ledger: Ledger) -> None:
        try:
            from openai import DefaultHttpxClient, OpenAI
        except ModuleNotFoundError as error:
            raise UserError("openai is not installed; `pip install 'forwhy[chat]'` brings it") from error
        self._config, self._ledger, self._speaker, self._stopped = config, ledger, config.speaker, Event()
        self._pace = Pace(config.requests_per_minute, self._stopped)
        self.model, self.concurrency = config.model, config.concurrency
        self._structured = config.structured
        self.url, self._key = endpoint(config.url, config.speaker), _key(config.speaker)
        self._openai = OpenAI(
            api_key=self._key or "none",
            base_url=self.url.removesuffix("/chat/completions"),
            timeout=config.timeout,
            max_retries=0,
            http_client=DefaultHttpxClient(
                follow_redirects=False, timeout=config.timeout, event_hooks={"request": [self._bare]}
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._openai.close()

    def stop(self) -> None:
        """End all waiting; a call that is not under way is not made any more: `server`, `STOPPED`."""
        self._stopped.set()

    def ask(self, question: Question) -> Answer:
        """The answer, after as many attempts as it takes and the options allow; `used` is of all of them.

        Raises:
            UserError: the server says that no call can succeed: wrong key, model or address.
        """
        used, attempt = Tally(), 0
        while True:
            ended = self._either_way(question)
            used, attempt = used + ended.answer.used, attempt + 1
            last = ended.answer.reason not in _AGAIN or attempt == self._config.attempts
            if last or self._stopped.wait(self._pause(attempt, ended.wait)):
                return replace(ended.answer, used=used)

    def _bare(self, request: Request) -> None:
        """Keep our own key and nothing that the library finds in the environment, such as another service's."""
        for name in set(request.headers) - _HEADERS:
            del request.headers[name]
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"

    def _pause(self, attempt: int, wait: float) -> float:
        delay = self._config.backoff * 2.0 ** min(attempt - 1, 16) * random.uniform(0.5, 1.5)  # noqa: S311
        return min(max(delay, wait), LONGEST_WAIT)

    def _either_way(self, question: Question) -> _Ended:
        """With the schema, and where this is rejected without; what works for one is kept for all."""
        structured = self._structured and question.schema is not None
        ended = self._call(question, structured)
        if ended.answer.reason != "rejected" or not structured:
            return ended
        plain = self._call(question, structured=False)
        if plain.answer.reason in {None, "refused", "truncated"}:
            self._structured = False
        return replace(plain, answer=replace(plain.answer, used=ended.answer.used + plain.answer.used))

    def _call(self, question: Question, structured: bool) -> _Ended:
        body = _body(question, self._config, structured)
        most = _most(question, body)
        self._pace.wait()
        if self._stopped.is_set():
            return _Ended(Answer(reason="server", detail=STOPPED))
        if not self._ledger.hold(most):
            return _Ended(Answer(reason="budget", detail="the budget is spent"))
        used = most
        try:
            ended = self._send(body, most)
            used = ended.answer.used
        finally:
            self._ledger.book(most, used)
        if ended.busy:
            self._pace.rest(min(ended.wait, LONGEST_WAIT))
        return ended

    def _send(self, body: dict[str, Any], most: Tally) -> _Ended:
        """One call. One that may have been answered unseen counts as having used its bound."""
        from httpx2 import HTTPError, TimeoutException
        from openai import APIConnectionError, APIStatusError

        try:
            answer = _read(self._post(body), most)
            # Answers are kept, so a server that repeats our key must not get it into them.
            return _Ended(replace(answer, text=self._scrubbed(answer.text, _SECRET)))
        except APIStatusError as error:
            return self._refusal(error)
        except (APIConnectionError, HTTPError) as error:
            cause = error.__cause__ if isinstance(error, APIConnectionError) else error
            unsent, late = type(cause).__name__ in _UNSENT, isinstance(cause, TimeoutException)
            what = "no connection" if unsent else "connection broken"
            detail = (
                f"no answer within {self._config.timeout:g} s" if late and not unsent else f"{what}: {cause}"
            )
            reason: Reason = "timeout" if late else "server"
            return _Ended(Answer(reason=reason, detail=detail, used=Tally(1) if unsent else most))

    def _post(self, body: dict[str, Any]) -> bytes:
        """At most some more than `LARGEST_ANSWER` bytes of the answer, all within the time allowed."""
        from httpx2 import ReadTimeout

        end, content = time.monotonic() + self._config.timeout, bytearray()
        with self._openai.chat.completions.with_streaming_response.create(**body) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if time.monotonic() > end:
                    raise ReadTimeout("the answer comes too slowly")
                if len(content) > LARGEST_ANSWER:
                    break
        return bytes(content)

    def _refusal(self, error: APIStatusError) -> _Ended:
        """What a status other than 200 means for this question.

        Raises:
            UserError: that it means the same for every other.
        """
        status = error.status_code
        message = error.body.get("message") if isinstance(error.body, dict) else None
        text = self._scrubbed(str(message or error.response.text))
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
        detail = f"HTTP {status}: {line or 'nothing more'}"
        if status in {408, 425, 429} or status >= 500:
            wait = _seconds(error.response.headers.get("retry-after", ""))
            return _Ended(Answer(reason="server", detail=detail, used=Tally(1)), wait, busy=status == 429)
        if status < 400 or status in {401, 402, 403, 404, 405}:
            what = f"{self._speaker.key_name}, the model's name and the address"
            raise UserError(f"{self._speaker.who} {self.model!r} at {self.url}: {detail}; check {what}")
        return _Ended(Answer(reason="rejected", detail=detail, used=Tally(1)))

    def _scrubbed(self, text: str, shortest: int = 1) -> str:
        return text.replace(self._key, "[key]") if len(self._key) >= shortest else text


def bound(question: Question, config: AskingConfig) -> Tally:
    """Most that one call can take: a token is at least one byte of what is sent."""
    return _most(question, _body(question, config, config.structured and question.schema is not None))


def _most(question: Question, body: dict[str, Any]) -> Tally:
    size = len(json.dumps(body, ensure_ascii=False).encode())
    return Tally(1, size + TEMPLATE_TOKENS, question.max_tokens, estimated=1)


def _body(question: Question, config: AskingConfig, structured: bool) -> dict[str, Any]:
    """What is posted; lone surrogates have no encoding, so that no server could read them."""
    turns = [{"role": turn.role, "content": _encodable(turn.content)} for turn in question.messages]
    body: dict[str, Any] = {"model": config.model, "messages": turns, "temperature": 0}
    body["max_tokens"] = question.max_tokens
    if structured:
        schema = {"name": config.speaker.schema_name, "strict": True, "schema": question.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def endpoint(url: str | None, speaker: Speaker = LLM) -> str:
    """Where to post, from the address of the interface or, without one, from the environment.

    Raises:
        UserError: no address, not one of the web, or one that holds a name and a password.
    """
    who, name = speaker.who, speaker.url_name
    given = (url or os.environ.get(name, "")).strip().rstrip("/").removesuffix("/chat/completions")
    if not given:
        raise UserError(
            f"the {who} has no address; give its URL or set {name}, such as http://127.0.0.1:8000/v1"
        )
    try:
        parts = urlsplit(given)
        hidden = bool(parts.username or parts.password)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        hidden, usable = "@" in given, False
    if hidden:
        raise UserError(f"{who} URL: holds a name or a password; put the key into {speaker.key_name} instead")
    if not usable or parts.query or parts.fragment:
        raise UserError(f"{who} URL {given!r}: not an address such as http://127.0.0.1:8000/v1")
    return f"{given}/chat/completions" if parts.path else f"{given}/v1/chat/completions"


def _key(speaker: Speaker) -> str:
    key = os.environ.get(speaker.key_name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(
            f"{speaker.key_name}: holds letters that no HTTP header carries; set the key as its server gave it"
        )
    return key


def _read(content: bytes, most: Tally) -> Answer:
    """The model's words in a completion, or what it gave instead of them."""
    from openai.types.chat import ChatCompletion

    try:
        completion = ChatCompletion.construct(**json.loads(content))
        choice = completion.choices[0]
        text, refusal, finish = choice.message.content or "", choice.message.refusal, choice.finish_reason
        text = _encodable(text)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return Answer(reason="server", detail="HTTP 200, but no completion in it", used=most)
    used = _used(completion.usage, most)
    if refusal or finish == "content_filter":
        return Answer(reason="refused", used=used)
    return Answer(reason="truncated", used=used) if finish == "length" else Answer(text, used=used)


def _used(usage: object, most: Tally) -> Tally:
    """The server's own counts, where it tells any."""
    counts = [getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
    told = [count for count in counts if isinstance(count, int) and count >= 0]
    return Tally(1, *told) if len(told) == len(counts) else most


def _seconds(retry_after: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or as a date; 0 where it says nothing."""
    with suppress(ValueError):
        seconds = float(retry_after)
        return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
    with suppress(ValueError, TypeError, OverflowError):
        date = parsedate_to_datetime(retry_after)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    return 0.0
