"""Rows of a service's tables: found, paged, inserted or replaced; times and cursors as the tables have them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from forwhy.errors import UserError
from forwhy.serve.connection import Connected
from forwhy.serve.tables import shown

Row = dict[str, Any]
Page = tuple[list[Row], str | None]

MOST = 10_000
"""Rows of one page, whatever was asked."""


class Records(Connected):
    """A database whose tables are those of `tables`."""

    def _rows(self, chosen: Any) -> list[Row]:  # noqa: ANN401 - a Select of some columns
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(chosen).mappings()]

    def _one(self, table: Table, *where: ColumnElement[bool]) -> Row | None:
        return next(iter(self._rows(select(*shown(table)).where(*where).limit(1))), None)

    def _page(
        self, table: Table, by: Column[Any], limit: int, cursor: str | None, *where: ColumnElement[bool]
    ) -> Page:
        limit = max(1, min(limit, MOST))
        after = [] if cursor is None else [by > _read_cursor(cursor, by)]
        rows = self._rows(select(*shown(table)).where(*where, *after).order_by(by).limit(limit + 1))
        following = _cursor(rows[limit - 1][by.key]) if len(rows) > limit else None
        return rows[:limit], following

    def _insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        return sqlite.insert(table) if self.lite else postgresql.insert(table)

    def _upsert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        made, key = self._insert(table), list(table.primary_key)
        new = {it.key: made.excluded[it.key] for it in table.c if not it.primary_key}
        return made.on_conflict_do_update(index_elements=key, set_=new)

    def _put(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert or replace, in the order of ids, so that two writers can't wait for each other."""
        if rows:
            key = next(iter(table.primary_key)).key
            with self.writing() as connection:
                connection.execute(self._upsert(table), sorted(rows, key=lambda row: str(row[key])))

    def _add(self, table: Table, **row: Any) -> None:  # noqa: ANN401
        with self.writing() as connection:
            connection.execute(insert(table), {**row, "at": now()})

    def _change(self, statement: Any) -> int:  # noqa: ANN401 - an Update
        with self.writing() as connection:
            return int(connection.execute(statement).rowcount)


def now() -> str:
    """The time, as the tables have it."""
    return moment(datetime.now(UTC))


def moment(given: object) -> str:
    """A time as the tables have it: UTC to the microsecond.

    Args:
        given: ISO 8601 (without a zone: UTC), seconds since 1970, a datetime; None is now.

    Raises:
        UserError: none of these.
    """
    try:
        if given is None:
            return now()
        if isinstance(given, int | float) and not isinstance(given, bool):
            given = datetime.fromtimestamp(given, UTC)
        time = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise UserError(f"time {ascii(given)[:60]}: none; write it as 2026-11-28T12:56:36Z") from None
    return f"{time.year:04}{time.strftime('-%m-%dT%H:%M:%S.%fZ')}"


def _cursor(last: object) -> str:
    return base64.urlsafe_b64encode(str(last).encode()).decode().rstrip("=")


def _read_cursor(cursor: str, by: Column[Any]) -> str | int:
    try:
        last = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        number = int(last) if by.key == "seq" else 0
        if not -(2**63) <= number < 2**63:
            raise ValueError(number)
    except ValueError:
        raise UserError(f"cursor {ascii(cursor)[:40]}: none of ours; leave it out to start again") from None
    return number if by.key == "seq" else last
