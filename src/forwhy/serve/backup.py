"""All rows of a service's database in one file, which SQLite and PostgreSQL both can restore.

JSON lines in gzip: what and which schema, then ``[table, row]`` each, and at last their number. Rows have the columns
of the database as it is, not as this version of forwhy would make it; a backup is of one moment, while others write.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Connection, MetaData, Table, func, insert, select, text

from forwhy.atomic import atomic_file
from forwhy.errors import UserError
from forwhy.serve.connection import Conflict, Connected, known_schema

KIND = "forwhy serve: backup"
AT_ONCE = 1000
"""Rows in memory."""


def backup(database: Connected, path: Path) -> int:
    """Write all rows to a file that only its owner reads, whole or not at all; the number of rows.

    DatabaseDown where the database can't be read, UserError where it has no tables or the disk is full.
    """
    schema = database.schema()
    if schema is None:
        raise UserError(f"{database.where}: nothing to back up; name the database of a service")
    with atomic_file(path) as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
        with (
            gzip.open(temporary, "wt", encoding="utf-8", compresslevel=3) as file,
            database.reading() as connection,
        ):
            _line(file, {"kind": KIND, "schema": schema})
            rows = 0
            for table in _tables(connection):
                for row in connection.execution_options(yield_per=AT_ONCE).execute(select(table)).mappings():
                    _line(file, [table.name, dict(row)])
                    rows += 1
            _line(file, {"rows": rows})
    return rows


def restore(database: Connected, path: Path) -> int:
    """Fill an empty database from a backup, wholly or not at all, and bring it up to date; the number of rows.

    UserError for no backup, a damaged one, one of a newer forwhy, or a database that has rows.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            first = json.loads(file.readline())
            if not isinstance(first, dict) or first.get("kind") != KIND:
                raise ValueError("another file")
            database.upgrade(schema := known_schema(first["schema"], path))
            if database.schema() != schema:
                raise UserError(f"{database.where}: has newer tables than {path}; name an empty database")
            with database.writing("forwhy serve: events") as connection:
                count = _fill(connection, map(json.loads, file), database.where)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(path, error) from None
        raise UserError(f"{path}: {error.strerror}; name a file of `forwhy serve backup`") from None
    except (Conflict, EOFError, KeyError, TypeError, ValueError, zlib.error) as error:
        raise _damaged(path, error) from None
    database.upgrade()
    return count


def _damaged(path: Path, error: Exception) -> UserError:
    said = f"no whole file of `forwhy serve backup` ({error}); nothing was restored, name another"
    return UserError(f"{path}: {said}")


def _tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


def _line(file: TextIO, document: object) -> None:
    file.write(json.dumps(document, separators=(",", ":")) + "\n")


def _fill(connection: Connection, lines: Iterator[Any], where: str) -> int:
    tables = {table.name: table for table in _tables(connection)}
    full = [name for name in tables if connection.scalar(select(func.count()).select_from(tables[name]))]
    if full:
        raise UserError(f"{where}: has rows already ({', '.join(full)}); name an empty database")
    count, last = 0, None
    for name, group in groupby(lines, key=lambda it: it[0] if isinstance(it, list) else None):
        if name is None:
            last = next(group)["rows"]
            continue
        left = (row for _, row in group)
        while rows := list(islice(left, AT_ONCE)):
            if any(row.keys() != set(tables[name].c.keys()) for row in rows):
                raise ValueError(f"other columns of {name}")
            connection.execute(insert(tables[name]), rows)
            count += len(rows)
    if last != count:
        raise ValueError(f"{count} rows of {last}")
    _continue(connection, tables.values())
    return count


def _continue(connection: Connection, tables: Iterable[Table]) -> None:
    """PostgreSQL gives the next number after the highest that was restored; SQLite does so by itself."""
    for table in tables:
        if connection.dialect.name == "postgresql" and "seq" in table.c:
            number, highest = (
                f"pg_get_serial_sequence('{table.name}', 'seq')",
                f"SELECT max(seq) FROM {table.name}",
            )
            connection.execute(text(f"SELECT setval({number}, ({highest})) WHERE ({highest}) > 0"))
