"""Bodies that no client sends: no 500, no row kept that a database cannot hold, an answer within seconds."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("fastapi")

from talking import Talk  # noqa: E402

USER, ITEM = "ada-larsen", "amber-bell-cinema"
DEEP, DIGITS = 100_000, "9" * 5_000
TEXTS = {
    "half": '"\\ud800"',
    "half behind": '"tea\\udfff"',
    "nul": '"tea\\u0000"',
    "control": '"\\u001b[2J\\u009b31m"',
    "bidi": '"\\u202egnp"',
    "megabyte": '"' + "a" * 1_000_000 + '"',
    "digits": DIGITS,
    "large": "1" + "0" * 400,
    "decimals": "1e999",
    "not a number": "NaN",
    "endless": "-Infinity",
    "deep list": "[" * DEEP + "]" * DEEP,
    "deep table": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "nested": "[" * 400 + "]" * 400,
    "keys": "{" + ",".join(f'"{n}":1' for n in range(100_000)) + "}",
    "half a key": '{"\\ud800": 1}',
    "nul as key": '{"\\u0000": 1}',
    "same key": '{"a": 1, "a": 2}',
    "null": "null",
    "true": "true",
    "empty": '""',
    "place": '"../../../etc/passwd"',
    "format": '"%s%n{0.__class__}"',
    "sql": '"\'; DROP TABLE events; --"',
}
BODIES = {
    "recommend": ("POST", "/v1/recommend", '{"user": %s}'),
    "a history": ("POST", "/v1/recommend", '{"history": [%s]}'),
    "a text": ("POST", "/v1/recommend", '{"about": %s}'),
    "a number": ("POST", "/v1/recommend", f'{{"user": "{USER}", "k": %s}}'),
    "a boost": ("POST", "/v1/recommend", f'{{"user": "{USER}", "boost": {{"{ITEM}": %s}}}}'),
    "explain": ("POST", "/v1/explain", f'{{"user": "{USER}", "item": %s}}'),
    "item text": ("POST", "/v1/explain", f'{{"user": "{USER}", "item_text": %s}}'),
    "what if": ("POST", "/v1/what-if", f'{{"user": "{USER}", "without": [%s]}}'),
    "light": ("POST", "/v1/words/light", '{"text": %s}'),
    "event": ("POST", "/v1/events", f'{{"key": "k", "user": "{USER}", "item": %s}}'),
    "value": ("POST", "/v1/events", f'{{"key": "k", "user": "{USER}", "item": "{ITEM}", "value": %s}}'),
    "time": ("POST", "/v1/events", f'{{"key": "k", "user": "{USER}", "item": "{ITEM}", "time": %s}}'),
    "feedback": ("POST", "/v1/feedback", '{"kind": "wrong", "impression": %s}'),
    "a user": ("PUT", "/v1/users/somebody", '{"data": {"a": %s}}'),
    "user's keys": ("PUT", "/v1/users/somebody", '{"data": %s}'),
    "an item": ("PUT", "/v1/items/something", '{"title": %s}'),
    "item's data": ("PUT", "/v1/items/something", '{"data": {"a": %s}}'),
    "chat": ("POST", "/v1/chat/completions", '{"messages": [{"role": "user", "content": %s}]}'),
    "an unknown name": ("POST", "/v1/recommend", "{%s: 1}"),
    "all": ("POST", "/v1/recommend", "%s"),
}


@pytest.mark.parametrize("where", BODIES)
def test_no_body_breaks_the_service(where: str, talk: Talk) -> None:
    method, path, body = BODIES[where]
    wrong, start = [], time.monotonic()
    for name, text in TEXTS.items():
        sent = (body % text).encode()
        try:
            answer = talk.client.request(
                method, path, content=sent, headers={"content-type": "application/json"}
            )
        except Exception as error:
            wrong.append((name, f"{type(error).__name__}: {error}"[:150]))
            continue
        if answer.status_code >= 500:
            wrong.append((name, answer.text[:150]))
        elif answer.status_code >= 400 and len(answer.json()["detail"]) > 600:
            wrong.append((name, f"{len(answer.json()['detail'])} letters"))
        elif answer.status_code < 300 and method == "PUT":
            talk.ask("GET", path)
            if "users" in path:
                talk.ask("DELETE", path)
    assert not wrong, json.dumps(wrong, indent=1)
    assert time.monotonic() - start < 30
