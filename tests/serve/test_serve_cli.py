"""`forwhy serve` on the command line: keys, backups, what it serves, and what it refuses in one line."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from forwhy.cli import main  # noqa: E402
from forwhy.serve import server as listening  # noqa: E402
from forwhy.serve.database import Database  # noqa: E402

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Exit status, output and errors of `forwhy serve …`, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def called(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(["serve", *map(str, arguments)])
        printed = capsys.readouterr()
        return int(leaving.value.code or 0), printed.out, printed.err

    return called


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What uvicorn was asked to serve; it does not."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(
        listening.uvicorn, "run", lambda app, **options: found.append({"app": app, **options})
    )
    yield found
    for service in (it["app"].state.service for it in found if not isinstance(it["app"], str)):
        service.stop()
        service.database.close()


def refused(call: Call, *arguments: object) -> str:
    """The one line of a command that is refused."""
    status, out, err = call(*arguments)
    assert status == 2, (out, err)
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("forwhy: ")
    return err


def test_keys(call: Call, url: str) -> None:
    place = ("--database", url)
    status, out, _ = call("keys", "add", "shop", "--role", "write", *place)
    assert status == 0
    assert re.fullmatch(r"fw_[\w-]{43}\n", out)
    made = json.loads(call("keys", "add", "boss", "--role", "admin", "--json", *place)[1])
    assert (made["name"], made["role"], made["key"][:3]) == ("boss", "admin", "fw_")
    assert call("keys", "add", "eve", *place)[0] == 0
    listed = json.loads(call("keys", "list", "--json", *place)[1])
    assert [(it["name"], it["role"], it["revoked"]) for it in listed] == [
        ("boss", "admin", None), ("eve", "read", None), ("shop", "write", None),
    ]  # fmt: skip
    shown = call("keys", "list", *place)[1]
    assert [line.split()[:2] for line in shown.splitlines()] == [
        ["boss", "admin"],
        ["eve", "read"],
        ["shop", "write"],
    ]
    assert made["key"] not in shown + json.dumps(listed)
    assert call("keys", "revoke", "eve", *place)[1] == "eve: let in no more\n"
    assert [it["name"] for it in json.loads(call("keys", "list", "--json", *place)[1]) if it["revoked"]] == [
        "eve"
    ]
    assert "keys list` shows them" in refused(call, "keys", "revoke", "eve", *place)
    assert "choose another" in refused(call, "keys", "add", "eve", *place)
    assert "choose read, write, admin" in refused(call, "keys", "add", "x", "--role", "king", *place)
    assert "choose plain letters" in refused(call, "keys", "add", "a\x1b[31m", *place)


def test_a_revoked_key_is_shown_as_such(call: Call) -> None:
    call("keys", "add", "eve")
    call("keys", "revoke", "eve")
    assert "revoked" in call("keys", "list")[1]
    assert call("keys", "list", "--database", "sqlite:///other.db")[1] == "no keys\n"


def test_backup_and_restore(call: Call, url: str, tmp_path: Path) -> None:
    with Database(url) as database:
        database.upgrade()
        database.put("users", [{"id": f"u{it}", "data": {"n": it}} for it in range(5)])
        database.add_events([{"key": str(it), "user": "u1", "item": "tea", "value": 0.1} for it in range(30)])
        database.rename_word("town", "<u.macro_1>", "tea people", "eve")
        expected = database.page("events", 99)[0], database.page("users", 99)[0], database.renamed("town")
    status, out, _ = call("backup", "all.jsonl.gz", "--database", url)
    assert (status, out) == (0, "all.jsonl.gz: 36 rows\n")
    assert (tmp_path / "all.jsonl.gz").stat().st_mode & 0o777 == 0o600
    status, out, _ = call("restore", "all.jsonl.gz", "--database", "sqlite:///again.db")
    assert (status, out) == (0, "all.jsonl.gz: 36 rows are back\n")
    with Database(f"sqlite:///{tmp_path}/again.db") as other:
        assert (other.page("events", 99)[0], other.page("users", 99)[0], other.renamed("town")) == expected
    assert "name an empty database" in refused(
        call, "restore", "all.jsonl.gz", "--database", "sqlite:///again.db"
    )
    assert "name a file of `forwhy serve backup`" in refused(
        call, "restore", "none.gz", "--database", "sqlite:///c.db"
    )
    (tmp_path / "all.jsonl.gz").write_bytes(b"no gzip")
    assert "nothing was restored" in refused(call, "restore", "all.jsonl.gz", "--database", "sqlite:///d.db")
    refused(call, "backup", "all.jsonl.gz/x.gz", "--database", url)


def test_what_is_refused(call: Call, plain_run: Path, tmp_path: Path, listened: list[dict[str, Any]]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("dear diary " * 99)
    assert "name a run folder, as in `forwhy serve runs/mine`, or give --demo" in refused(call)
    assert "nowhere" in refused(call, "nowhere")
    assert "empty" in refused(call, "empty")
    assert "nowhere" in refused(call, plain_run, "nowhere")
    said = refused(call, plain_run, "--host", "0.0.0.0")
    assert "forwhy serve keys add NAME --role read" in said
    for host in ("192.0.2.1", "no host", "::"):
        refused(call, plain_run, "--host", host)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with Database(f"sqlite:///{tmp_path}/busy.db") as busy:
            busy.upgrade()
            busy.add_job("j", {"run": "town"})
            said = refused(call, plain_run, "--port", taken.getsockname()[1], "--database", str(busy.url))
            assert busy.jobs()[0]["state"] == "waiting"  # who listens there may be at it
    assert "ddress already in use; choose another" in said
    for option, value in (
        ("--port", 70_000),
        ("--port", "x"),
        ("--workers", 0),
        ("--per-minute", 0),
        ("--wrkers", 2),
    ):
        assert option in refused(call, plain_run, option, value)
    assert "write sqlite:///" in refused(call, plain_run, "--database", "nothing")
    assert "mysql" in refused(call, plain_run, "--database", "mysql://me:secret@host/db")
    assert "no SQLite database" in refused(call, plain_run, "--database", "sqlite:///notes.txt")
    away = "postgresql://me:s3cr3t@127.0.0.1:1/shop"
    said = refused(call, plain_run, "--database", away)
    assert "start it, or check its address" in said
    assert "s3cr3t" not in said
    with Database("sqlite:///newer.db") as database:
        database.upgrade()
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert "pip install --upgrade forwhy" in refused(call, plain_run, "--database", "sqlite:///newer.db")
    assert listened == []


def test_what_is_served(call: Call, plain_run: Path, town_run: Path, listened: list[dict[str, Any]]) -> None:
    status, out, err = call(town_run, plain_run, "--port", "0")
    assert (status, out) == (0, "")
    assert "http://127.0.0.1:0: page, API and, at /docs, its description; Ctrl-C stops it\n" in err
    assert list(listened[0]["app"].state.service.runs) == ["town", "plain"]
    assert (listened[0]["host"], listened[0]["port"]) == ("127.0.0.1", 0)
    assert Path("serve.db").exists()
    assert call(plain_run, plain_run, "--port", "0", "--host", "::1")[0] == 0
    assert list(listened[1]["app"].state.service.runs) == ["plain", "plain-2"]
    assert call("keys", "add", "shop")[0] == 0
    assert call(plain_run, "--host", "0.0.0.0", "--port", "0")[0] == 0
    assert call("--workers", "2", plain_run, "--port", "0")[0] == 0
    assert listened[3]["app"] == "forwhy.serve.server:application"
    assert listened[3]["workers"] == 2
    listened.append({"app": listening.application()})
    assert list(listened[4]["app"].state.service.runs) == ["plain"]


def test_the_demo(
    call: Call,
    plain_run: Path,
    tmp_path: Path,
    listened: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[Path] = []

    def demo(folder: Path) -> None:
        made.append(folder)
        shutil.copytree(plain_run, folder / "run")
        (folder / "run" / "evaluation.json").write_text("{}")

    monkeypatch.setattr("forwhy.cli.run.demo", demo)
    for _ in range(2):  # what is there is not made again
        assert call("--demo", "--port", "0")[0] == 0
    assert made == [Path("demo")]
    assert call(plain_run, "--demo", "--port", "0")[0] == 0
    assert list(listened[2]["app"].state.service.runs) == ["plain", "run"]


def test_help(call: Call) -> None:
    for arguments in (
        ("--help",),
        ("run", "--help"),
        ("keys", "--help"),
        ("keys", "add", "-h"),
        ("restore", "-h"),
    ):
        status, out, err = call(*arguments)
        assert status == 0
        assert "Usage: forwhy serve" in out + err
