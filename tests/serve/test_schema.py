"""Migrations, backups between the two databases, and a database that is away, locked, full, read-only or newer."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from forwhy.errors import UserError
from forwhy.serve import connection as reached
from forwhy.serve.backup import backup, restore
from forwhy.serve.database import Database, DatabaseDown, NewerSchema
from forwhy.serve.tables import metadata
from postgres import Server, new_url


def fill(database: Database) -> None:
    database.put("users", [{"id": "ann", "data": {"é": [1.5, None]}}])
    database.put("items", [{"id": "tea", "title": "Tea\n\"😀'", "available": False}])
    database.add_events([{"key": str(it), "user": "ann", "item": "tea", "value": 0.1} for it in range(2500)])
    database.delete_user("bob")
    database.put("impressions", [{"id": "i", "run": "r", "items": [{"item": "tea"}]}])
    database.add_feedback({"id": "f", "kind": "clicked", "impression": "i"})
    database.put(
        "answers", [{"key": "k", "run": "r", "user": "ann", "item": "tea", "document": {"text": "why"}}]
    )
    database.rename_word("r", "w", "sweet", "me")
    database.put_experiment({"name": "x", "arms": {}})
    database.add_job("j", {})
    database.audit("me", "look", {})
    database.add_key("shop", "read", "hash")


def content(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.reading() as connection:
        return {
            name: sorted(map(tuple, connection.execute(table.select())), key=str)
            for name, table in metadata.tables.items()
        }


def other_type(context: MigrationContext, *given: Any) -> bool:  # noqa: ANN401
    """Whether the database's type is another than the code's, as SQL says them."""
    found, wanted = (str(it.compile(dialect=context.dialect)) for it in given[-2:])
    return found != wanted


def test_migrations_make_the_tables_of_the_code(url: str) -> None:
    """From the first schema, with rows in it, to the last; which is what `tables` says."""
    with Database(url) as database:
        assert database.schema() is None
        database.upgrade("0001")
        assert database.schema() == "0001"
        fill(database)
        before = content(database)
        database.upgrade()
        database.upgrade()
        assert content(database) == before
        with database.reading() as connection:
            found = MigrationContext.configure(connection, opts={"compare_type": other_type})
            assert compare_metadata(found, metadata) == []


def test_a_newer_schema_is_refused(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(
        NewerSchema, match=r"made by a newer forwhy \(schema 9999, here 0001\); `pip install --upg"
    ):
        database.upgrade()


def test_tables_of_another_program_are_left_alone(url: str) -> None:
    with Database(url) as database:
        with database.writing() as connection:
            connection.execute(text("CREATE TABLE users (id INTEGER)"))
        with pytest.raises(
            UserError, match=r"another program's tables \(users\); name a database of its own"
        ):
            database.upgrade()
        with pytest.raises(
            DatabaseDown, match="no tables of forwhy serve .*; start `forwhy serve`, which makes"
        ):
            database.ping()


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_a_backup_is_restored_by_both(
    database: Database, to: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fill(database)
    file = tmp_path / "all.gz"
    assert backup(database, file) == 2510
    assert file.stat().st_mode & 0o777 == 0o600
    with Database(new_url(to, request)) as other:
        assert restore(other, file) == 2510
        assert content(other) == content(database)
        assert other.add_events([{"key": "new", "user": "ann", "item": "mud"}]) == [True]
        assert other.events_after(2500, 9)[0]["key"] == "new"
        other.rename_word("r", "w", "bitter", "me")
        with pytest.raises(UserError, match=r"has rows already \(.*users.*\); name an empty database"):
            restore(other, file)


def test_a_damaged_backup_restores_nothing(database: Database, tmp_path: Path) -> None:
    assert backup(database, tmp_path / "none.gz") == 0
    database.put("users", [{"id": str(it)} for it in range(3)])
    whole = tmp_path / "all.gz"
    backup(database, whole)
    lines = gzip.decompress(whole.read_bytes()).splitlines(keepends=True)
    database.delete_user("0"), database.delete_user("1"), database.delete_user("2")
    broken = {
        "cut": whole.read_bytes()[:-20],
        "flipped": whole.read_bytes()[:60] + bytes([whole.read_bytes()[60] ^ 255]) + whole.read_bytes()[61:],
        "fewer": gzip.compress(b"".join(lines[:-2] + lines[-1:])),
        "endless": gzip.compress(b"".join(lines[:-1])),
        "other": gzip.compress(b'{"kind": "shop"}\n'),
        "table": gzip.compress(lines[0] + b'["nothing", {"a": 1}]\n{"rows": 1}\n'),
        "column": gzip.compress(lines[0] + b'["users", {"a": 1}]\n{"rows": 1}\n'),
        "plain": b"user,item\n",
        "empty": b"",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: no whole file of `forwhy serve backup` "):
            restore(database, tmp_path / name)
        assert database.page("users", 9)[0] == []
    newer = json.dumps({"kind": "forwhy serve: backup", "schema": "9999"}).encode()
    (tmp_path / "newer").write_bytes(gzip.compress(newer))
    with pytest.raises(UserError, match="newer: made by a newer forwhy"):
        restore(database, tmp_path / "newer")
    with pytest.raises(UserError, match="nowhere: No such file or directory; name a file"):
        restore(database, tmp_path / "nowhere")
    assert restore(database, whole) == 3


# --- what can be wrong with a database


def test_urls() -> None:
    for url, message in {
        "what:secret": "no URL; write sqlite:///serve.db",
        "mysql://me:secret@host/db": r"mysql://me:\*\*\*@host/db: no such database; write sqlite:///FILE",
        "sqlite://": "names no file",
        "sqlite:///:memory:": "names no file",
        "postgresql://me:secret@host": "names no database",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            Database(url)
        assert "secret" not in str(caught.value)


def refused(database: Database, message: str) -> None:
    with pytest.raises(DatabaseDown, match=message) as caught:
        database.add_events([{"key": "late", "user": "ann", "item": "tea"}])
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def lite(tmp_path: Path) -> tuple[Path, Database]:
    file = tmp_path / "serve.db"
    database = Database(f"sqlite:///{file}")
    database.upgrade()
    return file, database


def test_sqlite_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reached, "WAIT", 0.2)
    file, database = lite(tmp_path)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused(database, "another program holds it locked .*; end that, or try again")
    assert database.page("events", 9) == ([], None)
    other.close()
    assert database.add_events([{"key": "late", "user": "ann", "item": "tea"}]) == [True]
    database.close()


def test_sqlite_full(tmp_path: Path) -> None:
    _, database = lite(tmp_path)
    with database.writing() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(DatabaseDown, match="its disk is full .*; free some space"), database._told():
            connection.exec_driver_sql("INSERT INTO users VALUES ('x', hex(randomblob(9999)), '')")
    assert database.page("users", 9)[0] == []
    database.close()


def test_sqlite_only_read(tmp_path: Path) -> None:
    file, database = lite(tmp_path)
    database.put("users", [{"id": "ann"}])
    database.close()
    with Database(f"sqlite:///file:{file}?mode=ro&uri=true") as only:
        refused(only, "it can only be read .*; allow writing to it")
        assert len(only.page("users", 9)[0]) == 1
        only.upgrade()
    assert not Path("file:").exists()


def test_sqlite_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("dear diary " * 200)
    with (
        Database(f"sqlite:///{tmp_path}/notes.txt") as database,
        pytest.raises(
            DatabaseDown, match="no SQLite database, or a damaged one .*; name another, or restore"
        ),
    ):
        database.upgrade()
    with (
        Database(f"sqlite:///{tmp_path}/notes.txt/x.db") as database,
        pytest.raises(DatabaseDown, match="; name a file that can be written"),
    ):
        database.upgrade()
    with Database(f"sqlite:///{tmp_path}/new/serve.db") as database:
        database.upgrade()
    assert (tmp_path / "new" / "serve.db").stat().st_mode & 0o777 == 0o600


def test_postgresql_that_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reached, "WAIT", 1)
    server = Server("-c fsync=off")
    try:
        database = Database(server.url.replace("+psycopg", ""))
        database.upgrade()
        with Database(server.url) as other, other.writing("forwhy serve: events"):
            refused(database, "another program holds it locked")
        with database.writing() as connection:
            connection.execute(text("ALTER DATABASE postgres SET default_transaction_read_only = on"))
        database.close()
        refused(database, "it can only be read .*; allow writing to it")
        database.page("users", 9)
        database.close()
        with Database(server.url.replace("s3cr3t", "wr0ng")) as other:
            refused(other, "it refuses the name or the password")
        with Database(server.url.replace("/postgres", "/nothing")) as other:
            refused(other, "there is no such database")
        server.stop()
        refused(database, r"shop:\*\*\*@127.*: it does not answer .*; start it, or check its address")
        server.start()
        assert database.page("users", 9)[0] == []
        server.kill()
        server.start()
        assert database.page("users", 9)[0] == []
        database.close()
    finally:
        server.close()
