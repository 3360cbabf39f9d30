"""Which texts make words rank: a generated shop where taste follows category, and any data set folder.

    python -m benchmarks.shop              the shop
    python -m benchmarks.shop out/imdb     a data set folder

Recall@20 of the quantised words on validation and test interactions, by what the phrases were read from.
"""

import sys
import tempfile

import numpy as np
import polars as pl

from forwhy.columns import SIDES
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.intents import IntentsConfig, entity_phrases
from forwhy.graph.bipartite import Bipartite
from forwhy.graph.lightgcn import hits_and_recall
from forwhy.text.encoder import text_encoder
from forwhy.text.mining.extractive import ExtractiveMiner
from forwhy.text.mining.mine import mine
from forwhy.text.mining.stage import MiningConfig
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.tokenizer import BehaviourTokenizer
from forwhy.vocabulary.vocabulary import Vocabulary

KINDS = {
    "Loose tea": ("green tea leaves", "smoky black tea", "a light floral aroma"),
    "Garden tools": ("a sharp pruning blade", "an ash wood handle", "a spade for heavy soil"),
    "Board games": ("quick rules for four players", "clever dice rolling", "a cooperative puzzle"),
    "Knitting yarn": ("soft merino wool", "hand-dyed colours", "yarn for warm socks"),
    "Trail running": ("shoes with deep grip", "a light running vest", "dry feet on wet trails"),
    "Film cameras": ("a bright viewfinder", "35 mm film", "a quiet mechanical shutter"),
    "Baking": ("a heavy loaf tin", "rye flour from a stone mill", "a slow sourdough rise"),
    "Aquariums": ("a quiet water pump", "plants for soft water", "food for small shrimp"),
}
"""Category -> what its things offer."""
BOILERPLATE = (
    "Très bien, merci!", "True to what they said.", "Arrived two days later than my sister said it would.",
    "I read the reviews first and ordered anyway.", "Five stars, would buy again.", "My nephew Carlos loved it.",
    "Packaging was fine, the driver was friendly.", "As Dave from the shop told me, you get what you pay for.",
    "VERY GOOD. Very good!!", "Sehr gut, gerne wieder.", "Came in a box inside another box.",
)  # fmt: skip
COMPLAINTS = (
    "The lid was cracked and sticky.",
    "A rusty screw fell out.",
    "Smells of burnt plastic and glue.",
)


def shop(
    people: int = 300, items: int = 120, orders: int = 6_000, reviews: int = 800, seed: int = 0
) -> Dataset:
    """People who mostly order from one or two categories; reviews are mostly boilerplate, a fifth are complaints.

    Names of things say nothing. Orders are split 80/10/10 at random.
    """
    rng = np.random.default_rng(seed)
    names, kind = list(KINDS), np.arange(items) % len(KINDS)
    taste = np.stack([rng.permutation(len(KINDS))[:2] for _ in range(people)])
    wish = np.full((people, items), 0.3)
    wish[kind == taste[:, :1]], wish[kind == taste[:, 1:]] = 4.0, 2.0
    wish = np.log(wish) + rng.gumbel(size=wish.shape)
    taken = np.argsort(-wish, axis=1)[:, : orders // people]
    users, things = np.repeat(np.arange(people), taken.shape[1]), taken.ravel()
    split = rng.choice(["train", "valid", "test"], len(users), p=[0.8, 0.1, 0.1])
    low = rng.random(len(users)) < 0.2
    rating = np.where(low, rng.integers(1, 3, len(users)), rng.integers(4, 6, len(users)))
    visits = pl.DataFrame({"user_id": users, "item_id": things, "rating": rating, "split": split})

    def review(row: int) -> str:
        said = list(rng.choice(COMPLAINTS if low[row] else BOILERPLATE, 2, replace=False))
        if not low[row] and rng.random() < 0.3:
            said.insert(1, f"Liked it for {rng.choice(KINDS[names[kind[things[row]]]])}.")
        return " ".join(said)

    rows = rng.permutation(len(users))[:reviews]
    syllables = ("ba", "ko", "ri", "mu", "ta", "ne", "lo", "shi", "ve", "du")
    tables = {
        "interactions": visits,
        "items": pl.DataFrame(
            {
                "item_id": range(items),
                "title": [
                    "".join(rng.choice(syllables, 3)).title() + f" {rng.integers(100, 999)}" for _ in kind
                ],
                "categories": [f"All, {names[of]}" for of in kind],
                "description": [f"With {rng.choice(KINDS[names[of]])}." for of in kind],
            }
        ),
        "reviews": visits[rows].select("user_id", "item_id").with_columns(text=pl.Series(map(review, rows))),
    }
    return make_dataset("shop", tables)


def learn(dataset: Dataset, intents: IntentsConfig, **options: object) -> Vocabulary:
    """The vocabulary of a data set whose phrases are read so."""
    phrases = {side: entity_phrases(dataset, side, intents) for side in SIDES}
    config = TokenizerConfig(**{"codes": 64, "slot_dim": 8, "batch_size": 1024, "epochs": 5, **options})
    with tempfile.TemporaryDirectory() as work:
        return BehaviourTokenizer(config).fit(dataset, phrases, text_encoder("minilm"), work)


def recalls(dataset: Dataset, words: Vocabulary) -> list[float]:
    """Recall@20 on validation and on test interactions, without what was taken in training."""
    graph = Bipartite(dataset.edges("train"), len(dataset.users), len(dataset.items))
    user, item = (words.representation(side) for side in SIDES)
    return [hits_and_recall(user, item, graph, dataset.edges(split), 20)[1] for split in ("valid", "test")]


def rows(dataset: Dataset) -> dict[str, tuple[Dataset, IntentsConfig]]:
    """What is read, row by row of the table."""
    reads = {
        "nothing": (dataset, IntentsConfig(source="none")),
        "catalogue": (dataset, IntentsConfig(source="catalogue")),
    }
    if "reviews" in dataset.tables:
        mined = mine(dataset, MiningConfig(kind="intents"), ExtractiveMiner()).dataset
        reads["reviews"] = mined, IntentsConfig(catalogue=0)
        reads["catalogue + reviews"] = mined, IntentsConfig()
    if "intents" in dataset.tables:
        reads["intents"] = dataset, IntentsConfig(source="intents")
        reads["catalogue + intents"] = dataset, IntentsConfig()
    return reads


def main() -> None:
    """Measure and print, three seeds a row."""
    dataset = Dataset.load(sys.argv[1]) if sys.argv[1:] else shop()
    print("| read | recall@20, validation | test |\n|---|---|---|")
    for name, (read, intents) in rows(dataset).items():
        found = np.mean([recalls(read, learn(read, intents, seed=seed)) for seed in range(3)], axis=0)
        print(f"| {name} | {found[0]:.3f} | {found[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
