"""Rows of a service's tables: found, paged, inserted or replaced; times and cursors as the tables have them."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from forwhy.errors import UserError
from forwhy.serve.connection import Connected
from forwhy.serve.tables import metadata, shown

Row = dict[str, Any]
Page = tuple[list[Row], str | None]

MOST = 10_000
"""Rows of one page, whatever was asked."""
BLANK: Mapping[str, Row] = {
    "users": {"data": {}},
    "items": {"title": "", "text": "", "available": True, "data": {}},
    "impressions": {"experiment": None, "arm": None, "user": None, "asked": {}, "items": []},
    "answers": {"user": None, "item": None},
}
"""What `put` may be given without."""


class Records(Connected):
    """A database whose tables are those of `tables`."""

    def _rows(self, chosen: Any) -> list[Row]:  # noqa: ANN401 - a Select of some columns
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(chosen).mappings()]

    def one(self, table: str, **where: str | None) -> Row | None:
        """The row whose columns hold this."""
        found = metadata.tables[table]
        chosen = select(*shown(found)).where(*(found.c[name] == it for name, it in where.items()))
        return next(iter(self._rows(chosen.limit(1))), None)

    def page(self, table: str, limit: int, cursor: str | None = None, **where: str | None) -> Page:
        """Rows by number, or id where they have none, and the cursor of the next page or None.

        `where`: what columns hold; None is anything.
        """
        found = metadata.tables[table]
        by, limit = next(iter(found.primary_key)), max(1, min(limit, MOST))
        chosen = [found.c[name] == it for name, it in where.items() if it is not None]
        if cursor is not None:
            chosen.append(by > _last(cursor, by))
        rows = self._rows(select(*shown(found)).where(*chosen).order_by(by).limit(limit + 1))
        return rows[:limit], cursor_of(rows[limit - 1][by.key]) if len(rows) > limit else None

    def put(self, table: str, rows: Iterable[Row]) -> None:
        """Insert rows, or put them in place of those of their id; what is left out of them is as in `BLANK`."""
        given = ({key: it for key, it in row.items() if it is not None} for row in rows)
        whole = [{**BLANK[table], **row, "at": moment(row.get("at"))} for row in given]
        key = next(iter(metadata.tables[table].primary_key)).key
        if whole:
            with self.writing() as connection:  # in the order of ids: no two writers wait for each other
                connection.execute(
                    self._upsert(metadata.tables[table]), sorted(whole, key=lambda row: str(row[key]))
                )

    def _insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        return sqlite.insert(table) if self.lite else postgresql.insert(table)

    def _upsert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        made, key = self._insert(table), list(table.primary_key)
        new = {it.key: made.excluded[it.key] for it in table.c if not it.primary_key}
        return made.on_conflict_do_update(index_elements=key, set_=new)

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

    `given`: ISO 8601 (without a zone: UTC), seconds since 1970, a datetime; None is now. UserError for another thing.
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


def cursor_of(last: object) -> str:
    """Where a page ended, for whoever asks for the next one."""
    return base64.urlsafe_b64encode(str(last).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> str:
    """What `cursor_of` was given; ValueError where it did not make this one."""
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()


def _last(cursor: str, by: Column[Any]) -> str | int:
    try:
        last = read_cursor(cursor)
        number = int(last) if by.key == "seq" else 0
        if not -(2**63) <= number < 2**63:
            raise ValueError(number)
    except ValueError:
        raise UserError(f"cursor {ascii(cursor)[:40]}: none of ours; leave it out to start again") from None
    return number if by.key == "seq" else last
