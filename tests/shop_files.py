"""The files of a shop as its database exports them: other people's headers, gaps, habits and encodings."""

import csv
import io
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

KINDS = {
    "Tea": ("green tea leaves", "smoky black tea", "a light floral aroma"),
    "Garden tools": ("a sharp pruning blade", "an ash wood handle", "a spade for heavy soil"),
    "Board games": ("quick rules for four players", "clever dice rolling", "a cooperative puzzle"),
    "Knitting": ("soft merino wool", "hand-dyed colours", "yarn for warm socks"),
    "Running": ("shoes with deep grip", "a light running vest", "dry feet on wet trails"),
    "Café": ("rye flour from a stone mill", "a slow sourdough rise", "crème brûlée moulds"),
}
"""Category -> what its things offer."""


def write_shop(
    folder: Path,
    people: int = 300,
    items: int = 120,
    orders: int = 6_000,
    reviews: int = 800,
    *,
    encoding: str = "utf-8",
    separator: str = ",",
    euro: str = "€",
    seed: int = 0,
) -> dict[str, Path]:
    """orders.csv, items.csv and reviews.csv; a tenth of the orders repeat one, a fifth of the stars and a tenth of
    the texts are empty. The paths by table."""
    rng = np.random.default_rng(seed)
    names, kind = list(KINDS), np.arange(items) % len(KINDS)
    taste = rng.integers(len(KINDS), size=people)
    skus = [f"{k:04d}-{names[kind[k]][:2].upper()}" for k in range(items)]
    start = datetime(2024, 1, 1, 8)

    def order() -> list[object]:
        who = int(rng.integers(people))
        liked = np.flatnonzero(kind == taste[who])
        what = int(rng.choice(liked)) if rng.random() < 0.7 else int(rng.integers(items))
        when = start + timedelta(minutes=int(rng.integers(500_000)))
        return [f"C{who:05d}", skus[what], f"{when:%Y-%m-%d %H:%M:%S}", int(rng.integers(1, 4))]

    bought = [order() for _ in range(orders - orders // 10)]
    bought += [[*bought[int(k)][:2], f"2025-02-{k % 28 + 1:02d} 10:00:00", 1] for k in range(orders // 10)]
    things = [
        [
            skus[k],
            f"{names[kind[k]]} no. {k}",
            names[kind[k]],
            f"It offers {KINDS[names[kind[k]]][k % 3]}.",
            _price(k, euro),
        ]
        for k in range(items)
    ]
    said = []
    for row in rng.choice(len(bought) - orders // 10, reviews, replace=False):
        who, sku, when, _ = bought[int(row)]
        offers = KINDS[names[int(str(sku)[:4]) % len(KINDS)]]
        stars = "" if rng.random() < 0.2 else int(rng.integers(1, 6))
        text = "" if rng.random() < 0.1 else f'I like {rng.choice(offers)}; "great",\nsays my sister.'
        said.append([who, sku, stars, when, text])
    tables = {
        "interactions": ("orders", ["customer_id", "sku", "bought_at", "quantity"], bought),
        "items": ("items", ["sku", "name", "category", "description", "price"], things),
        "reviews": ("reviews", ["customer_id", "sku", "stars", "bought_at", "review_text"], said),
    }
    paths = {}
    for table, (name, header, rows) in tables.items():
        text = io.StringIO()
        csv.writer(text, delimiter=separator).writerows([header, *rows])
        paths[table] = folder / f"{name}.csv"
        paths[table].write_bytes(text.getvalue().encode(encoding))
    return paths


def _price(k: int, euro: str) -> str:
    """Prices as shops write them."""
    return (f"{euro} {k},99", f"{k}.50", f"${k},000.00", "", "on request")[k % 5]
