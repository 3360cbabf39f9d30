"""The files of the shop of `docs/shop.py` as a database exports them: with gaps, repeats, odd prices and encodings."""

import csv
import io
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from forwhy.data.checks import own_columns
from forwhy.data.sources.rows import read_rows
from shop import orders, products, reviews

NO_TYPES: Mapping[str, str] = MappingProxyType({})
PEOPLE, ITEMS, ORDERS, REVIEWS = 40, 30, 500, 90


def write_shop(
    folder: Path, *, encoding: str = "utf-8", separator: str = ",", euro: str = "€"
) -> dict[str, Path]:
    """orders.csv, items.csv and reviews.csv; a tenth of the orders repeat one, a fifth of the stars and a tenth of
    the texts are empty. The paths by table."""
    chance, things = random.Random(0), products()[:ITEMS]
    first = orders(things, chance, PEOPLE, ORDERS - ORDERS // 10)
    bought = [{**it, "bought_at": f"{it['bought_at']} {_clock(chance)}"} for it in first]
    again = [{**it, "bought_at": f"2026-02-{1 + k % 28:02d} 10:00:00"} for k, it in enumerate(bought)]
    said = reviews(bought, things, chance, REVIEWS)
    tables = {
        "interactions": ("orders", [_with_quantity(it) for it in bought + again[: ORDERS // 10]]),
        "items": ("items", [_named(it, _price(k, euro)) for k, it in enumerate(things)]),
        "reviews": ("reviews", [{**it, "review_text": _quoted(it["review_text"])} for it in said]),
    }
    paths = {}
    for table, (name, rows) in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
        paths[table] = folder / f"{name}.csv"
        paths[table].write_bytes(text.getvalue().encode(encoding))
    return paths


def write_database(url: str, paths: Iterable[Path], types: Mapping[str, str] = NO_TYPES) -> None:
    """The files as tables, with the types that a shop would give its columns; text without."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    with engine.begin() as connection:
        for path in paths:
            frame = read_rows(path)
            frame = frame.select(own_columns(frame))
            typed = {name: types.get(name, "TEXT") for name in frame.columns}
            columns = ", ".join(f"{name} {kind}" for name, kind in typed.items())
            connection.execute(sqlalchemy.text(f"CREATE TABLE {path.stem} ({columns})"))
            lite = engine.name == "sqlite"
            values = ", ".join(f":{name}" if lite else f"CAST(:{name} AS {typed[name]})" for name in typed)
            rows = sqlalchemy.text(f"INSERT INTO {path.stem} VALUES ({values})")
            connection.execute(rows, frame.to_dicts())


def _clock(chance: random.Random) -> str:
    return f"{chance.randrange(24):02d}:{chance.randrange(60):02d}:00"


def _with_quantity(order: dict[str, str]) -> dict[str, str]:
    return {**order, "quantity": str(1 + int(order["sku"][1:]) % 3)}


def _named(thing: dict[str, str], price: str) -> dict[str, str]:
    return {**thing, "name": f"Café {thing['name']}", "price": price}


def _quoted(text: str) -> str:
    """With what a separator, a quote or a line break would cut."""
    return text and f'{text} "Great",\nsays my sister.'


def _price(k: int, euro: str) -> str:
    """Prices as shops write them."""
    return (f"{euro} {k},99", f"{k}.50", f"${k},000.00", "", "on request")[k % 5]
