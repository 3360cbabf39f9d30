"""All that a service keeps: people, items, events, what was shown and said, experiments, keys, an audit log.

    with Database("sqlite:///serve.db") as database:
        database.upgrade()
        database.add_events([{"key": "1", "user": "ann", "item": "tea"}])
        database.history("ann")

Every method may be called by any thread, and has committed durably when it returns. Rows are dicts, ids the user's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing

import sqlalchemy as sa

from forwhy.errors import UserError
from forwhy.serve import tables as t
from forwhy.serve.connection import Conflict, DatabaseDown, NewerSchema
from forwhy.serve.records import MOST, Records, Row, moment, now

KINDS = ("clicked", "helpful", "wrong", "not_me")
"""What feedback can say."""
OPEN = ("waiting", "running")
"""States of a job that has not ended."""
AT_ONCE = 500
"""Keys looked up in one statement."""

_HISTORY = t.taken().where(t.events.c.user == sa.bindparam("whose")).order_by(t.events.c.time, t.events.c.seq)
"""Made once: it is asked with every list."""


class Database(Records):
    """The service's database; `Connected` says how it is reached.

    Every method raises DatabaseDown where it is away, locked, full or can only be read, and UserError for a value
    that no database holds.
    """

    def people(self, prefix: str = "") -> list[str]:
        """Ids of people who are kept or did something, by id; at most `MOST`."""
        known = (sa.select(column.label("id")) for column in (t.users.c.id, t.events.c.user))
        both = sa.union(*known).subquery()
        chosen = [both.c.id >= prefix, both.c.id < prefix + chr(0x10FFFF)] if prefix else []
        asked = sa.select(both.c.id).where(*chosen).order_by(both.c.id).limit(MOST)
        return [row["id"] for row in self._rows(asked)]

    def all_items(self) -> list[Row]:
        """`id`, `title`, `text`, `available` of all of them, by id."""
        c = t.items.c
        return self._rows(sa.select(c.id.label("id"), c.title, c.text, c.available).order_by(c.id))

    def items_stamp(self) -> tuple[int, str]:
        """How many items there are, and when one was last written: it changes with them."""
        chosen = sa.select(sa.func.count().label("count"), sa.func.max(t.items.c.at).label("at"))
        row = self._rows(chosen.select_from(t.items))[0]
        return int(row["count"]), row["at"] or ""

    def add_events(self, rows: Sequence[Row]) -> list[bool]:
        """Keep events, all or none: ``{"key", "user", "item", "kind": "take", "value": None, "time": now}``.

        Writers take turns, so that `seq` rises with the moment at which a reader can first see an event. Per event
        True, or False where its key was there already with the same content; Conflict where it stands for another.
        """
        if not rows:
            return []
        wanted, new = [_event(row) for row in rows], []
        fresh: dict[str, Row] = {}
        with self.writing("forwhy serve: events") as connection:
            known = self._by_key(connection, [row["key"] for row in wanted])
            for row in wanted:
                there = known.get(row["key"])
                new.append(there is None)
                if there is None:
                    known[row["key"]] = fresh[row["key"]] = {**row, "time": row["time"] or now()}
                elif different := [
                    it for it in row if row[it] != there[it] and (it, row[it]) != ("time", None)
                ]:
                    raise Conflict(
                        f"event {row['key']!r}: its key stands for another {different[0]} already; give it a new key"
                    )
            if fresh:
                connection.execute(sa.insert(t.events), list(fresh.values()))
        return new

    def events_after(self, seq: int, limit: int) -> list[Row]:
        """Events with a higher number, in order: whoever remembers the last `seq` misses none."""
        chosen = sa.select(*t.shown(t.events)).where(t.events.c.seq > seq).order_by(t.events.c.seq)
        return self._rows(chosen.limit(min(limit, MOST)))

    def last_event(self) -> int:
        """The number of the newest event; 0 where there is none."""
        return int(self._rows(sa.select(sa.func.max(t.events.c.seq).label("seq")))[0]["seq"] or 0)

    def history(self, user: str) -> list[str]:
        """Items that a person has taken and not taken back, the oldest first."""
        with self.reading() as connection:
            return list(dict.fromkeys(connection.scalars(_HISTORY, {"whose": user})))

    def taken(self) -> list[Row]:
        """Who has taken what and not taken it back, and when: `user`, `item`, `time`; the oldest first."""
        c = t.events.c
        asked = [it.label(it.key) for it in (c.user, c.item, c.time)]
        return self._rows(t.taken().with_only_columns(*asked).order_by(c.time, c.seq))

    def add_feedback(self, row: Row) -> None:
        """Keep what someone said: ``{"id", "impression", "explanation", "item", "user", "kind"}``; once per id."""
        if row.get("kind") not in KINDS:
            raise UserError(f"feedback {row.get('kind')!r}: no such kind; say {', '.join(KINDS)}")
        blank = dict.fromkeys(("impression", "explanation", "item", "user"))
        made = self._insert(t.feedback).on_conflict_do_nothing(index_elements=[t.feedback.c.id])
        with self.writing() as connection:
            connection.execute(made, {**blank, **row, "at": moment(row.get("at"))})

    def outcomes(self, experiment: Row) -> dict[str, dict[str, int]]:
        """Per arm, how many lists were shown, to how many, and how many got each kind of feedback at least once."""
        shown, said = t.impressions.c, t.feedback.c
        counted = {"impressions": shown.id} | {it: sa.case((said.kind == it, shown.id)) for it in KINDS}
        counted["users"] = shown.user
        counts = [sa.func.count(sa.distinct(it)).label(name) for name, it in counted.items()]
        joined = sa.select(shown.arm, *counts).outerjoin_from(
            t.impressions, t.feedback, said.impression == shown.id
        )
        rows = self._rows(joined.where(shown.experiment == experiment["name"]).group_by(shown.arm))
        none = {arm: dict.fromkeys(counted, 0) for arm in experiment["arms"]}
        return none | {row.pop("arm"): row for row in rows}

    def rename_word(self, run: str, token: str, gloss: str, who: str) -> None:
        """Give a word another gloss; earlier ones are kept."""
        self._add(t.renames, run=run, token=token, gloss=gloss, who=who)

    def renamed(self, run: str) -> dict[str, Row]:
        """The latest ``{"gloss", "who", "at"}`` by token."""
        c = t.renames.c
        chosen = sa.select(c.token, c.gloss, c.who, c.at).where(c.run == run).order_by(c.seq)
        return {row.pop("token"): row for row in self._rows(chosen)}

    def put_experiment(self, row: Row) -> None:
        """Start an experiment or change its arms: ``{"name", "arms": {arm: {"run", "options", "share"}}}``.

        Conflict where one of this name has ended.
        """
        name, c = row["name"], t.experiments.c
        with self.writing("forwhy serve: experiments") as connection:
            ended = connection.scalar(sa.select(c.ended).where(c.name == name))
            if ended:
                raise Conflict(f"experiment {name!r}: ended at {ended}; give the new one another name")
            kept = {"name": name, "arms": row["arms"], "at": now(), "ended": None}
            connection.execute(self._upsert(t.experiments), kept)

    def experiments(self) -> list[Row]:
        """All experiments, by name; `ended` is None while one runs."""
        return self._rows(sa.select(*t.shown(t.experiments)).order_by(t.experiments.c.name))

    def end_experiment(self, name: str) -> None:
        """End one; its results stay."""
        c = t.experiments.c
        self._change(sa.update(t.experiments).where(c.name == name, c.ended.is_(None)).values(ended=now()))

    def delete_user(self, id: str) -> dict[str, int]:
        """Delete all that is kept about a person; on SQLite its bytes are overwritten.

        The audit log has only hashes of ids, and what was learned stays in trained runs. Rows that went, per table.
        """
        asked = {it.name: sa.delete(it).where(theirs) for it, theirs in _about(id).items()}
        with self.writing("forwhy serve: events") as connection:
            gone = {name: connection.execute(it).rowcount for name, it in asked.items()}
        if self.lite:  # the log in front of the file has copies
            with closing(self.engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def export_user(self, id: str) -> dict[str, list[Row]]:
        """All that is kept about a person, per table."""
        asked = {it.name: sa.select(*t.shown(it)).where(theirs) for it, theirs in _about(id).items()}
        with self.reading() as connection:
            found = {name: connection.execute(it).mappings().all() for name, it in asked.items()}
        return {name: [dict(row) for row in rows] for name, rows in found.items()}

    def add_job(self, id: str, asked: Row) -> None:
        """Keep a job that waits; Conflict where another one waits or runs."""
        row = {"id": id, "asked": asked, "state": "waiting", "detail": {}, "at": now(), "changed": now()}
        with self.writing("forwhy serve: jobs") as connection:
            if connection.execute(sa.select(t.jobs.c.id).where(t.jobs.c.state.in_(OPEN))).first():
                raise Conflict("a run is being trained; GET /v1/jobs tells when it is done")
            connection.execute(sa.insert(t.jobs), row)

    def update_job(self, id: str, state: str, detail: Row) -> None:
        """Say where a job stands."""
        changed = {"state": state, "detail": detail, "changed": now()}
        self._change(sa.update(t.jobs).where(t.jobs.c.id == id).values(changed))

    def jobs(self) -> list[Row]:
        """The last hundred jobs, the newest first."""
        return self._rows(sa.select(*t.shown(t.jobs)).order_by(t.jobs.c.seq.desc()).limit(100))

    def audit(self, who: str, action: str, what: Row) -> None:
        """Write down who did what; ids under ``user`` and ``users`` are kept as hashes only."""
        hidden = {key: _hidden(value) if key in ("user", "users") else value for key, value in what.items()}
        self._add(t.audits, who=who, action=action, what=hidden)

    def add_key(self, name: str, role: str, hash: str) -> None:
        """Keep a key's hash; Conflict where there is or was one of this name."""
        try:
            self._add(t.keys, name=name, role=role, hash=hash)
        except Conflict:
            raise Conflict(f"key {name!r}: there is or was one of this name; choose another") from None

    def keys(self) -> list[Row]:
        """All keys by name, revoked ones too, without their hashes."""
        c = t.keys.c
        return self._rows(sa.select(c.name, c.role, c.at, c.revoked).order_by(c.name))

    def revoke_key(self, name: str) -> None:
        """End a key; UserError where there is none of this name, or it was revoked."""
        used = sa.update(t.keys).where(t.keys.c.name == name, t.keys.c.revoked.is_(None))
        if not self._change(used.values(revoked=now())):
            raise UserError(f"key {name!r}: none is in use; `forwhy serve keys list` shows them")

    @staticmethod
    def _by_key(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for start in range(0, len(keys), AT_ONCE):
            chosen = sa.select(*t.shown(t.events)).where(t.events.c.key.in_(keys[start : start + AT_ONCE]))
            found |= {row["key"]: dict(row) for row in connection.execute(chosen).mappings()}
        return found


def _event(row: Row) -> Row:
    value = row.get("value")
    if value is not None and not (isinstance(value, int | float) and abs(value) < 1e300):
        raise UserError(
            f"event {ascii(row['key'])[:60]}: value {ascii(value)[:40]} is no finite number; correct it"
        )
    return {
        "key": row["key"],
        "user": row["user"],
        "item": row["item"],
        "kind": row.get("kind") or t.TAKEN,
        "value": None if value is None else float(value),
        "time": None if row.get("time") is None else moment(row["time"]),
    }


def _about(user: str) -> dict[sa.Table, sa.ColumnElement[bool]]:
    """Which rows of which tables are about a person, what depends on others first."""
    lists = sa.select(t.impressions.c.id).where(t.impressions.c.user == user)
    texts = sa.select(t.answers.c.key).where(t.answers.c.user == user)
    said = t.feedback.c
    theirs = sa.or_(said.user == user, said.impression.in_(lists), said.explanation.in_(texts))
    alone = {it: it.c.user == user for it in (t.impressions, t.answers, t.events)}
    return {t.feedback: theirs, **alone, t.users: t.users.c.id == user}


def _hidden(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_hidden(it) for it in value]
    return "sha256:" + hashlib.sha256(str(value).encode(errors="replace")).hexdigest()


__all__ = ["Conflict", "Database", "DatabaseDown", "NewerSchema", "moment", "now"]
