"""What shops write: `4,5`, `1.299,00`, `05.01.2024 10:00`, seconds or milliseconds, lists and records as text."""

import ast
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain

import polars as pl

from forwhy.errors import UserError

log = logging.getLogger(__name__)

DATES = (
    "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
"""Ways to write a day; a time of day may follow."""

TIME_OF_DAY = (
    r"(?i)[T ,]+(\d{1,2}):(\d{2})(?::(\d{2}))?[.\d]*\s*([ap]m)?\s*(?:z|utc|([+-]\d{2}):?(\d{2}))?\s*$"
)
DAY_AS_NUMBER = r"^\s*(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\s*$"
MILLISECONDS = 100_000_000_000
"""Times from here on are milliseconds: seconds since 1970 would be a date after the year 5138."""
DAY = 86_400
EXCEL, EXCEL_DAYS, EXCEL_1970 = "Excel's days", (20_000, 80_000), 25_569
"""The form of days since 1899-12-30, those that are taken for such (1954 to 2119), and that of 1970-01-01."""
COMMA = r"^[-+]?(?:\d{1,3}(?:\.\d{3})+|\d+)?(?:,\d*)?$"
"""A number in a column of decimal commas: points only mark thousands."""


def terms(cell: str) -> list[str]:
    """What stands between commas; of a list or record that JSON or Python wrote, what is inside (`terms_in`).

    >>> terms("soft, 100% wool"), terms("['soft', 'red, dark']")
    (['soft', '100% wool'], ['soft', 'red dark'])
    >>> terms('{"color": "red", "size": [38, 39], "new": true, "used": false}')
    ['color: red', 'size: 38', 'size: 39', 'new']
    """
    with suppress(RecursionError, ValueError):  # deeper, or a longer number, than anybody writes
        if (found := written(cell)) is not None:
            return terms_in(found)
    return [part.strip() for part in cell.split(",") if part.strip()]


def terms_in(value: object) -> list[str]:
    """The plain values in lists, and in records as `name: value`; a true one is its name; none, false and "" are none.

    Commas in them become spaces, since others stand between terms.
    """
    if isinstance(value, str) and (found := written(value)) is not None:
        value = found
    if isinstance(value, Mapping):
        told = (
            [name] if it is True else [f"{name}: {part}" for part in terms_in(it)]
            for name, it in value.items()
        )
        return [*chain.from_iterable(map(terms_in, told))]
    if isinstance(value, list | tuple | set | frozenset):
        return [*chain.from_iterable(map(terms_in, value))]
    said = "" if value is None or value is False else " ".join(str(value).replace(",", " ").split())
    return [said] if said else []


def written(text: str) -> object:
    """The list or record that a text is in JSON or Python; None where it is neither."""
    text = text.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            found: object = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        return found if isinstance(found, list | dict | set) else None
    return None


def numbers(values: pl.Series) -> pl.Series:
    """A whole column as numbers, null where it holds none; decimal commas and marks of thousands are understood."""
    if values.dtype != pl.String:
        return values.cast(pl.Float64, strict=False)
    plain = values.str.strip_chars()
    if plain.str.contains(",", literal=True).any():
        # 1,234 alone could be either; a column with 4,5 or 12,50 in it has decimal commas.
        comma = plain.str.contains(r"^-?[\d.]*\d,(?:\d{1,2}|\d{4,})$").any()
        if comma:
            plain = pl.select(pl.when(plain.str.contains(COMMA)).then(plain)).to_series()
        plain = plain.str.replace_all("." if comma else ",", "", literal=True)
        plain = plain.str.replace(",", ".", literal=True)
    return plain.cast(pl.Float64, strict=False)


def date_format(values: pl.Series, column: str, given: str | None = None) -> str | None:
    """How the days of a whole column are written; None for times, and for numbers of seconds or milliseconds.

    Refused, by `column`, where day and month could be either, or no way of `DATES` fits.
    """
    if given or not (values.dtype == pl.String or values.dtype.is_numeric()):
        return given
    known = values.drop_nulls()
    counted = known.cast(pl.Float64, strict=False)
    if len(known) and counted.is_between(*EXCEL_DAYS).fill_null(False).all():
        said = "%s: numbers like %s are read as days since 1899-12-30, as Excel counts them"
        log.info(said, column, known[0])
        return EXCEL
    if values.dtype != pl.String or not (known.str.contains(DAY_AS_NUMBER).all() or counted.null_count()):
        return None
    known = known.str.replace(TIME_OF_DAY, "").unique(maintain_order=True)
    read = {form: _days(known, form) for form in DATES}
    best = min(read, key=lambda form: read[form].null_count())
    if read[best].null_count() > len(known) / 2:
        wrong = f"{known[0]!r} is no time that is known; write 2024-01-31 or seconds since 1970"
        raise UserError(f"{column}: {wrong}, or say how days are written: --date-format '%d.%m.%Y'")
    for other in DATES:
        either = known.filter((read[other] != read[best]).fill_null(False))
        if len(either) and read[other].null_count() == read[best].null_count():
            wrong = f"{either[0]!r} is {best} or {other}, and no other row decides"
            raise UserError(f"{column}: {wrong}; say which, e.g. --date-format '{best}'")
    return best


def seconds(values: pl.Series, form: str | None) -> pl.Series:
    """A column as whole seconds since 1970 (UTC where it names no zone), null where it holds no time."""
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("ms"))
    if values.dtype == pl.Datetime:
        return values.dt.epoch("s")
    if form in (None, EXCEL) or values.dtype != pl.String:
        given = pl.lit(numbers(values))
        if form == EXCEL:
            given = ((given - EXCEL_1970) * DAY).round()
        whole = pl.when(given.abs() < MILLISECONDS).then(given).otherwise(given / 1000)
        return pl.select(whole.cast(pl.Int64, strict=False)).to_series()
    parts = values.str.extract_groups(TIME_OF_DAY).struct.unnest()
    hour, half = pl.col("1").cast(pl.Int64), pl.col("4").str.to_lowercase()
    hour = pl.when(half.is_null()).then(hour).otherwise(hour % 12 + 12 * (half == "pm"))
    minute, second, zone, more = (pl.col(part).cast(pl.Int64) for part in "2356")
    ahead = zone * 3600 + zone.sign() * more * 60
    parts = parts.select(hour * 3600 + minute * 60, second, -ahead).fill_null(0)
    return _days(values, form) * DAY + parts.sum_horizontal()


def _days(values: pl.Series, form: str) -> pl.Series:
    """Days since 1970, null where the text before a time of day is no such date."""
    day = values.str.replace(TIME_OF_DAY, "").str.strip_chars().str.to_date(form, strict=False)
    return pl.select(pl.when(day.dt.year() > 1900).then(day.cast(pl.Int64))).to_series()
