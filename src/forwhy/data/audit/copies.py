"""Texts that repeat another: runs of words, hashed, compared without comparing pairs of texts.

A *run* is N words in a row, lower-cased, without punctuation. A text repeats a source by the share of its distinct
runs that this one source holds too (containment): 1 for a copy and for a part, below 1 where words were
changed; one changed word breaks up to N runs. The runs are kept whole instead of sampled (MinHash): that is exact
but for collisions of 64-bit hashes, and explanations are short.

Legend: W words of all texts, N words of a run.
"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SIDES
from forwhy.data.audit.finding import TRAIN, Finding, found, table
from forwhy.data.dataset import Dataset
from forwhy.data.leaks import PAIR

RUN = 8
"""Words: long enough that two people seldom write the same ones in a row."""
NEAR = 0.5
"""Share of a text's runs in one source from which on it counts as a near-duplicate. Independent explanations
of one template reach .26 (XRec's Yelp and books, each held-out text against all training texts)."""
HOLDERS = 20
"""Sources looked at for each run. A stock phrase stands in thousands; the first 20 keep the cost linear, and
they are the same ones for each run of a text that was copied more often."""

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORD = rf"[{UNSPACED}]|[\w--[{UNSPACED}]]+"
"""A run of letters and digits; in scripts written without spaces each sign is a word."""

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that multiplying loses nothing modulo 2^64."""


def word_lists(texts: pl.Series) -> pl.Series:
    """The words of each text; O(characters)."""
    return texts.str.to_lowercase().str.extract_all(WORD)


def plain_words(texts: pl.Series) -> pl.Series:
    """Each text as its words with one space between: equal when only case, marks and spaces differ."""
    return word_lists(texts).list.join(" ")


def nearest(
    texts: pl.Series,
    sources: pl.Series,
    run: int = RUN,
    about: tuple[pl.Series, pl.Series] | None = None,
) -> pl.DataFrame:
    """The source that holds most of each text: columns `row`, `source` (positions) and `share` (0, 1].

    Texts that share no run with any source, and those of fewer than `run` words, are absent. O(W): at most
    20 sources are looked at for each run, so of a text whose runs all stand in more, the share is a lower
    bound.

    Args:
        texts: What may have been copied.
        sources: Where to look for it.
        run: Words in a row.
        about: Keys of the texts and of the sources (as text); runs then match only between equal keys.
    """
    keys = about or (None, None)
    ours, theirs = _runs(texts, run, keys[0]), _runs(sources, run, keys[1])
    theirs = theirs.join(ours.select("run").unique(), on="run", how="semi").rename({"row": "source"})
    theirs = theirs.filter(pl.int_range(pl.len()).over("run") < HOLDERS)
    total = ours.group_by("row").agg(pl.len().alias("total"))
    shared = ours.join(theirs, on="run").group_by("row", "source").agg(pl.len().alias("shared"))
    share = (pl.col("shared") / pl.col("total")).alias("share")
    best = shared.join(total, on="row").select("row", "source", share)
    order = best.sort("row", "share", "source", descending=[False, True, False])
    return order.unique("row", keep="first", maintain_order=True)


def _runs(texts: pl.Series, run: int, keys: pl.Series | None) -> pl.DataFrame:
    """Distinct (row, run) of all texts; a run is a polynomial in the hashes of its words, modulo 2^64."""
    words = word_lists(texts)
    owner = np.repeat(np.arange(len(texts)), words.list.len().to_numpy())
    codes = words.explode().drop_nulls().hash().to_numpy()
    windows = max(len(codes) - run + 1, 0)
    hashes: NDArray[np.uint64] = np.zeros(windows, dtype=np.uint64)
    for place in range(run):
        hashes = hashes * MULTIPLIER + codes[place : place + windows]
    if keys is not None:
        hashes = (hashes ^ keys.hash().to_numpy()[owner[:windows]]) * MULTIPLIER
    inside = owner[:windows] == owner[run - 1 : run - 1 + windows]
    return pl.DataFrame({"row": owner[:windows][inside], "run": hashes[inside]}).unique(maintain_order=True)


# --- Held-out words where training can read them.


PHRASE_RUN = 6
"""Words of a phrase in a row that also stand in a held-out text about the same person or thing."""


def copied(dataset: Dataset) -> Iterator[Finding]:
    """Held-out explanations that stand, whole or in good part, in texts that training may read; O(W).

    Near-duplicate: at least half of the explanation's runs of 8 words stand in one other text
    (`nearest`). Texts of fewer than 8 words are compared as a whole, with training explanations only,
    and are a warning: short sentences are repeated by chance.
    """
    explained = table(dataset, "explanations")
    held, taught = explained.filter(~TRAIN).select(*PAIR, "text"), explained.filter(TRAIN)["text"]
    words = plain_words(held["text"])
    same = words.is_in(plain_words(taught).implode()) & (words != "")
    short = words.str.count_matches(" ", literal=True) < RUN - 1
    yield found("heldout-text-in-training", held.filter(same & ~short), held.height, run=RUN)
    yield found("short-heldout-text-in-training", held.filter(same & short), held.height, run=RUN)
    near = _near(held.filter(~same), taught)
    yield found("heldout-text-near-training", near, held.height, run=RUN, near=NEAR)
    reviews = pl.Series(dataset.training_reviews().texts, dtype=pl.String)
    for name, source in (("profiles", table(dataset, "profiles")["text"]), ("reviews", reviews)):
        near = _near(held, source)
        yield found("heldout-text-in-{table}", near, held.height, table=name, run=RUN, near=NEAR)
    for side in SIDES:
        phrases = table(dataset, "intents").filter(pl.col("side") == side)
        about = (phrases["entity_id"], held[f"{side}_id"].cast(pl.String))
        close = nearest(phrases["phrase"], held["text"], PHRASE_RUN, about)
        cut = phrases[close.filter(pl.col("share") == 1)["row"]].select("entity_id", "phrase")
        yield found("heldout-text-in-{side}-intents", cut, phrases.height, side=side, run=PHRASE_RUN)


def _near(held: pl.DataFrame, source: pl.Series) -> pl.DataFrame:
    """The held-out rows that a source repeats, with what it says."""
    close = nearest(held["text"], source).filter(pl.col("share") >= NEAR)
    return held[close["row"]].with_columns(source[close["source"]].alias("found_in"))
