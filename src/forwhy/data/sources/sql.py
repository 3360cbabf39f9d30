"""Tables of a database, a query each, read some rows at a time through SQLAlchemy; nothing is written to it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from forwhy.columns import ROW, TABLES
from forwhy.data.bad_rows import BadRows, short
from forwhy.data.dataset import Dataset
from forwhy.data.sources.rows import AT_ONCE, check_columns
from forwhy.data.sources.tables import TableOptions, read_tables
from forwhy.errors import UserError, need
from forwhy.options import checked

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, CursorResult
    from sqlalchemy.exc import SQLAlchemyError

T = TypeVar("T")

LONGEST_TIMEOUT = 1_000_000
WAIT = 10
"""Seconds until a server that does not answer is given up."""
DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
"""Packages of drivers whose name is another."""


def import_sql(
    url: str,
    queries: Mapping[str, str],
    *,
    timeout: float = 600.0,
    name: str | None = None,
    **options: Any,  # noqa: ANN401 - fields of TableOptions
) -> Dataset:
    """Read a data set from a database (SQLite, PostgreSQL, whatever SQLAlchemy has a driver for).

    Rows come some thousands at a time, on PostgreSQL from a cursor of the server, so memory is that of
    `import_tables`. Needs ``forwhy[sql]``.

    `url` is SQLAlchemy's, as ``postgresql+psycopg://user:password@host/shop``; the password is in no message, nor kept.
    `queries`: a query, or the name of a table, by our table's name; `interactions` must be there. `timeout`: seconds
    that each may take. `name`: the label, by default the database's name. `options`: fields of `TableOptions`, as for
    `import_tables`. Refused: no connection, a query that fails or takes too long; what `import_tables` refuses.
    """
    need("sqlalchemy", "sql")
    chosen = checked(TableOptions, options, "")
    wrong = sorted(queries.keys() - TABLES.keys())
    if wrong or "interactions" not in queries:
        said = ", ".join(wrong) or "without interactions"
        raise UserError(f"queries {said}: name them by our tables: {', '.join(TABLES)}")
    if not 0 < timeout <= LONGEST_TIMEOUT:
        raise UserError(f"timeout {timeout:g}: give seconds above 0, {LONGEST_TIMEOUT:,} at most")
    bad = BadRows(chosen.skip_bad)
    where = _url(url)
    with _connected(where) as connection, ExitStack() as cursors:  # which must be closed before it
        rows: dict[str, tuple[str, Iterator[pl.DataFrame]]] = {}
        for table in filter(queries.__contains__, TABLES):
            read = closing(_blocks(connection, table, queries[table], timeout))
            rows[table] = f"query {table}", cursors.enter_context(read)
        shown = where.render_as_string(hide_password=True)
        source = {"importer": "sql", "url": shown, "queries": dict(queries)}
        return read_tables(name or Path(where.database or "shop").stem, rows, chosen, bad, lambda: source)


def _url(text: str) -> URL:
    """The URL, its driver PostgreSQL's present one where it names none; never shown when it is none."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        remedy = "write sqlite:///shop.db or postgresql://user@host/shop"
        raise UserError(f"the database's URL is none; {remedy}") from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise UserError(f"{url.database}: no such file; name an SQLite file, as sqlite:///shop.db")
    return url


@contextmanager
def _connected(url: URL) -> Iterator[Connection]:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError
    from sqlalchemy.pool import NullPool

    shown, backend = url.render_as_string(hide_password=True), url.get_backend_name()
    wait = {"connect_timeout": WAIT} if backend in ("postgresql", "mysql", "mariadb") else {}
    try:
        connection = create_engine(url, poolclass=NullPool, connect_args=wait).connect()
    except ModuleNotFoundError as error:
        package = DRIVERS.get(error.name or "", error.name)
        raise UserError(f"{shown}: its driver is not installed; pip install '{package}'") from None
    except NoSuchModuleError:
        remedy = "write sqlite:///FILE or postgresql://…"
        raise UserError(f"{shown}: no database of this kind; {remedy}") from None
    except SQLAlchemyError as error:
        reason = _reason(error, url)
        raise UserError(f"{shown}: no connection ({reason}); check address, name and password") from None
    with connection:
        if backend == "sqlite":
            connection.execute(text("PRAGMA query_only = ON"))
        if backend == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True)
        yield connection


def _blocks(
    connection: Connection, table: str, query: str, timeout: float
) -> Generator[pl.DataFrame, None, None]:
    """Blocks of a query's rows, with numbers; a bare name stands for all rows of that table."""
    from sqlalchemy.exc import SQLAlchemyError

    row, patience = 0, _Patience(connection, timeout)
    try:
        with closing(_result(connection, table, query.strip(), patience)) as result:
            names = list(result.keys())
            while rows := patience.wait_for(lambda: result.fetchmany(AT_ONCE)):
                if patience.left <= 0:  # rows without end, or a driver that cannot be stopped
                    raise _late(table, timeout)
                yield _block(names, rows).with_columns(pl.Series(ROW, range(row + 1, row + 1 + len(rows))))
                row += len(rows)
    except SQLAlchemyError as error:
        if patience.left <= 0:
            raise _late(table, timeout) from None
        reason = _reason(error, connection.engine.url)
        raise UserError(f"query {table}: {reason}; correct the query") from None
    if not row:
        raise UserError(f"query {table}: gives no rows; correct it, or leave the option out")


def _result(connection: Connection, table: str, query: str, patience: _Patience) -> CursorResult[Any]:
    from sqlalchemy import text

    quoted = connection.dialect.identifier_preparer.quote(query)
    asked = text(f"SELECT * FROM {quoted}" if re.fullmatch(r"\w+", query) else query)
    streaming = connection.execution_options(stream_results=True, max_row_buffer=AT_ONCE)
    result = patience.wait_for(lambda: streaming.execute(asked))
    if not result.returns_rows:
        raise UserError(f"query {table}: no SELECT; write one that gives rows")
    names = list(result.keys())
    check_columns(f"query {table}", names, "with AS")
    return result


def _late(table: str, timeout: float) -> UserError:
    more = f"give it more time: --timeout {2 * timeout:g}"
    return UserError(f"query {table}: took longer than {timeout:g} seconds; ask for less, or {more}")


class _Patience:
    """Seconds that a query's own work may take, over all its parts; when they are over, the work is stopped."""

    def __init__(self, connection: Connection, seconds: float) -> None:
        self.left = seconds
        driver: Any = connection.connection.driver_connection
        self._stop = getattr(driver, "interrupt", getattr(driver, "cancel", lambda: None))

    def wait_for(self, work: Callable[[], T]) -> T:
        """What the work gives; it is stopped from another thread when the time is over."""
        since, watch = time.monotonic(), Timer(self.left, self._stop)
        watch.daemon = True
        watch.start()
        try:
            return work()
        finally:
            watch.cancel()
            self.left -= time.monotonic() - since


def _block(names: list[str], rows: Sequence[Any]) -> pl.DataFrame:
    """Rows as columns: what polars has no type for as text, without pictures and the like."""
    cells = [tuple(row) for row in rows]
    frame = pl.DataFrame(cells, names, orient="row", infer_schema_length=None, strict=False)
    strange = pl.col(pl.Object).map_elements(str, return_dtype=pl.String)
    return frame.with_columns(strange).select(pl.exclude(pl.Binary))


def _reason(error: SQLAlchemyError, url: URL) -> str:
    said = str(getattr(error, "orig", None) or error)
    return short(said.replace(str(url.password), "***") if url.password else said, 200)
