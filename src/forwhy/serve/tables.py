"""What a service keeps: the tables of its database, the same on SQLite and PostgreSQL.

Times are text, always as long as ``2026-11-28T12:56:36.000000Z``, so that they sort, and go through JSON as they are.
Outside, a row has the names that Python code uses (`key` of a column: ``user``); inside, columns have those of our
data sets (``user_id``), so that ``forwhy data import sql`` reads them back. ``migrations/`` makes these tables.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator, TypeEngine

from forwhy.errors import UserError

LONGEST = 1000
"""Bytes of an id or a key: what an index of PostgreSQL holds of two of them."""


class Words(TypeDecorator[str]):
    """Text that both databases hold and sort alike; what only one would take is refused on both."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, longest: int | None = None) -> None:
        super().__init__()
        self.longest = longest

    def load_dialect_impl(self, dialect: sa.Dialect) -> TypeEngine[Any]:
        """Sorted by code point, as Python does."""
        return sa.Text(collation="C") if dialect.name == "postgresql" else sa.Text()

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:  # noqa: ANN401
        """The value; UserError where it is no text, has a NUL or half a character, or is too long."""
        if value is None:
            return None
        if not isinstance(value, str) or "\0" in value or any("\ud800" <= it <= "\udfff" for it in value):
            raise UserError(f"{ascii(value)[:60]}: no text that a database can hold; write plain text")
        if self.longest and len(value.encode()) > self.longest:
            raise UserError(f"{ascii(value[:40])}…: longer than {self.longest:,} bytes; give a shorter one")
        return value


DEEPEST = 50
"""Lists and tables inside each other, of a document that has to be read again."""


class Document(TypeDecorator[Any]):
    """A JSON document; one that JSON can't hold is refused before a driver sees it."""

    impl = sa.JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ANN401
        """The document as it is; UserError where it has NaN, infinity or half a character, is no JSON, or too deep."""
        level = [value]
        for _ in range(DEEPEST):
            inner = (
                it.values() if isinstance(it, dict) else it for it in level if isinstance(it, dict | list)
            )
            level = [part for parts in inner for part in parts]
        if level:
            raise UserError(f"a document of more than {DEEPEST} levels; give a flatter one")
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{ascii(value)[:60]}: no JSON document ({error}); correct it") from None
        return value


BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
metadata = sa.MetaData()


def _id(name: str, key: str | None = None, **more: Any) -> sa.Column[str]:  # noqa: ANN401 - of sa.Column
    return sa.Column(name, Words(LONGEST), key=key or name, **{"nullable": False, **more})


def _maybe(name: str, key: str | None = None, **more: Any) -> sa.Column[str]:  # noqa: ANN401 - of sa.Column
    return _id(name, key, nullable=True, **more)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, Words(), nullable=False)


def _document(name: str) -> sa.Column[Any]:
    return sa.Column(name, Document(), nullable=False)


def _numbered(name: str, *parts: Any) -> sa.Table:  # noqa: ANN401 - of sa.Table
    """A table in the order of writing; a number is never given twice."""
    number = sa.Column("seq", BIG, primary_key=True)
    return sa.Table(name, metadata, number, *parts, sqlite_autoincrement=True)


def _named(name: str, first: sa.Column[str], *parts: Any) -> sa.Table:  # noqa: ANN401 - of sa.Table
    first.primary_key = True
    return sa.Table(name, metadata, first, *parts)


def _whose() -> sa.Column[str]:
    return _maybe("user_id", "user", index=True)


users = _named("users", _id("user_id", "id"), _document("data"), _id("at"))
_listed = (_text("title"), _text("text"), sa.Column("available", sa.Boolean, nullable=False))
items = _named("items", _id("item_id", "id"), *_listed, _document("data"), _id("at"))
_did = (
    _id("user_id", "user"),
    _id("item_id", "item", index=True),
    _id("kind"),
    sa.Column("value", sa.Double),
)
events = _numbered("events", _id("key", unique=True), *_did, _id("time"))
sa.Index("ix_events_user_id_time", events.c.user, events.c.time)
_for = (_id("run"), _maybe("experiment", index=True), _maybe("arm"), _whose())
impressions = _named("impressions", _id("id"), *_for, _document("asked"), _document("items"), _id("at"))
_about = (_maybe("impression", index=True), _maybe("explanation", index=True), _maybe("item_id", "item"))
feedback = _numbered("feedback", _id("id", unique=True), *_about, _whose(), _id("kind"), _id("at"))
_pair = (_whose(), _maybe("item_id", "item"))
answers = _named("answers", _id("key"), _id("run", index=True), *_pair, _document("document"), _id("at"))
renames = _numbered("renames", _id("run", index=True), _id("token"), _text("gloss"), _id("who"), _id("at"))
experiments = _named("experiments", _id("name"), _document("arms"), _id("at"), _maybe("ended"))
_stands = (_id("state"), _document("detail"), _id("at"), _id("changed"))
jobs = _numbered("jobs", _id("id", unique=True), _document("asked"), *_stands)
audits = _numbered("audits", _id("who"), _id("action"), _document("what"), _id("at"))
keys = _named("keys", _id("name"), _id("role"), _id("hash", unique=True), _id("at"), _maybe("revoked"))

TAKEN, BACK = "take", "untake"
"""Kinds of events: a person takes an item, and takes that back. Other kinds are kept for whoever reads them."""


def taken() -> sa.Select[Any]:
    """Events by which a person has an item: those of kind "take" that no later "untake" takes back.

    The view `interactions` of the first migration is the same, for ``forwhy data import sql``.
    """
    back = events.alias()
    later = sa.or_(
        back.c.time > events.c.time, sa.and_(back.c.time == events.c.time, back.c.seq > events.c.seq)
    )
    undone = sa.exists().where(
        back.c.user == events.c.user, back.c.item == events.c.item, back.c.kind == BACK, later
    )
    return sa.select(events.c.item).where(events.c.kind == TAKEN, ~undone)


def shown(table: sa.Table) -> list[sa.Label[Any]]:
    """A table's columns under their outer names."""
    return [column.label(column.key) for column in table.c]
