"""Somebody or something new in a question: known by a text, a history, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forwhy.cli import one_of, plain
from forwhy.data.sources.rows import READERS, table_kind

if TYPE_CHECKING:
    from forwhy.data.histories import Catalogue
    from forwhy.recommend.base import Recommender

FROM = {
    "text": "the text",
    "history": "{1}, which they took",
    "semantic": "{0} {1}, near by text",
    "collaborative": "{0} {1}, near by words",
}
"""How it is told from whom a word came, by the kind of its origin."""


def one_person(
    user: str | None, history: Sequence[str] | None, about: str | None, everyone: bool = False
) -> None:
    """Refuses a command that names nobody or several; a text may stand beside a history."""
    if about is None or user or everyone:
        named = {"--user": user, "--history": history, "--about": about}
        one_of(named | ({"--all": everyone} if everyone else {}))


def met(
    recommender: Recommender, history: Sequence[str] | None, about: str | None
) -> tuple[Recommender, list[str] | None]:
    """The recommender, to which a history is that of whom a text is about, and the items of the history."""
    taken = None if history is None else items_named(recommender.catalogue, history)
    if about is None:
        return recommender, taken
    taken = taken or []
    return recommender.meeting(recommender.newcomer_of(about, taken)), taken


def whence(origins: Sequence[Mapping[str, Any]]) -> str:
    """From whom a word came: who weighs most, and that there are others."""
    if not origins:
        return ""
    best, others = origins[0], ", others" if len(origins) > 1 else ""
    return f"  (from {plain(FROM[best['kind']].format(best['side'], best['id']))}{others})"


def items_or_file(catalogue: Catalogue, given: Sequence[str] | None) -> Path | list[str] | None:
    """What an option for items names: one file of them, or ids."""
    if given is None:
        return None
    path, is_id = Path(given[0]), len(given) > 1 or catalogue.items.numbers(given)[0] >= 0
    # `path.is_file` raises for a list of ids that is longer than names of files can be.
    is_file = not is_id and (table_kind(path) in READERS or isfile(path))
    return path if is_file else items_named(catalogue, given)


def items_named(catalogue: Catalogue, given: Sequence[str]) -> list[str]:
    """Ids in options: each is one, or several with commas; none where it is blank."""
    whole = catalogue.items.numbers(given) >= 0
    found = [
        [text] if known else [part.strip() for part in text.split(",")]
        for text, known in zip(given, whole, strict=True)
    ]
    return [item for items in found for item in items if item]
