"""Writes a little shop to try forwhy on: orders.csv, products.csv and reviews.csv in the folder that you name.

python docs/shop.py shop        in the source tree
python -m forwhy.shop shop      with an installed wheel
"""

import csv
import random
import sys
from datetime import date, timedelta
from pathlib import Path

SHELVES = {
    "Tea": ("Green Sencha", "Smoky Lapsang", "Jasmine Pearls", "Mint Leaves", "Earl Grey"),
    "Garden": ("Pruning Knife", "Ash Spade", "Seed Tray", "Copper Can", "Hand Fork"),
    "Board games": ("Harbour Dice", "Castle Cards", "Night Train", "Salt Road", "Owl Quiz"),
    "Knitting": ("Merino Wool", "Bamboo Needles", "Sock Yarn", "Cable Hook", "Alpaca Ball"),
    "Running": ("Trail Shoe", "Rain Vest", "Head Torch", "Dry Sock", "Bottle Belt"),
    "Baking": ("Loaf Tin", "Rye Flour", "Dough Whisk", "Proving Basket", "Bread Lame"),
}
PRAISE = {
    "Tea": ("a light floral aroma", "a smoky taste", "large whole leaves"),
    "Garden": ("a sharp blade", "a handle that lies well in the hand", "solid steel"),
    "Board games": ("quick rules for four players", "clever dice rolling", "a cooperative puzzle"),
    "Knitting": ("soft wool", "hand-dyed colours", "yarn for warm socks"),
    "Running": ("deep grip on wet trails", "dry feet", "a light fit"),
    "Baking": ("a crisp crust", "flour from a stone mill", "a slow sourdough rise"),
}
SIZES = ("Small", "Large", "Classic", "Deluxe")


def products() -> list[dict[str, str]]:
    """120 things on six shelves."""
    names = [(shelf, f"{size} {name}") for size in SIZES for shelf, of in SHELVES.items() for name in of]
    return [
        {
            "sku": f"P{number:03d}",
            "name": name,
            "category": shelf,
            "description": f"{name}: it has {PRAISE[shelf][number % 3]}.",
            "price": f"{5 + number % 40}.90",
        }
        for number, (shelf, name) in enumerate(names)
    ]


def orders(
    things: list[dict[str, str]], chance: random.Random, customers: int = 300, count: int = 6_000
) -> list[dict[str, str]]:
    """Half of what a customer buys is from one shelf, a quarter from another; some things are bought twice."""
    found = []
    for number in range(count):
        customer = number % customers
        first, second = random.Random(customer).sample(sorted(SHELVES), 2)
        shelf = chance.choices((first, second, ""), (2, 1, 1))[0]
        thing = chance.choice([thing for thing in things if shelf in ("", thing["category"])])
        day = date(2025, 1, 1) + timedelta(days=chance.randrange(365))
        found.append({"customer_id": f"C{customer:03d}", "sku": thing["sku"], "bought_at": day.isoformat()})
    return found


def reviews(
    bought: list[dict[str, str]], things: list[dict[str, str]], chance: random.Random, count: int = 800
) -> list[dict[str, str]]:
    """Some praise, some say little; a fifth forgets the stars, a tenth the text."""
    shelf = {thing["sku"]: thing["category"] for thing in things}
    found = []
    for order in chance.sample(bought, count):
        good = chance.random() < 0.8
        praise = f"I like it for {chance.choice(PRAISE[shelf[order['sku']]])}."
        said = praise if good and chance.random() < 0.6 else "Thanks." if good else "The box was broken."
        stars = "" if chance.random() < 0.2 else str(chance.randint(4, 5) if good else chance.randint(1, 2))
        text = "" if chance.random() < 0.1 else said
        found.append({**order, "stars": stars, "review_text": text})
    return found


def write_shop(folder: Path) -> None:
    """The three files; always the same."""
    chance, things = random.Random(0), products()
    bought = orders(things, chance)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"orders": bought, "products": things, "reviews": reviews(bought, things, chance)}
    for name, rows in tables.items():
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    write_shop(Path(sys.argv[1]))
