"""What the texts of a data set are like: copied, constant, empty, too long, dirty, doubled, or about held-out people.

Legend: W words of all texts.
"""

from collections.abc import Iterator

import polars as pl

from forwhy.columns import SIDES, SPLITS
from forwhy.data.audit.finding import NEAR, RUN, TRAIN, Finding, found, nearest, plain_words, word_lists
from forwhy.data.dataset import Dataset
from forwhy.data.intents import LONGEST_GIVEN, LONGEST_PROSE
from forwhy.data.leaks import PAIR, vouched
from forwhy.data.sources.files import LONGEST_TEXT

OPENING = 5
"""Words that make up the opening of a text."""
SAME_OPENING = 0.5
"""From this share of explanations on, one opening is a warning."""
CONSTANT = 0.05
"""From this share of explanations on, one repeated text is a warning."""
LARGE_SHARE = 0.05
"""From this share of a held-out split's explanations on, those of one user or item are many."""

LONGEST_EXPLANATION = 60
"""Words: `max_words` of the explainer's generation."""
PLACEHOLDER = r"^(?:nan|none|null|n a|unknown|untitled)?$"
"""Plain words that mean that there is no text."""

PHRASE_RUN = 6
"""Words of a phrase in a row that are a copy when a held-out text about its person or thing has them too."""

HTML = r"(?is)</?[a-z][a-z0-9]*(?:\s[^<>]{0,300})?/?>|&(?:[a-z]{2,8}|#[0-9]{2,6}|#x[0-9a-f]{2,5});"
LIST = r"""(?s)^\s*\[\s*(?:['"].*['"]\s*)?,?\s*\]\s*$"""

ABOUT = {
    "explanations": PAIR,
    "reviews": PAIR,
    "profiles": ["side", "entity_id"],
    "intents": ["side", "entity_id"],
    "items": ["item_id"],
    "users": ["user_id"],
}
"""Tables with texts, and who or what a row of each is about."""
TEXTS = {"explanations": "text", "reviews": "text", "profiles": "text", "intents": "phrase"}
"""The text column of those tables that have one."""


def copied(dataset: Dataset) -> Iterator[Finding]:
    """Held-out explanations that are, whole or in good part, in texts that training may read; O(W).

    A near-duplicate shares at least half of its runs of 8 words with one other text (`nearest`). Texts of
    fewer than 8 words are compared as a whole, with training explanations only, and are a warning: short
    sentences are repeated by chance.
    """
    explained = dataset.table("explanations")
    held, taught = explained.filter(~TRAIN).select(*PAIR, "text"), explained.filter(TRAIN)["text"]
    words = plain_words(held["text"])
    same = words.is_in(plain_words(taught).implode()) & (words != "")
    short = words.str.count_matches(" ", literal=True) < RUN - 1
    yield found("heldout-text-in-training", held.filter(same & ~short), held.height, run=RUN)
    yield found("short-heldout-text-in-training", held.filter(same & short), held.height, run=RUN)
    near = _near(held.filter(~same), taught)
    yield found("heldout-text-near-training", near, held.height, run=RUN, near=NEAR)
    reviews = pl.Series(dataset.training_reviews().texts, dtype=pl.String)
    for name, source in (("profiles", dataset.table("profiles")["text"]), ("reviews", reviews)):
        near = _near(held, source)
        yield found("heldout-text-in-{table}", near, held.height, table=name, run=RUN, near=NEAR)
    for side in SIDES:
        phrases = dataset.table("intents").filter(pl.col("side") == side)
        about = (phrases["entity_id"], held[f"{side}_id"].cast(pl.String))
        close = nearest(phrases["phrase"], held["text"], PHRASE_RUN, about)
        cut = phrases[close.filter(pl.col("share") == 1)["row"]].select("entity_id", "phrase")
        yield found("heldout-text-in-{side}-intents", cut, phrases.height, side=side, run=PHRASE_RUN)


def _near(held: pl.DataFrame, source: pl.Series) -> pl.DataFrame:
    """The held-out rows that a source repeats, with what it says."""
    close = nearest(held["text"], source).filter(pl.col("share") >= NEAR)
    return held[close["row"]].with_columns(source[close["source"]].alias("found_in"))


def profiles(dataset: Dataset) -> Iterator[Finding]:
    """Profiles of those who occur in held-out pairs, unless we know what they were written from."""
    rows = dataset.table("profiles")
    held = dataset.table("explanations").filter(~TRAIN)
    for side in SIDES:
        concerned = held[f"{side}_id"].unique().cast(pl.String)
        known = vouched(dataset.tables, "profiles", side)
        unknown = rows["entity_id"].is_in(concerned.implode()) & ~rows["entity_id"].is_in(known.implode())
        ours = rows.filter((rows["side"] == side) & unknown).select("entity_id", "text")
        yield found(f"profiles-of-heldout-{side}s", ours, len(concerned))


def explanations(dataset: Dataset) -> Iterator[Finding]:
    """How much of the references one sentence, or one opening, makes up; O(W)."""
    words = word_lists(dataset.table("explanations")["text"])
    openings = words.list.head(OPENING).filter(words.list.len() >= OPENING)
    for what, texts, share, said in (
        ("explanation", words, CONSTANT, "are, word for word, the most frequent one"),
        ("opening", openings, SAME_OPENING, f"start with the same {OPENING} words"),
    ):
        counts = pl.DataFrame({"text": texts.list.join(" ")}).group_by("text").len("n")
        most = counts.filter(pl.col("n") > 1).sort("n", "text", descending=[True, False]).head(1)
        count = sum(most["n"])
        warns = count >= share * len(words)
        yield found("common-{what}", most.select("text"), len(words), count, warns, what=what, said=said)


def spread(dataset: Dataset) -> Iterator[Finding]:
    """Held-out explanations about those without a training one, or mostly about one user or item."""
    rows = dataset.table("explanations")
    train, held = rows.filter(TRAIN), rows.filter(~TRAIN)
    for side in SIDES:
        key = f"{side}_id"
        untold = held.join(train, on=key, how="anti").select(*PAIR, "split")
        yield found("unexplained-{side}s", untold, held.height, side=side)
        for split in SPLITS[1:]:
            part = rows.filter(pl.col("split") == split)
            counts = part.group_by(key).len("explanations")
            least = max(2.0, LARGE_SHARE * part.height)
            large = counts.filter(pl.col("explanations") >= least)
            large = large.sort("explanations", key, descending=[True, False])
            count, share, capital = counts.height, LARGE_SHARE, side.capitalize()
            name = "few-{side}s-fill-{split}"
            yield found(name, large, count, side=side, Side=capital, split=split, share=share)


def doubles(dataset: Dataset) -> Iterator[Finding]:
    """Items that are the same but for case, marks and spaces; O(W)."""
    items = dataset.table("items")
    if "title" not in items.columns:
        return
    named = items.with_columns(plain_words(items["title"]).alias("words")).filter(pl.col("words") != "")
    same = named.filter(pl.struct("words").is_duplicated())
    both = same.clear()
    if "description" in items.columns:
        same = same.with_columns(plain_words(same["description"]).alias("more"))
        both = same.filter(pl.struct("words", "more").is_duplicated() & (pl.col("more") != ""))
        same = same.filter(~pl.col("item_id").is_in(both["item_id"].implode()))
    for cases, what in ((both, "title and description"), (same, "title")):
        shown = cases.sort("words", "item_id").select("item_id", "title")
        slug = what.replace(" ", "-")
        yield found("same-{slug}", shown, named.height, warns=cases is both, slug=slug, what=what)


def poor(dataset: Dataset) -> Iterator[Finding]:
    """Texts without words, of a single word where a sentence is due, and over the cap; O(W)."""
    yield from _poor_items(dataset.table("items"))
    for name, column in TEXTS.items():
        rows = dataset.table(name)
        words, told = word_lists(rows[column]), rows.select(*ABOUT[name], column)
        empty, lengths = words.list.join(" ").str.contains(PLACEHOLDER), words.list.len()
        least = told.filter(empty if name == "intents" else empty | (lengths < 2))
        yield found("empty-{table}", least, rows.height, warns=name == "explanations", table=name)
        if name == "explanations":
            long = told.filter(lengths > LONGEST_EXPLANATION)
            yield found("long-explanations", long, rows.height, limit=LONGEST_EXPLANATION)
        else:
            cap = LONGEST_GIVEN if name == "intents" else LONGEST_PROSE
            long = told.filter(rows[column].str.len_chars() > cap)
            yield found("long-{table}", long, rows.height, limit=cap, table=name)


def _poor_items(items: pl.DataFrame) -> Iterator[Finding]:
    for column in ("title", "description"):
        if column in items.columns:
            empty = items.filter(plain_words(items[column]).str.contains(PLACEHOLDER)).select("item_id")
            yield found("items-without-{column}", empty, items.height, column=column)
            long = items.filter(items[column].str.len_chars() >= LONGEST_TEXT).select("item_id", column)
            yield found("long-{column}s", long, items.height, column=column, limit=LONGEST_TEXT)


def dirt(dataset: Dataset) -> Iterator[Finding]:
    """HTML (tags, entities) and Python lists written as text, in any text column; O(characters)."""
    for name, about in ABOUT.items():
        rows = dataset.table(name)
        own = [column for column, kind in rows.schema.items() if kind == pl.String and column not in about]
        columns = [TEXTS[name]] if name in TEXTS else own
        for slug, pattern in (("html", HTML), ("list", LIST)):
            cells = [pl.when(pl.col(column).str.contains(pattern)).then(column) for column in columns]
            dirty = pl.coalesce(*cells, pl.lit("")).alias("text")
            cases = rows.select(*about, dirty).filter(pl.col("text") != "")
            yield found(f"{slug}-in-{{table}}", cases, rows.height, table=name)
