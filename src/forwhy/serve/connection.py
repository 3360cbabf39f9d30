"""Reaching a service's database, SQLite in a file or PostgreSQL: its schema, and its errors in one sentence each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import RLock
from typing import Any, Self

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError

from forwhy.data.bad_rows import short
from forwhy.errors import UserError, need
from forwhy.serve.tables import metadata

WAIT = 10
"""Seconds that a write waits for another's, and a connection for an answer."""
LONGEST = 60
"""Seconds that PostgreSQL may take for one statement."""
WRITING = {"forwhy_writes": True}


class DatabaseDown(UserError):
    """The database can't do it now: away, locked, full, only read. Nothing was written; try again later."""


class NewerSchema(UserError):
    """The database was made by a newer forwhy."""


class Conflict(UserError):
    """What was given contradicts what is kept."""


_PROBLEMS = (
    ("55P03|is locked|busy", "another program holds it locked", "end that, or try again"),
    ("53100|disk is full|No space left", "its disk is full", "free some space"),
    ("25006|42501|readonly|read-only|permission denied", "it can only be read", "allow writing to it"),
    ("57014", f"it took longer than {LONGEST} seconds", "try again when it has less to do"),
    ("53300|too many clients|QueuePool", "all its connections are in use", "try again, or allow more"),
    ("password|28P01|28000|no pg_hba", "it refuses the name or the password", "correct the URL"),
    ("42P01|no such table", "it has no tables of forwhy serve", "start `forwhy serve`, which makes them"),
    ("3D000|does not exist", "there is no such database", "make it with createdb, or correct the URL"),
    ("unable to open", "its file can't be opened", "name a file in a folder that can be written to"),
    ("not a database|malformed", "no SQLite database, or a damaged one", "name another, or restore a backup"),
    ("", "it does not answer", "start it, or check its address"),
)
"""A pattern of state and message, what that means, and what to do; the first that fits."""


class Connected:
    """A database that can be read and written to in transactions, by many threads.

    On SQLite (WAL, synced at each commit, deleted content overwritten) one transaction writes at a time and others
    wait their turn; readers are never held up.

    `url`: ``sqlite:///FILE`` or ``postgresql://user:password@host/database``; the password is in no message.
    """

    def __init__(self, url: str) -> None:
        self.url = _url(url)
        self.where = self.url.render_as_string(hide_password=True)
        self.lite = self.url.get_backend_name() == "sqlite"
        self._turn = RLock()
        self.engine = _lite(self.url) if self.lite else _postgres(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give all connections back; the next call opens new ones."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment and writes nothing."""
        options = {} if self.lite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._told(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def writing(self, lock: str = "") -> Iterator[Connection]:
        """A transaction that is durable when the block has ended, and has done nothing when it raised.

        `lock`: of the transactions of one lock, one runs at a time (on SQLite of all).
        """
        turn = self._turn if self.lite else nullcontext()
        with self._told(), turn, self.engine.execution_options(**WRITING).begin() as connection:
            if lock and not self.lite:
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:it))"), {"it": lock})
            yield connection

    def ping(self) -> None:
        """Ask the database whether it is there, with its tables."""
        with self.reading() as connection:
            connection.execute(text("SELECT version_num FROM alembic_version"))

    def upgrade(self, schema: str = "head") -> None:
        """Make the tables, or bring those of an older forwhy up to date, in one transaction.

        NewerSchema where they are of a newer forwhy, UserError where something else uses the database.
        """
        if self.lite:
            self._make_file()
        if self.schema() == _schemas()[0]:
            return  # also where it can only be read
        with self.writing("forwhy serve: schema") as connection:
            there = set(inspect(connection).get_table_names())
            if (theirs := sorted(there & metadata.tables.keys())) and "alembic_version" not in there:
                said = f"another program's tables ({', '.join(theirs)}); name a database of its own"
                raise UserError(f"{self.where}: {said}")
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, schema)

    def schema(self) -> str | None:
        """The revision of the tables; None where there are none."""
        with self.reading() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        return found and known_schema(found, self.where)

    def _make_file(self) -> None:
        """An empty file that only its owner reads: it will hold what people do."""
        path = Path(self.url.database or "")
        if path.exists() or "uri" in self.url.query:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise DatabaseDown(f"{self.where}: {error.strerror}; name a file that can be written") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OverflowError, UnicodeError) as error:
            raise self._said(error) from None

    def _said(self, error: Exception) -> UserError:
        cause = getattr(error, "orig", None) or error
        if isinstance(cause, UserError):
            return cause
        said = str(cause).strip().partition("\n")[0]  # what follows may quote rows
        said = said.replace(str(self.url.password), "***") if self.url.password else said
        if isinstance(error, IntegrityError):
            return Conflict(f"{self.where}: {short(said, 200)}; such a row is there already")
        if isinstance(error, DataError | OverflowError | UnicodeError):
            return UserError(f"a value that a database can't hold ({short(said, 120)}); correct it")
        state = getattr(cause, "sqlstate", None) or ""
        what, remedy = next(it[1:] for it in _PROBLEMS if re.search(it[0], f"{state} {said}"))
        return DatabaseDown(f"{self.where}: {what} ({short(said, 160)}); {remedy}")


def known_schema(found: str, where: object) -> str:
    """The revision that was found; NewerSchema where this forwhy has none of that name."""
    if found in (known := _schemas()):
        return found
    raise NewerSchema(
        f"{where}: made by a newer forwhy (schema {found}, here {known[0]}); "
        "`pip install --upgrade forwhy`, or name another"
    )


def _schemas() -> list[str]:
    return [it.revision for it in ScriptDirectory.from_config(_alembic()).walk_revisions()]


def _alembic() -> Config:
    config = Config()
    folder = Path(__file__).with_name("migrations")
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def _url(given: str) -> URL:
    try:
        url = make_url(given)
    except (ArgumentError, ValueError):
        raise UserError("--database: no URL; write sqlite:///serve.db or postgresql://user@host/db") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    shown = url.render_as_string(hide_password=True)
    if url.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise UserError(f"{shown}: no such database; write sqlite:///FILE or postgresql://user@host/db")
    if not url.database or url.database == ":memory:":
        raise UserError(f"{shown}: names no {'file' if 'sqlite' in shown else 'database'}; add /NAME to it")
    if url.get_backend_name() == "postgresql":
        need("psycopg", "sql")
    return url


def _lite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": WAIT}, pool_timeout=WAIT)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's
        connection.isolation_level = None  # SQLAlchemy begins, not the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        """A writer takes its turn at once: one that began by reading could not wait for another."""
        writes = WRITING.items() <= connection.get_execution_options().items()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(url: URL) -> Engine:
    options = f"-c synchronous_commit=on -c lock_timeout={WAIT}s -c statement_timeout={LONGEST}s"
    arguments = {"connect_timeout": WAIT, "options": f"{url.query.get('options', '')} {options}".strip()}
    pool: Any = {"pool_timeout": WAIT, "pool_pre_ping": True, "pool_size": 10}
    return create_engine(url, connect_args=arguments, **pool)
