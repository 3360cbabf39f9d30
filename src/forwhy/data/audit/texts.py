"""What the texts of a data set are like: constant, empty, too long, dirty, doubled, or about held-out people.

Legend: W words of all texts.
"""

from collections.abc import Iterator

import polars as pl

from forwhy.columns import SIDES, SPLITS, Side
from forwhy.data.audit.copies import plain_words, word_lists
from forwhy.data.audit.finding import PAIR, TRAIN, Finding, Severity, found, short, table
from forwhy.data.dataset import Dataset
from forwhy.data.intents import LONGEST_GIVEN, LONGEST_PROSE
from forwhy.data.leaks import vouched
from forwhy.data.sources.files import LONGEST_TEXT

__all__ = ["LONGEST_EXPLANATION", "dirt", "doubles", "explanations", "poor", "profiles", "spread"]

OPENING = 5
"""Words from the start."""
SAME_OPENING = 0.5
"""Share of explanations with one opening from which on it is a warning."""
CONSTANT = 0.05
"""Share of one and the same explanation from which on it is a warning."""
LARGE_SHARE = 0.05
"""Of a held-out split's explanations that are one user's or item's."""

LONGEST_EXPLANATION = 60
"""Words: `max_words` of the explainer's generation."""
PLACEHOLDER = r"^(?:nan|none|null|n a|unknown|untitled)?$"
"""What stands for no text, as plain words."""

HTML = r"(?is)</?[a-z][a-z0-9]*(?:\s[^<>]{0,300})?/?>|&(?:[a-z]{2,8}|#[0-9]{2,6}|#x[0-9a-f]{2,5});"
LIST = r"""(?s)^\s*\[\s*(?:['"].*['"]\s*)?,?\s*\]\s*$"""

TEXTS = {"explanations": "text", "reviews": "text", "profiles": "text", "intents": "phrase"}
ABOUT = {
    "explanations": PAIR,
    "reviews": PAIR,
    "profiles": ["side", "entity_id"],
    "intents": ["side", "entity_id"],
    "items": ["item_id"],
    "users": ["user_id"],
}


def profiles(dataset: Dataset) -> Iterator[Finding]:
    """Profiles of those who occur in held-out pairs, unless we know what they were written from."""
    rows = table(dataset, "profiles")
    held = table(dataset, "explanations").filter(~TRAIN)
    remedies: dict[Side, str] = {
        "user": "keep intents.heldout_people = false (the default skips them)",
        "item": "set intents.heldout_items = false, or write profiles from training rows only: "
        "`forwhy mine profiles`",
    }
    for side, remedy in remedies.items():
        concerned = held[f"{side}_id"].unique().cast(pl.String)
        known = vouched(dataset.tables, "profiles", side)
        unknown = pl.col("entity_id").is_in(concerned.implode()) & ~pl.col("entity_id").is_in(known.implode())
        ours = (pl.col("side") == side) & unknown
        yield found(
            f"profiles-of-heldout-{side}s",
            "warning",
            rows.filter(ours).select("entity_id", "text"),
            len(concerned),
            f"Held-out {side}s with a profile, which may have been written from the very review that is held out.",
            remedy,
        )


def explanations(dataset: Dataset) -> Iterator[Finding]:
    """How much of the references one sentence, or one opening, makes up; O(W)."""
    texts = table(dataset, "explanations")["text"]
    words = word_lists(texts)
    whole = _most_frequent(words.list.join(" "))
    opening = _most_frequent(words.list.head(OPENING).list.join(" ").filter(words.list.len() >= OPENING))
    for slug, (sentence, count), share, what in (
        ("common-explanation", whole, CONSTANT, "are, word for word, the most frequent one"),
        ("common-opening", opening, SAME_OPENING, f"start with the same {OPENING} words"),
    ):
        severity: Severity = "warning" if count >= share * len(texts) else "note"
        yield Finding(
            slug,
            severity,
            count if count > 1 else 0,
            len(texts),
            f"Explanations that {what}: overlap with the reference (BLEU, ROUGE) is had for nothing.",
            "read every text number beside the constant and the shuffled control; trust the information gain",
            ({"text": short(sentence)},),
        )


def _most_frequent(texts: pl.Series) -> tuple[str, int]:
    counts = texts.value_counts(name="n").sort(["n", texts.name], descending=[True, False])
    return (str(counts[texts.name][0]), int(counts["n"][0])) if counts.height else ("", 0)


def spread(dataset: Dataset) -> Iterator[Finding]:
    """Held-out explanations about those without a training one, or mostly about one user or item."""
    rows = table(dataset, "explanations")
    train, held = rows.filter(TRAIN), rows.filter(~TRAIN)
    for side in SIDES:
        key = f"{side}_id"
        yield found(
            f"unexplained-{side}s",
            "note",
            held.join(train, on=key, how="anti").select(*PAIR, "split"),
            held.height,
            f'Held-out explanations whose {side} has no training explanation ("zero-shot" in XRec, though training '
            "interactions may be there).",
            "report them apart: what is said about them comes from interactions or profiles alone",
        )
        for split in SPLITS[1:]:
            part = rows.filter(pl.col("split") == split)
            counts = (
                part.group_by(key).len("explanations").sort("explanations", key, descending=[True, False])
            )
            large = counts.filter(
                (pl.col("explanations") >= LARGE_SHARE * part.height) & (pl.col("explanations") > 1)
            )
            yield found(
                f"few-{side}s-fill-{split}",
                "warning",
                large,
                counts.height,
                f"{side.capitalize()}s that hold {LARGE_SHARE:.0%} or more of the {split} explanations each: the mean "
                "is theirs, and an interval over pairs is too narrow.",
                f"average over {side}s, or split so that nobody fills a split",
            )


def doubles(dataset: Dataset) -> Iterator[Finding]:
    """Items that are the same but for case, marks and spaces; O(W)."""
    items = table(dataset, "items")
    if "title" not in items.columns:
        return
    title = plain_words(items["title"]).alias("words")
    kept = ["item_id", "title"]
    named = items.with_columns(title).filter(pl.col("words") != "")
    same = named.filter(pl.struct("words").is_duplicated())
    both = same.clear()
    if "description" in items.columns:
        same = same.with_columns(plain_words(same["description"]).alias("more"))
        both = same.filter(pl.struct("words", "more").is_duplicated() & (pl.col("more") != ""))
        same = same.filter(~pl.col("item_id").is_in(both["item_id"].implode()))
    severities: tuple[Severity, Severity] = ("warning", "note")
    for severity, cases, what in zip(
        severities, (both, same), ("title and description", "title"), strict=True
    ):
        yield found(
            f"same-{what.replace(' ', '-')}",
            severity,
            cases.sort("words", "item_id").select(kept),
            named.height,
            f"Items that share their {what} with another id: one thing, a variant, or a chain. The right thing under "
            "the other id counts as a miss, and text can't tell them apart.",
            "merge them when they are one thing; otherwise tell them apart by another column",
        )


def poor(dataset: Dataset) -> Iterator[Finding]:
    """Texts without words, of a single word where a sentence is due, and over the cap; O(W)."""
    yield from _poor_items(table(dataset, "items"))
    for name, column in TEXTS.items():
        rows = table(dataset, name)
        words = word_lists(rows[column])
        lengths = words.list.len()
        empty = words.list.join(" ").str.contains(PLACEHOLDER)
        poor = empty if name == "intents" else empty | (lengths < 2)
        yield found(
            f"empty-{name}",
            "warning" if name == "explanations" else "note",
            rows.filter(poor).select(*ABOUT[name], column),
            rows.height,
            "Texts without a word (phrases), or of at most one (sentences): nothing to learn from or to be measured "
            "against.",
            "drop these rows",
        )
        yield _long(name, rows, column, lengths)


def _long(name: str, rows: pl.DataFrame, column: str, lengths: pl.Series) -> Finding:
    cap = LONGEST_GIVEN if name == "intents" else LONGEST_PROSE
    over, limit = rows[column].str.len_chars() > cap, f"{cap:,} characters"
    if name == "explanations":
        over, limit = lengths > LONGEST_EXPLANATION, f"{LONGEST_EXPLANATION} words"
    return found(
        f"long-{name}",
        "note",
        rows.filter(over).select(*ABOUT[name], column),
        rows.height,
        f"Texts of more than {limit}: what comes after is not read, or not generated.",
        "shorten them, or raise generation.max_words" if name == "explanations" else "shorten them",
    )


def _poor_items(items: pl.DataFrame) -> Iterator[Finding]:
    shown = [column for column in ("title", "description") if column in items.columns]
    for column in shown:
        empty = plain_words(items[column]).str.contains(PLACEHOLDER)
        yield found(
            f"items-without-{column}",
            "note",
            items.filter(empty).select("item_id"),
            items.height,
            f"Items without a {column}: what reads item texts knows them by interactions alone.",
            "fill in the text, or report these items apart",
        )
        yield found(
            f"long-{column}s",
            "note",
            items.filter(items[column].str.len_chars() >= LONGEST_TEXT).select("item_id", column),
            items.height,
            f"Texts of {LONGEST_TEXT:,} characters or more: encoders read only their beginning.",
            "shorten them",
        )


def dirt(dataset: Dataset) -> Iterator[Finding]:
    """HTML (tags, entities) and Python lists written as text, in any text column; O(characters)."""
    for name in ABOUT:
        rows = table(dataset, name)
        for slug, pattern, what in (
            ("html", HTML, "HTML tags or entities"),
            ("list", LIST, "the brackets and quotes of a list"),
        ):
            columns = _text_columns(name, rows)
            cells = [pl.when(pl.col(column).str.contains(pattern)).then(column) for column in columns]
            dirty = pl.coalesce(*cells, pl.lit("")).alias("text")
            yield found(
                f"{slug}-in-{name}",
                "warning",
                rows.select(*ABOUT[name], dirty).filter(pl.col("text") != ""),
                rows.height,
                f"Texts with {what}: encoders and language models read them as words.",
                "clean the column before the import",
            )


def _text_columns(name: str, rows: pl.DataFrame) -> list[str]:
    """Columns of prose: ours, and in open tables every text column of the user's own."""
    if name in TEXTS:
        return [TEXTS[name]]
    own = (column for column, dtype in rows.schema.items() if dtype == pl.String)
    return [column for column in own if column not in ABOUT[name]]
