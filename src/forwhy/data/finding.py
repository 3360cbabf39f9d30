"""What an audit says, one finding per leak or oddity, and the search for texts that repeat another.

The words of the findings are in `findings.toml`.

Legend: W words of all texts, N words of a run.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import SPLITS

Severity = Literal["leak", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("leak", "warning", "note")
"""``leak``: training could read a right answer of the test; ``warning``: numbers mean less than they seem
to; ``note``: good to know before comparing or joining."""

SAID = tomllib.loads(Path(__file__).with_name("findings.toml").read_text(encoding="utf-8"))
"""`severity`, `meaning` and `remedy` by a finding's name; both may hold fields such as ``{side}``."""

TRAIN, TEST = pl.col("split") == SPLITS[0], pl.col("split") == SPLITS[2]

EXAMPLES = 3
LONGEST_EXAMPLE = 80
"""Characters of a stranger's text that an example quotes."""


@dataclass(frozen=True)
class Finding:
    """One leak or oddity: `count` cases of `of`."""

    id: str
    """A short name that stays the same between versions."""
    severity: Severity
    count: int
    of: int
    meaning: str
    """What it does to numbers."""
    remedy: str
    examples: tuple[Mapping[str, str | int], ...] = ()
    """The first cases, by the user's own ids; texts are cut and without control characters, ids may hold anything."""

    def document(self) -> dict[str, Any]:
        """The finding as plain JSON values."""
        return asdict(self)


def found(
    name: str, cases: pl.DataFrame, of: int, count: int | None = None, warns: bool = False, **told: object
) -> Finding:
    """A finding by its name in `SAID`, with values for the fields of its texts; `warns` makes a warning of a note.

    `cases` has one row per case, or, where a `count` is given, the rows to show; its columns are what examples show.
    """
    said, rows = SAID[name], cases.head(EXAMPLES).iter_rows(named=True)
    severity: Severity = "warning" if warns else said["severity"]
    meaning, remedy = (said[part].format(**told) for part in ("meaning", "remedy"))
    shown = tuple({column: _shown(column, value) for column, value in row.items()} for row in rows)
    count = cases.height if count is None else count
    return Finding(name.format(**told), severity, count, of, meaning, remedy, shown)


def _shown(column: str, value: str | int) -> str | int:
    """The beginning of a stranger's text on one line, without control characters; ids stay whole."""
    if isinstance(value, int) or column.endswith("_id"):
        return value
    cut = value if len(value) <= LONGEST_EXAMPLE else value[: LONGEST_EXAMPLE - 1] + "…"
    return "".join(letter if letter.isprintable() else " " for letter in cut)


# --- Texts that repeat another. Runs of words are hashed and joined, so no pair of texts is compared. A *run* is N
# words in a row, lower-cased, without punctuation. A text repeats a source by the share of its distinct runs that this
# one source holds too (containment): 1 for a copy and for a part; one changed word breaks up to N runs. The runs are
# kept whole instead of sampled (MinHash): exact but for collisions of 64-bit hashes.

RUN = 8
"""Words: long enough that two people seldom write the same ones in a row."""
NEAR = 0.5
"""A text with this share of its runs in one source is a near-duplicate. Independent explanations of one template
reach .26 (XRec's Yelp and books, each held-out text against all training texts)."""
HOLDERS = 20
"""Sources looked at for each run, the first ones. A stock phrase has thousands; 20 keep the cost linear."""

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
    texts: pl.Series, sources: pl.Series, run: int = RUN, about: tuple[pl.Series, pl.Series] | None = None
) -> pl.DataFrame:
    """The source that holds most of each text: columns `row`, `source` (positions) and `share` (0, 1].

    Texts that share no run are absent. With `about`, keys of the texts and of the sources (as text), runs match only
    between equal keys. O(W): `HOLDERS` are looked at for each run, so of frequent runs the share is a lower bound.
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
