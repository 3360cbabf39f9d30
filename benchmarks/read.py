"""What a run wrote, to be read by people: unpicked texts with their evidence, and praise of what a place has not.

    python -m benchmarks.read runs/because --data out/yelp [--count 20] [--seed 0]

Prints, as Markdown, `--count` texts drawn by the seed, each with its title and the statements that stood beside it.
Then of 100 others those that praise food where neither the title nor the profile or description of the item has a word
of food: a rule, the same for every run. A person should read what it finds.
"""

import argparse
import re
from pathlib import Path

import numpy as np
import polars as pl

from forwhy.data.dataset import Dataset

RULED, SHOWN = 100, 8
"""Texts that the rule reads, and statements that are printed beside a text, the nearest ones."""
FOOD = re.compile(
    r"\b(?:food|dish(?:es)?|menu|meals?|dining|cuisine|pizza|burgers?|sushi|tacos?|coffee|drinks?|beers?|wines?|cocktails?"
    r"|sandwich(?:es)?|desserts?|breakfast|brunch|lunch|dinner|steaks?|seafood|flavou?rs?|flavou?rful|delicious|tasty"
    r"|ice cream|bakery|pastr(?:y|ies)|chicken|ribs|oysters?|barbecue|bbq|eater(?:y|ies)|restaurants?|caf[eé]|pub"
    r"|brewery|grill|kitchen|deli|diner|tea|snacks?|candy|chocolate|fries|salads?|soups?|noodles?|ramen|curry|bread"
    r"|bagels?|donuts?|doughnuts?|juices?|smoothies?|gelato|yogurt|bistro|groceries|produce|crab|shrimp|wings|tapas"
    r"|foodies?|culinary|gastropub|winery|distillery|mexican|italian|thai|chinese|indian|korean|japanese|vietnamese"
    r"|mediterranean|greek|cuban)\b",
    re.IGNORECASE,
)


def main() -> None:
    """Read the run's texts, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dataset = Dataset.load(given.data)
    texts = pl.read_parquet(given.run / "outputs.parquet")
    order = np.random.default_rng(given.seed).permutation(texts.height).tolist()
    titles, about, profiles = dataset.titles(), dataset.item_texts(), dataset.profiles("item")
    rows = texts.with_columns(item=dataset.items.numbers(texts["item_id"])).rows(named=True)
    for row in (rows[number] for number in order[: given.count]):
        beside = "; ".join((row.get("evidence") or ["nothing"])[:SHOWN])
        print(f"- **{titles[row['item']] or row['item_id']}**: {row['prediction']}\n  Evidence: {beside}.")
    ruled = [rows[number] for number in order[given.count : given.count + RULED]]
    known = [f"{about[row['item']]} {profiles.get(row['item'], '')}" for row in ruled]
    bare = [row for row, text in zip(ruled, known, strict=True) if not FOOD.search(text)]
    wrong = [row for row in bare if FOOD.search(row["prediction"])]
    print(
        f"\nOf {len(ruled)} others {len(bare)} are of places without a word of food; food is praised in {len(wrong)}:"
    )
    for row in wrong:
        print(f"- {titles[row['item']]}: {row['prediction']}")


if __name__ == "__main__":
    main()
