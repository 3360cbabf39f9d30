"""Which of a shop's columns is which of ours, by what it is called."""

import re
import shlex
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from unicodedata import normalize

from forwhy.columns import TABLES
from forwhy.errors import UserError

KNOWN: Mapping[str, list[str]] = tomllib.loads(Path(__file__).with_name("headers.toml").read_text("utf-8"))
"""Other names by our column, or by table and column."""

CODE = r"(?:id|n|no|nr|num|number|nummer|numero|code|codigo|key|uuid|guid|hash|ref|reference|referencia)"
AFFIX = re.compile(rf"^{CODE}_(?:de_|del_|du_)?|_{CODE}$|(?<=.)(?:id|nr|nummer|code)$")
ACCENTS = re.compile("[\u0300-\u036f]")
WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|\W+")
NOT = 3
"""How well a name fits that does not."""


def guess(
    table: str, place: str, columns: Collection[str], taken: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """Their column by ours, for those that `given` (theirs by ours) does not name.

    Our own names win, then an id's noun with `id` or the like, then other names of `headers.toml`; of several that fit
    alike, the one that another table called so (`taken`). Where two still fit, the error says how to choose.
    """
    found: dict[str, str] = {}
    for column in TABLES[table]:
        if column.name in given:
            continue
        ours = column.name
        fits = best(table, ours, [it for it in columns if it not in (*found.values(), *given.values())])
        if taken.get(ours) in fits:
            fits = [taken[ours]]
        if len(fits) > 1:
            remedy = f"choose one, e.g. --map {table}.{ours}={shlex.quote(fits[0])}"
            raise UserError(f"{place}: {' and '.join(fits)} both fit {ours}; {remedy}")
        if fits:
            found[ours] = fits[0]
    return found


def best(table: str, ours: str, columns: Collection[str]) -> list[str]:
    """Their columns that fit one of ours best; several where they fit alike."""
    tiers = [_tier(table, ours, theirs) for theirs in columns]
    least = min(tiers, default=NOT)
    return [theirs for theirs, tier in zip(columns, tiers, strict=True) if tier == least < NOT]


def _tier(table: str, ours: str, theirs: str) -> int:
    """How well a name fits: 0 ours, 1 surely, 2 likely, `NOT` at all."""
    name = WORDS.sub("_", ACCENTS.sub("", normalize("NFKD", theirs)).strip()).strip("_").lower()
    if name == ours:
        return 0
    known = KNOWN.get(f"{table}.{ours}", KNOWN.get(ours, []))
    if not ours.endswith("_id"):
        return 1 if name in known else NOT
    if name in known:
        return 1 if name in KNOWN["codes"] else 2
    home = "entity" if ours == "entity_id" else table.removesuffix("s")
    if name == "id":
        return 1 if ours == f"{home}_id" else NOT
    return 1 if AFFIX.sub("", name) in known else NOT
