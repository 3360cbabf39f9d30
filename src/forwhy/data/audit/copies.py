"""Held-out pairs and held-out words where training can read them.

Legend: W words of all texts.
"""

from collections.abc import Iterator

import polars as pl

from forwhy.columns import SIDES, Side
from forwhy.data.audit.finding import PAIR, TRAIN, Finding, found, table
from forwhy.data.audit.overlap import NEAR, RUN, nearest, plain_words
from forwhy.data.dataset import Dataset

__all__ = ["copied", "pairs"]

PHRASE_RUN = 6
"""Words of a phrase in a row that also stand in a held-out text about the same person or thing."""


def pairs(dataset: Dataset) -> Iterator[Finding]:
    """Pairs that are held out in one table and trained on in another; O(E + P)."""
    rows, explained = table(dataset, "interactions"), table(dataset, "explanations")
    held, taught = explained.filter(~TRAIN), explained.filter(TRAIN)
    ranked = rows.filter(~TRAIN)
    yield found(
        "heldout-pairs-in-training-graph",
        "leak",
        held.join(rows.filter(TRAIN), on=PAIR, how="semi").select(*PAIR, "split"),
        held.height,
        "Held-out explained pairs that are training interactions: the graph already knows that this person "
        "took this thing.",
        'keep protocol = "leak-free" (the default cuts them); "as-published" only to repeat a paper',
    )
    yield found(
        "training-text-of-heldout-interactions",
        "leak",
        taught.join(ranked, on=PAIR, how="semi").select(PAIR),
        taught.height,
        "Training explanations of pairs that the ranking is tested on: who reads them knows the answer.",
        "keep intents.clear_of_interactions = true (the default leaves them out of the vocabulary)",
    )
    reviews = table(dataset, "reviews")
    hidden = pl.concat([held.select(PAIR), ranked.select(PAIR)]).unique()
    yield found(
        "reviews-of-heldout-pairs",
        "warning",
        reviews.join(hidden, on=PAIR, how="semi").select(*PAIR, "text"),
        reviews.height,
        "Reviews of pairs held out as explanation or interaction; explanations are often written from them.",
        "read Dataset.training_reviews(), which leaves them out, never the table",
    )


def copied(dataset: Dataset) -> Iterator[Finding]:
    """Held-out explanations that stand, whole or in good part, in texts that training may read; O(W).

    Near-duplicate: at least half of the explanation's runs of 8 words stand in one other text
    (`overlap.nearest`). Texts of fewer than 8 words are compared as a whole, with training explanations only,
    and are a warning: short sentences are repeated by chance.
    """
    explained = table(dataset, "explanations")
    held = explained.filter(~TRAIN).select(*PAIR, "text")
    taught = explained.filter(TRAIN)["text"]
    yield from _in_training(held, taught)
    reviews = dataset.training_reviews()
    sources = {
        "profiles": table(dataset, "profiles")["text"],
        "reviews": pl.Series(reviews.texts, dtype=pl.String),
    }
    for name, source in sources.items():
        yield found(
            f"heldout-text-in-{name}",
            "leak",
            _near(held, source),
            held.height,
            f"Held-out explanations of which {NEAR:.0%} or more (runs of {RUN} words) stand in one of the {name}: the "
            "answer can be copied.",
            f"drop these {name}, or write them from training rows only",
        )
    for side in SIDES:
        yield _in_phrases(dataset, side, held)


def _in_training(held: pl.DataFrame, taught: pl.Series) -> Iterator[Finding]:
    words = plain_words(held["text"])
    same = words.is_in(plain_words(taught).implode()) & (words != "")
    short = words.str.count_matches(" ", literal=True) < RUN - 1
    yield found(
        "heldout-text-in-training",
        "leak",
        held.filter(same & ~short),
        held.height,
        f"Held-out explanations of {RUN} words or more that are, word for word, training explanations: what is "
        "measured is memory.",
        "keep all pairs with one text in one split, or drop the repeats",
    )
    yield found(
        "short-heldout-text-in-training",
        "warning",
        held.filter(same & short),
        held.height,
        f"The same for texts under {RUN} words, which repeat by chance: a frequent sentence is a right answer.",
        "report the constant sentence beside each text number",
    )
    yield found(
        "heldout-text-near-training",
        "leak",
        _near(held.filter(~same), taught),
        held.height,
        f"Held-out explanations that share {NEAR:.0%} or more of their runs of {RUN} words with one training "
        "explanation, without being equal to one.",
        "drop the near-duplicates, or put them into one split",
    )


def _near(held: pl.DataFrame, source: pl.Series) -> pl.DataFrame:
    """The held-out rows that a source repeats, with what it says."""
    close = nearest(held["text"], source).filter(pl.col("share") >= NEAR).sort("row")
    return held[close["row"]].with_columns(source[close["source"]].alias("found_in"))


def _in_phrases(dataset: Dataset, side: Side, held: pl.DataFrame) -> Finding:
    phrases = table(dataset, "intents").filter(pl.col("side") == side)
    about = (phrases["entity_id"], held[f"{side}_id"].cast(pl.String))
    close = (
        nearest(phrases["phrase"], held["text"], PHRASE_RUN, about).filter(pl.col("share") == 1).sort("row")
    )
    return found(
        f"heldout-text-in-{side}-intents",
        "leak",
        phrases[close["row"]].select("entity_id", "phrase"),
        phrases.height,
        f"Phrases of {PHRASE_RUN} words or more that stand word for word in a held-out explanation about the same "
        f"{side}: they were cut from it.",
        "write the intents from training rows only",
    )
