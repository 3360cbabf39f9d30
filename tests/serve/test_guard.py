"""Who may ask: keys, roles, rates, sizes, origins; and nothing hostile or secret gets out."""

from __future__ import annotations

import csv
import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient  # noqa: E402

from forwhy.serve import guard, keys  # noqa: E402
from forwhy.serve.app import VIEWS, create_app  # noqa: E402
from forwhy.serve.database import Database  # noqa: E402
from served import EVIL, ODD  # noqa: E402
from talking import Talk, detail  # noqa: E402

OPEN = {"GET /live", "GET /ready"}
READ = {
    "GET /metrics", "GET /v1/status", "GET /v1/runs", "GET /v1/runs/{run}/health", "GET /v1/runs/{run}/report",
    "GET /v1/users", "GET /v1/users/{user}", "GET /v1/items", "GET /v1/items/{item}", "GET /v1/items/{item}/similar",
    "GET /v1/events", "GET /v1/events/live", "GET /v1/experiments", "GET /v1/words", "GET /v1/words/map",
    "GET /v1/words/{token}", "GET /v1/words/{token}/owners.csv", "GET /v1/jobs", "GET /v1/jobs/{job}",
    "POST /v1/recommend", "POST /v1/explain", "POST /v1/what-if", "POST /v1/words/light", "POST /v1/chat/completions",
}  # fmt: skip
WRITE = {
    "PUT /v1/users/{user}", "PUT /v1/items/{item}", "POST /v1/events", "POST /v1/feedback",
    "PUT /v1/words/{token}/gloss",
}  # fmt: skip
ADMIN = {
    "DELETE /v1/users/{user}", "GET /v1/users/{user}/export", "PUT /v1/experiments/{name}",
    "DELETE /v1/experiments/{name}", "POST /v1/jobs/retrain", "GET /v1/audit",
}  # fmt: skip


@contextmanager
def serving(run: Path, place: Path, **options: Any) -> Iterator[Talk]:  # noqa: ANN401
    with (
        Database(f"sqlite:///{place}/serve.db") as database,
        TestClient(create_app([run], database, **options), raise_server_exceptions=False) as client,
    ):
        yield Talk(client)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    """All that is logged, also after a test of the command line, which sends it to stderr alone."""
    monkeypatch.setattr(logging.getLogger("forwhy"), "propagate", True)
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger="forwhy"):
        yield caplog


@pytest.fixture(scope="module")
def abroad(plain_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """A service that others can reach, with a key of each role."""
    with serving(plain_run, tmp_path_factory.mktemp("abroad"), loopback=False) as talk:
        talk.client.headers["host"] = "shop.example"
        yield talk


@pytest.fixture(scope="module")
def key(abroad: Talk) -> dict[str, str]:
    return {role: keys.add_key(abroad.service.database, f"a {role}", role) for role in keys.ROLES}


def test_every_path_has_its_role(abroad: Talk, key: dict[str, str]) -> None:
    described = abroad.ask("GET", "/openapi.json", headers=bearer(key["read"]))["paths"]
    paths = {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}
    assert paths == OPEN | READ | WRITE | ADMIN
    for endpoint in sorted(paths - {"GET /v1/events/live"}):
        method, path = endpoint.split()
        for part in ("{run}", "{user}", "{item}", "{token}", "{name}", "{job}"):
            path = path.replace(part, "none")
        body = {} if method in ("PUT", "POST") and "users" not in path and "items" not in path else None
        body = {"run": "none"} if "retrain" in path else body
        needed = next(rank for rank, of in enumerate((OPEN, READ, WRITE, ADMIN)) if endpoint in of)
        answer = abroad.client.request(method, path, json=body)
        assert (answer.status_code == 401) == (needed > 0), endpoint
        if needed:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "forwhy serve keys add" in detail(answer, 401)
        for rank, role in enumerate(keys.ROLES, 1):
            answer = abroad.client.request(method, path, json=body, headers=bearer(key[role]))
            assert answer.status_code not in (401, 500, 503), endpoint
            assert (answer.status_code == 403) == (rank < needed), (endpoint, role, answer.text)
            if rank < needed:
                assert f"needs a key of role {keys.ROLES[needed - 1]}" in detail(answer, 403)


def test_who_wrote_is_the_key(abroad: Talk, key: dict[str, str]) -> None:
    abroad.ask("PUT", "/v1/users/ida", {"data": {}}, 204, headers=bearer(key["write"]))
    rows = abroad.ask("GET", "/v1/audit?limit=1000", headers=bearer(key["admin"]))["record"]
    assert rows[-1]["who"] == "a write"
    assert abroad.ask("GET", "/v1/status", headers=bearer(key["read"]))["role"] == "read"


def test_keys_that_are_none(abroad: Talk, key: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (
        "Bearer",
        "Bearer ",
        "",
        "Basic eA==",
        "Bearer fw_no",
        f"Token {key['admin']}",
        f"Bearer {key['admin']}x",
    ):
        abroad.refusal(401, "GET", "/v1/status", headers={"authorization": text})
    assert (
        abroad.client.get("/v1/status", headers={"authorization": f"bearer  {key['read']} "}).status_code
        == 200
    )
    monkeypatch.setattr(guard, "_KEY_SECONDS", 0.0)
    late = keys.add_key(abroad.service.database, "late", "admin")
    abroad.ask("GET", "/v1/audit", headers=bearer(late))
    abroad.service.database.revoke_key("late")
    assert "revoked" in abroad.refusal(401, "GET", "/v1/audit", headers=bearer(late))


def test_a_key_on_this_machine_closes_it(
    plain_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_KEY_SECONDS", 0.0)
    with serving(plain_run, tmp_path) as talk:
        assert talk.ask("GET", "/v1/status")["role"] == "admin"
        assert talk.ask("GET", "/v1/status", headers=bearer("of another service"))["role"] == "admin"
        made = keys.add_key(talk.service.database, "one", "read")
        talk.refusal(401, "GET", "/v1/status")
        talk.refusal(401, "GET", "/v1/status", headers=bearer("of another service"))
        assert talk.ask("GET", "/v1/status", headers=bearer(made))["role"] == "read"
        for path in ("/live", "/ready", "/", "/page/app.js", "/docs"):
            assert talk.client.get(path).status_code == 200


def test_a_key_has_its_rate(plain_run: Path, tmp_path: Path) -> None:
    with serving(plain_run, tmp_path, loopback=False, per_minute=3) as talk:
        one, other = (keys.add_key(talk.service.database, name, "read") for name in ("one", "other"))
        for _ in range(3):
            talk.ask("GET", "/v1/status", headers=bearer(one))
        refused = talk.client.get("/v1/status", headers=bearer(one))
        assert "ask again in" in detail(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        talk.ask("GET", "/v1/status", headers=bearer(other))
        assert talk.client.get("/live").status_code == 200


def test_large_bodies_are_not_read(abroad: Talk, key: dict[str, str]) -> None:
    read = 0

    def pieces(megabytes: int) -> Iterator[bytes]:
        nonlocal read
        for _ in range(megabytes):
            read += 1
            yield b" " * (1 << 20)

    more = {"headers": {**bearer(key["admin"]), "content-type": "application/json"}}
    for path in ("/v1/events", "/v1/recommend", "/v1/explain", "/v1/chat/completions"):
        answer = abroad.client.post(path, content=pieces(50), **more)  # type: ignore[arg-type]
        assert "in several calls" in detail(answer, 413)
        answer = abroad.client.post(path, content=b" " * (9 << 20), **more)  # type: ignore[arg-type]
        assert "8 MiB" in detail(answer, 413)
    answer = abroad.client.put("/v1/items/x", content=pieces(9), **more)  # type: ignore[arg-type]
    detail(answer, 413)
    assert abroad.client.post("/v1/recommend", content=b" " * (7 << 20), **more).status_code in (400, 422)  # type: ignore[arg-type]


class _Inline(HTMLParser):
    found: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        bad = [name for name in given if name.startswith("on") or name == "style"]
        if bad or tag == "style" or (tag == "script" and not (given.get("src") or "").startswith("/")):
            self.found.append(f"{tag} {bad}")


def test_policy_of_pages(copied_run: Path, tmp_path: Path) -> None:
    (copied_run / "report.html").write_text("<!doctype html><style>b{color:red}</style><b>report</b>")
    with serving(copied_run, tmp_path) as talk:
        paths = [
            "/",
            *(f"/{view}" for view in VIEWS),
            "/people/someone/else",
            "/v1/runs/town/report",
            "/page/index.html",
        ]
        for path in [*paths, "/v1/status", "/openapi.json", "/metrics", "/nothing", "/page/app.js"]:
            answer = talk.client.get(path)
            policy = dict(
                it.strip().split(" ", 1) for it in answer.headers["content-security-policy"].split(";")
            )
            assert policy["default-src"] == policy["script-src"] == policy["connect-src"] == "'self'"
            assert policy["base-uri"] == policy["object-src"] == "'none'"
            inline = "'self' 'unsafe-inline'" if path.endswith("report") else "'self'"
            assert policy["style-src"] == inline
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not [name for name in answer.headers if name.startswith("access-control")]
            if path in paths:
                assert answer.status_code == 200, path
                assert answer.headers["content-type"].startswith("text/html")
            if path in paths and not path.endswith("report"):
                page = _Inline()
                page.found = []
                page.feed(answer.text)
                assert page.found == []
        asked = {"origin": "http://elsewhere.example", "access-control-request-method": "POST"}
        answer = talk.client.options("/v1/recommend", headers=asked)
        assert answer.status_code == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_other_hosts_and_origins(abroad: Talk, key: dict[str, str], plain_run: Path, tmp_path: Path) -> None:
    with serving(plain_run, tmp_path) as talk:
        for host in ("127.0.0.1:8000", "localhost", "[::1]:8000", "127.9.9.9"):
            talk.ask("GET", "/v1/status", headers={"host": host, "origin": f"http://{host}"})
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil.example:8000", ""):
            for path in ("/v1/status", "/", "/live"):
                assert "this machine alone" in talk.refusal(421, "GET", path, headers={"host": host})
        for origin in (
            "http://evil.example",
            "null",
            "http://testserver.evil.example",
            "http://testserver:81",
        ):
            assert "other origins" in talk.refusal(403, "GET", "/v1/status", headers={"origin": origin})
        for header in ({"host": "["}, {"host": "[::1"}, {"origin": "http://[x"}):
            talk.refusal(400, "GET", "/v1/status", headers=header)
    abroad.ask("GET", "/v1/status", headers={**bearer(key["read"]), "origin": "https://shop.example"})
    abroad.refusal(
        403, "GET", "/v1/status", headers={**bearer(key["read"]), "origin": "https://evil.example"}
    )


def test_hostile_rows(hostile_run: Path, tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    """Markup, formulas and control characters stay text in JSON and CSV, and no terminal obeys them from a log."""
    red, formula = "\x9b31mred\u202e", '=HYPERLINK("http://evil.example")'
    run = Path(shutil.copytree(hostile_run, tmp_path / "runs" / "hostile"))
    with serving(run, tmp_path) as talk:
        titles = [it["title"] for it in talk.ask("GET", "/v1/items?limit=100")["items"]]
        assert EVIL in titles
        listed = talk.client.post("/v1/recommend", json={"user": ODD, "k": 30, "explain": True})
        assert listed.headers["content-type"] == "application/json"
        assert "'s" not in listed.json()["run"]
        person = talk.ask("GET", f"/v1/users/{quote(ODD)}")
        assert person["id"] == ODD
        talk.ask(
            "PUT", f"/v1/items/{quote(formula)}", {"title": "\t@SUM(1)\r\n=2", "text": "coffee, cake"}, 204
        )
        talk.ask("PUT", f"/v1/items/{quote(red)}", {"title": " ", "text": " "}, 204)
        talk.service.look()
        token = talk.ask("GET", f"/v1/items/{quote(formula)}")["tokens"][0]["token"]
        answer = talk.client.get(f"/v1/words/{quote(token)}/owners.csv")
        assert answer.headers["content-type"].startswith("text/csv")
        cells = [cell for row in csv.reader(io.StringIO(answer.text)) for cell in row]
        assert f"'{formula}" in cells
        assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
        talk.refusal(413, "GET", "/v1/status", headers={"content-length": "9" * 5000})
        for odd in ("a/b", "a/export", "./..", "50%", "?q#"):  # ids as the shop has them
            talk.ask("PUT", f"/v1/users/{quote(odd, safe='')}", {"data": {"id": odd}}, 204)
            assert talk.ask("GET", f"/v1/users/{quote(odd, safe='')}/export")["users"][0]["id"] == odd
            assert talk.ask("DELETE", f"/v1/users/{quote(odd, safe='')}")["deleted"]["users"] == 1
        for bad in ("\x1b[2J", "a\nb", "\x7f", "\0", ""):
            body = {"key": "k", "user": bad, "item": "x"}
            assert "user" in talk.refusal(422, "POST", "/v1/events", body)
            if bad:
                assert talk.client.get(f"/v1/users/{quote(bad)}").status_code in (404, 422)
        talk.refusal(404, "GET", f"/v1/users/{quote(red)}")
        talk.refusal(404, "GET", f"/v1/{quote(chr(27))}[31m")
        for sql in ("'; DROP TABLE events; --", '"', "%", "\\", "a' OR '1'='1"):
            talk.ask("PUT", f"/v1/users/{quote(sql)}", {"data": {sql: sql}}, 204)
            assert talk.ask("GET", f"/v1/users/{quote(sql)}")["data"] == {sql: sql}
            assert talk.ask("GET", f"/v1/events?user={quote(sql)}")["events"] == []
    said = "\n".join(record.getMessage() for record in logged.records if record.name.startswith("forwhy"))
    assert "is not listed" in said  # the blank one
    assert not [one for one in said if not one.isprintable() and one != "\n"]


def test_no_secret_is_told(
    server: Any,  # noqa: ANN401 - a PostgreSQL server
    plain_run: Path,
    logged: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    from postgres import new_url

    with (
        Database(new_url("postgresql", request)) as database,
        TestClient(
            create_app([plain_run], database, loopback=False), raise_server_exceptions=False
        ) as client,
    ):
        made = keys.add_key(database, "one", "admin")
        texts = [
            client.get(path, headers=bearer(made)).text
            for path in ("/v1/status", "/metrics", "/v1/audit", "/ready")
        ]
        texts += [client.get("/v1/status", headers=bearer(made + "x")).text, client.get("/v1/nothing").text]
        with database.reading() as connection:
            stored = str(connection.exec_driver_sql("SELECT * FROM keys").all())
    for text in [*texts, logged.text]:
        assert "s3cr3t" not in text
        assert made not in text
        assert keys.hashed(made) not in text
    assert made not in stored
    assert keys.hashed(made) in stored
