"""How an import grows: generated files of rising size, Amazon Reviews 2023 (5-core) or, with `--csv`, a shop's orders.

Every size is imported in a process of its own. Prints one JSON document: rows per second and the peak of
resident memory, which includes what the libraries take at the start (`start_MiB`).
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from forwhy.data.dataset import Dataset
from forwhy.data.sources import import_amazon, import_tables
from forwhy.data.sources.reviews import ReviewFilters

BLOCK = 100_000
WORDS = ("the", "it", "and", "works", "great", "for", "my", "hair", "after", "two", "weeks", "smells", "nice")

ROW = (
    '{{"rating": {:.1f}, "title": "Works for me", "text": "{}", "images": [], "asin": "B{:09d}", '
    '"parent_asin": "B{:09d}", "user_id": "AE{:026d}", "timestamp": {}, "helpful_vote": 0, '
    '"verified_purchase": true}}\n'
)


def generate(path: Path, rows: int, seed: int = 0) -> None:
    """Popularity falls as a power of rank, so that a quarter of the rows or so is in the 5-core; 600 bytes a row."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 75)) for _ in range(1000)]
    with path.open("w", encoding="ascii") as stream:
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            users = (rng.random(n) ** 4 * rows).astype(int).tolist()
            items = (rng.random(n) ** 4 * rows / 4).astype(int).tolist()
            times = rng.integers(1_400_000_000_000, 1_690_000_000_000, n).tolist()
            ratings, said = rng.integers(1, 6, n).tolist(), rng.integers(0, len(texts), n).tolist()
            lines = (
                ROW.format(rating, f"{texts[text]} {start + k}", item, item, user, when)
                for k, (rating, text, item, user, when) in enumerate(
                    zip(ratings, said, items, users, times, strict=True)
                )
            )
            stream.writelines(lines)


def generate_orders(path: Path, rows: int, seed: int = 0) -> None:
    """Orders with a shop's headers, text ids and dates; popularity as in `generate`. 45 bytes a row."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="ascii") as stream:
        stream.write("customer_id,sku,bought_at,stars\n")
        for start in range(0, rows, BLOCK):
            n = min(BLOCK, rows - start)
            users = (rng.random(n) ** 2 * rows / 10).astype(int).tolist()
            items = (rng.random(n) ** 2 * rows / 100).astype(int).tolist()
            days = np.datetime_as_string(np.datetime64("2015-01-01T00:00:00") + rng.integers(0, 3 * 10**8, n))
            stars = rng.integers(0, 6, n).tolist()
            stream.writelines(
                f"C{user:07d},S{item:06d},{day},{star or ''}\n"
                for user, item, day, star in zip(users, items, days.tolist(), stars, strict=True)
            )


def _import(path: Path, core: int) -> Dataset:
    if path.suffix == ".csv":
        return import_tables(path, core=core)
    return import_amazon([path], filters=ReviewFilters(core=core, split="time"))


def measure(path: Path, core: int) -> dict[str, float]:
    """Import one file in this process."""
    before = _peak()
    started, cpu = time.perf_counter(), time.process_time()
    dataset = _import(path, core)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    steps = dataset.source["steps"]
    return {
        "rows": steps[0]["rows"],
        "file_MiB": path.stat().st_size >> 20,
        "kept": steps[-1]["rows"],
        "kept_text_MiB": int(dataset.table("reviews")["text"].str.len_bytes().sum() or 0) >> 20,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "rows_per_second": round(steps[0]["rows"] / seconds),
        "peak_MiB": _peak(),
        "start_MiB": before,
    }


def _peak() -> int:
    """Largest resident set so far; macOS counts bytes, Linux KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> (20 if sys.platform == "darwin" else 10)


def main() -> None:
    """Generate and import each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--core", type=int, help="default: 5 for reviews, 1 for orders")
    parser.add_argument("--csv", action="store_true", help="orders as CSV instead of reviews")
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary folder")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for rows in options.rows:
            path = Path(folder) / ("orders.csv" if options.csv else "reviews.jsonl")
            (generate_orders if options.csv else generate)(path, rows)
            core = options.core or (1 if options.csv else 5)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                results.append(pool.apply(measure, (path, core)))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
