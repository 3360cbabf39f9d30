"""Raw review files under their true field names: equal tables from equal logs, and everything dirty in them."""

import gzip
import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sources import SOURCES
from forwhy.data.sources.reviews import ReviewFilters
from forwhy.errors import UserError

Row = dict[str, Any]
Entry = tuple[str, str, float, int, str, str]

START = 1_500_000_000


def generated(rows: int = 400, users: int = 30, items: int = 20, seed: int = 0) -> list[Entry]:
    """User, item, rating, second, title, text; seconds all differ and are not sorted."""
    draw = random.Random(seed)
    seconds = draw.sample(range(START, START + 10_000_000), rows)
    return [
        (
            f"U{draw.randrange(users)}",
            f"B{draw.randrange(items)}",
            float(draw.randint(1, 5)),
            second,
            "Nice",
            f"Visit number {second} &amp; <br />a good one",
        )
        for second in seconds
    ]


def amazon_2023(entry: Entry) -> Row:
    user, item, rating, second, title, text = entry
    return {
        "rating": rating,
        "title": title,
        "text": text,
        "images": [],
        "asin": f"{item}-variant",
        "parent_asin": item,
        "user_id": user,
        "timestamp": second * 1000 + 123,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def amazon_2018(entry: Entry) -> Row:
    user, item, rating, second, title, text = entry
    return {
        "overall": rating,
        "verified": True,
        "reviewTime": "09 1, 2016",
        "reviewerID": user,
        "asin": item,
        "style": {"Size:": " Large"},
        "reviewerName": "Somebody",
        "reviewText": text,
        "summary": title,
        "unixReviewTime": second,
    }


def yelp(entry: Entry) -> Row:
    user, item, rating, second, title, text = entry
    return {
        "review_id": f"r{second}",
        "user_id": user,
        "business_id": item,
        "stars": rating,
        "useful": 0,
        "funny": 0,
        "cool": 0,
        "text": f"{title}. {text}",
        "date": datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S"),
    }


def google(entry: Entry) -> Row:
    user, item, rating, second, title, text = entry
    return {
        "user_id": user,
        "name": "Somebody",
        "time": second * 1000,
        "rating": int(rating),
        "text": f"{title}. {text}",
        "pics": None,
        "resp": None,
        "gmap_id": item,
    }


def amazon_2023_meta(item: str) -> Row:
    return {
        "main_category": "All Beauty",
        "title": f"The {item}",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Soft"],
        "description": ["For <b>hair</b>"],
        "price": None,
        "images": [],
        "videos": [],
        "store": "Acme",
        "categories": ["All Beauty", "Hair"],
        "details": {"UPC": "1"},
        "parent_asin": item,
        "bought_together": None,
    }


def amazon_2018_meta(item: str) -> Row:
    return {
        "category": ["All Beauty", "Hair"],
        "description": ["For <b>hair</b>"],
        "title": f"The {item}",
        "brand": "Acme",
        "feature": ["Soft"],
        "rank": "1 in Beauty",
        "main_cat": "All Beauty",
        "price": "$1",
        "asin": item,
    }


def yelp_meta(item: str) -> Row:
    return {
        "business_id": item,
        "name": f"The {item}",
        "address": "1 High St",
        "city": "Tampa",
        "state": "FL",
        "postal_code": "1",
        "latitude": 1.0,
        "longitude": 2.0,
        "stars": 4.5,
        "review_count": 3,
        "is_open": 1,
        "attributes": {"WiFi": "u'free'"},
        "categories": "Restaurants, Pizza",
        "hours": None,
    }


def google_meta(item: str) -> Row:
    return {
        "name": f"The {item}",
        "address": "1 High St",
        "gmap_id": item,
        "description": None,
        "latitude": 1.0,
        "longitude": 2.0,
        "category": ["Pizza", "Bar"],
        "avg_rating": 4.5,
        "num_of_reviews": 3,
        "price": "$",
        "hours": None,
        "MISC": {},
        "state": "Open",
        "relative_results": None,
        "url": "https://example.org",
    }


Writer = Callable[[Entry], Row]
FORMATS: dict[str, tuple[str, Writer, Callable[[str], Row]]] = {
    "amazon-2023": ("amazon", amazon_2023, amazon_2023_meta),
    "amazon-2018": ("amazon", amazon_2018, amazon_2018_meta),
    "yelp": ("yelp", yelp, yelp_meta),
    "google": ("google", google, google_meta),
}
every_format = pytest.mark.parametrize("layout", FORMATS)


def write(path: Path, rows: list[Row | str | bytes]) -> Path:
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
        for row in rows
    ]
    data = b"\n".join(lines) + b"\n"
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def imported(
    folder: Path,
    layout: str,
    entries: list[Entry],
    meta: list[Any] | None = None,
    *,
    skip_bad: bool = False,
    **filters: Any,  # noqa: ANN401 - fields of ReviewFilters
) -> Dataset:
    source, review, _ = FORMATS[layout]
    path = write(folder / "reviews.jsonl.gz", [review(entry) for entry in entries])
    facts = [write(folder / "meta.jsonl", meta)] if meta is not None else []
    return SOURCES[source]([path], facts, filters=ReviewFilters(**filters), name="x", skip_bad=skip_bad)


def latest(entries: list[Entry]) -> dict[tuple[str, str], Entry]:
    return {entry[:2]: entry for entry in sorted(entries, key=lambda entry: entry[3])}


@every_format
def test_equal_logs_give_equal_tables_and_the_last_visit_is_the_test(tmp_path: Path, layout: str) -> None:
    entries = generated()
    items = sorted({entry[1] for entry in entries})
    data = imported(tmp_path, layout, entries, [FORMATS[layout][2](item) for item in [*items, "B999"]])
    wanted = latest(entries)
    rows = data.tables["interactions"].to_dicts()
    assert {(row["user_id"], row["item_id"]): (row["rating"], row["timestamp"]) for row in rows} == {
        pair: (entry[2], entry[3]) for pair, entry in wanted.items()
    }
    for user in {user for user, _ in wanted}:
        mine = sorted((row for row in rows if row["user_id"] == user), key=lambda row: row["timestamp"])
        assert [row["split"] for row in mine] == ["train"] * (len(mine) - 2) + ["valid", "test"]
    said = {(row["user_id"], row["item_id"]): row["text"] for row in data.tables["reviews"].to_dicts()}
    assert said == {pair: f"Nice. Visit number {entry[3]} & a good one" for pair, entry in wanted.items()}
    assert sorted(data.items.values) == items
    assert data.titles() == [f"The {item}" for item in data.items.values]
    assert len(data.training_reviews()) == len(data.edges("train"))


def test_facts_are_cleaned_and_ratings_over_all_reviews_stay_out(tmp_path: Path) -> None:
    facts = {}
    for layout, (_, _, meta) in FORMATS.items():
        data = imported(tmp_path, layout, generated(20, 2, 1), [meta("B0")])
        facts[layout] = data.tables["items"].to_dicts()[0]
    amazon = {
        "item_id": "B0",
        "title": "The B0",
        "description": "Soft For hair",
        "categories": "All Beauty, Hair",
        "brand": "Acme",
    }
    place = {"item_id": "B0", "title": "The B0", "description": ""}
    assert facts == {
        "amazon-2023": amazon,
        "amazon-2018": amazon,
        "yelp": place | {"categories": "Restaurants, Pizza", "city": "Tampa", "state": "FL"},
        "google": place | {"categories": "Pizza, Bar", "address": "1 High St"},
    }


@every_format
def test_those_who_rate_without_a_word_have_no_review(tmp_path: Path, layout: str) -> None:
    source, review, _ = FORMATS[layout]
    rows: list[Any] = [review(entry) for entry in generated(12, 1, 40)]
    for column in ("text", "reviewText", "title", "summary"):
        rows[0].pop(column, None)
        rows[1] |= {column: None} if column in rows[1] else {}
        rows[2] |= {column: " <br> "} if column in rows[2] else {}
    path = write(tmp_path / "r.json", rows)
    data = SOURCES[source]([path], filters=ReviewFilters(duplicates="keep"))
    assert data.tables["reviews"].height == data.tables["interactions"].height - 3


def test_a_title_that_the_text_repeats_is_said_once(tmp_path: Path) -> None:
    rows = [
        amazon_2018(("U1", f"B{k}", 5.0, START + k, title, text))
        for k, (title, text) in enumerate(
            [
                ("Great stuff, I...", "Great stuff, I love it"),
                ("Wow!", "Fine"),
                ("Five Stars", ""),
                ("", "Ok"),
            ]
        )
    ]
    data = SOURCES["amazon"]([write(tmp_path / "r.json", rows)])
    assert data.tables["reviews"]["text"].to_list() == [
        "Great stuff, I love it",
        "Wow! Fine",
        "Five Stars",
        "Ok",
    ]


def test_every_filter_and_split_against_plain_python(tmp_path: Path) -> None:
    entries = generated(600, 60, 25)
    cut, end = START + 2_000_000, START + 9_000_000
    days = [datetime.fromtimestamp(moment, UTC).date() for moment in (cut, end)]
    data = imported(
        tmp_path,
        "yelp",
        entries,
        since=days[0],
        until=days[1],
        min_rating=2.0,
        users=40,
        core=3,
        split="time",
    )
    low, high = (datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() for day in days)
    dated = [entry for entry in entries if low <= entry[3] < high]
    rated = {pair for pair, entry in latest(dated).items() if entry[2] >= 2}
    steps = {step["step"]: step for step in data.source["steps"]}
    assert list(steps) == [
        "read",
        f"since {days[0]}",
        f"until {days[1]}",
        "last of each pair",
        "rating 2 or more",
        "sample of users",
        "3-core",
    ]
    assert steps["read"]["rows"] == 600
    assert steps[f"until {days[1]}"]["rows"] == len(dated)
    assert steps["rating 2 or more"]["rows"] == len(rated)
    assert steps["sample of users"]["users"] == 40
    kept = data.tables["interactions"]
    assert set(kept.select("user_id", "item_id").iter_rows()) <= rated
    for side in ("user_id", "item_id"):
        assert min(kept[side].value_counts()["count"]) >= 3
    assert steps["3-core"]["rows"] == kept.height
    held = kept.filter(pl.col("split") != "train")["timestamp"]
    assert kept.filter(split="train")["timestamp"].max() < held.min()  # type: ignore[operator]


def test_samples_do_not_depend_on_the_order_of_rows_and_grow_with_their_size(tmp_path: Path) -> None:
    entries = generated()
    drawn = [
        set(imported(tmp_path, "google", rows, users=count, seed=5).users.values)
        for rows, count in ((entries, 8), (entries[::-1], 8), (entries, 12))
    ]
    assert drawn[0] == drawn[1] < drawn[2]
    assert set(imported(tmp_path, "google", entries, users=8, seed=6).users.values) != drawn[0]
    assert len(imported(tmp_path, "google", entries, share=0.1).users.values) == 3


def test_identical_texts_stay_once_by_user_or_at_all(tmp_path: Path) -> None:
    said = [("U1", "same"), ("U1", "same"), ("U2", "same"), ("U1", "other"), ("U1", ""), ("U1", "")]
    entries = [
        (user, f"B{k}", 5.0, START - k, "", text) for k, (user, text) in enumerate(said)
    ]  # the later rows are the earlier ones in time

    rows = [amazon_2023(entry) for entry in entries]
    path = write(tmp_path / "r.jsonl", list(rows))
    found = {
        how: sorted(SOURCES["amazon"]([path], filters=ReviewFilters(identical_texts=how)).items.values)  # type: ignore[arg-type]
        for how in ("keep", "user", "anyone")
    }
    assert found == {
        "keep": ["B0", "B1", "B2", "B3", "B4", "B5"],
        "user": ["B1", "B2", "B3", "B4", "B5"],
        "anyone": ["B2", "B3", "B4", "B5"],
    }


def test_the_first_or_the_last_opinion_stays_or_all_do(tmp_path: Path) -> None:
    entries = [("U1", "B1", float(rating), START + rating, "", f"{rating}") for rating in (3, 1, 2)]
    for which, ratings in (("first", [1.0]), ("last", [3.0]), ("keep", [3.0, 1.0, 2.0])):
        data = imported(tmp_path, "amazon-2023", entries, duplicates=which)
        assert data.tables["interactions"]["rating"].to_list() == ratings
        assert data.tables["reviews"].height == len(ratings)


def test_several_files_are_one_log(tmp_path: Path) -> None:
    entries = generated()
    whole = imported(tmp_path, "google", entries)
    parts = [
        write(tmp_path / f"part{k}.json{'.gz' if k else ''}", [google(entry) for entry in entries[k::3]])
        for k in range(3)
    ]
    data = SOURCES["google"](parts, name="x")
    columns = ("user_id", "item_id", "rating", "timestamp", "split")
    together, apart = (one.tables["interactions"].select(columns).sort(columns) for one in (whole, data))
    assert together.equals(apart)
    said = [set(one.tables["reviews"].iter_rows()) for one in (whole, data)]
    assert said[0] == said[1]


def test_files_that_are_empty_or_keep_no_row_do_no_harm(tmp_path: Path) -> None:
    entries = generated(30, 3, 40)
    files = [
        write(tmp_path / "none.json", [b"[1]"]),
        write(tmp_path / "good.json", [amazon_2018(entry) for entry in entries]),
        write(tmp_path / "old.json", [amazon_2018(("U0", "B0", 5.0, 5, "", "old"))]),
    ]
    files[0].write_bytes(b"")
    filters = ReviewFilters(since=date(2000, 1, 1))
    data = SOURCES["amazon"](files, filters=filters, skip_bad=True)
    assert data.fingerprint == SOURCES["amazon"]([files[1]], filters=filters).fingerprint
    assert data.source["importer"] == "amazon-2018"
    assert data.source["bad_rows"]["first"] == [f"{files[0]}: row 0: empty file"]


def test_a_number_and_its_text_are_one_id_and_seconds_and_milliseconds_one_time(tmp_path: Path) -> None:
    rows = [amazon_2023((str(user), f"B{k}", 5.0, START, "", "")) for k, user in enumerate((7, 7, 8))]
    rows[0]["user_id"], rows[0]["timestamp"], rows[1]["timestamp"] = 7, START, float(START)
    data = SOURCES["amazon"]([write(tmp_path / "r.jsonl", list(rows))])
    assert data.users.values == (7, 8)
    assert data.tables["interactions"]["timestamp"].to_list() == [START] * 3


BAD_VALUES: dict[str, tuple[str, object, str]] = {
    "user missing": ("user_id", ..., "'user_id': missing"),
    "user null": ("user_id", None, "'user_id': empty"),
    "user blank": ("user_id", "  ", "'user_id': empty"),
    "user NaN": ("user_id", "NaN", "'user_id': empty"),
    "user float": ("user_id", 1.5, "'user_id': not an id (1.5)"),
    "user true": ("user_id", True, "'user_id': not an id (True)"),
    "user long": ("user_id", "x" * 201, "'user_id': an id of more than 200 characters"),
    "user half a pair": ("user_id", "\ud83d", "'user_id': half of a surrogate pair"),
    "item missing": ("parent_asin", ..., "'parent_asin': missing"),
    "item list": ("parent_asin", ["B1"], "'parent_asin': not an id (['B1'])"),
    "rating missing": ("rating", ..., "'rating': missing"),
    "rating text": ("rating", "5.0", "'rating': not a number ('5.0')"),
    "rating true": ("rating", True, "'rating': not a number (True)"),
    "rating NaN": ("rating", float("nan"), "'rating': not a finite number"),
    "rating huge": ("rating", 10**400, "'rating': not a finite number"),
    "time null": ("timestamp", None, "'timestamp': empty"),
    "time words": ("timestamp", "yesterday", "'timestamp': neither a number nor a date"),
    "time negative": ("timestamp", -5, "'timestamp': no time after 1970"),
    "time far": ("timestamp", 10**18, "'timestamp': no time after 1970"),
    "text number": ("text", 5, "'text': not text (5)"),
    "title list": ("title", ["a"], "'title': not text (['a'])"),
}


@pytest.mark.parametrize("kind", BAD_VALUES)
def test_a_bad_value_is_named_with_its_column_or_left_out(tmp_path: Path, kind: str) -> None:
    column, value, message = BAD_VALUES[kind]
    rows = [amazon_2023(entry) for entry in generated(20, 2, 40)]
    rows[6] = {key: old for key, old in rows[6].items() if key != column}
    if value is not ...:
        rows[6][column] = value
    path = write(tmp_path / "r.jsonl", list(rows))
    with pytest.raises(UserError) as caught:
        SOURCES["amazon"]([path])
    assert f"r.jsonl: row 7, column {message}" in str(caught.value)
    assert str(caught.value).endswith("; correct the row, or leave bad rows out with --skip-bad")
    data = SOURCES["amazon"]([path], skip_bad=True)
    clean = SOURCES["amazon"]([write(tmp_path / "clean.jsonl", [*rows[:6], *rows[7:]])])
    assert data.fingerprint == clean.fingerprint
    assert data.source["bad_rows"]["count"] == 1


def test_half_a_surrogate_pair_in_a_text_becomes_a_question_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [amazon_2023(("U1", "B1", 5.0, START, "", "so \ud83d good é"))])
    assert SOURCES["amazon"]([path]).tables["reviews"]["text"].to_list() == ["so ? good é"]


def test_dirty_files_give_what_clean_ones_give_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    rows: list[Any] = [amazon_2018(entry) for entry in generated(50, 5, 40)]
    clean = SOURCES["amazon"]([write(tmp_path / "clean.json", rows)], name="x")
    dirty: list[Any] = [*rows]
    for place, line in enumerate((b"{", b"", b'{"asin": "\xff"}', b"x" * 10_000_000, b"[]", b"{}")):
        dirty.insert(5 * place + 3, line)
    found = SOURCES["amazon"]([write(tmp_path / "dirty.json.gz", dirty)], name="x", skip_bad=True)
    assert found.fingerprint == clean.fingerprint
    bad = found.source["bad_rows"]
    assert bad["count"] == 5
    assert [line.split(": ")[1] for line in bad["first"]] == [
        "row 4",
        "row 14",
        "row 19",
        "row 24",
        "row 29, column 'reviewerID'",
    ]


META_CASES: dict[str, tuple[Any, str]] = {
    "bad json": (b"{", r"row 2: truncated or not JSON"),
    "no id": ({"title": "x"}, r"row 2, column 'parent_asin': missing"),
    "title number": ({"parent_asin": "B9", "title": 3}, r"row 2, column 'title': neither text nor a list"),
    "category number": (
        {"parent_asin": "B9", "categories": ["a", 1]},
        r"row 2, column 'categories': neither text nor a list of texts \(\['a', 1\]\)",
    ),
    "twice": (
        {"parent_asin": "B0", "title": "other"},
        r"row 2, column 'parent_asin': told of in an earlier row",
    ),
}


@pytest.mark.parametrize("kind", META_CASES)
def test_bad_facts_are_named_or_left_out(tmp_path: Path, kind: str) -> None:
    line, message = META_CASES[kind]
    entries, meta = generated(20, 2, 1), amazon_2023_meta("B0")
    with pytest.raises(UserError, match=r"meta\.jsonl: " + message):
        imported(tmp_path, "amazon-2023", entries, [meta, line])
    found = imported(tmp_path, "amazon-2023", entries, [meta, line], skip_bad=True)
    assert found.fingerprint == imported(tmp_path, "amazon-2023", entries, [meta]).fingerprint
    assert found.source["bad_rows"]["count"] == 1


def test_reviews_of_unknown_items_are_bad_rows_and_facts_of_unknown_items_are_not(tmp_path: Path) -> None:
    entries = generated(40, 4, 3)
    meta = [amazon_2023_meta(item) for item in ("B0", "B1", "B77")]
    strange = next(row for row, entry in enumerate(entries, 1) if entry[1] == "B2")
    with pytest.raises(UserError, match=rf"row {strange}, column 'parent_asin': no row about this item; add"):
        imported(tmp_path, "amazon-2023", entries, meta)
    data = imported(tmp_path, "amazon-2023", entries, meta, skip_bad=True)
    known = [entry for entry in entries if entry[1] != "B2"]
    assert data.fingerprint == imported(tmp_path, "amazon-2023", known, meta[:2]).fingerprint
    assert data.source["bad_rows"]["count"] == len(entries) - len(known)


def test_nothing_left_is_the_callers_mistake(tmp_path: Path) -> None:
    entries = generated(20, 2, 10)
    for filters, message in (
        ({"core": 50}, "50-core: no row is left"),
        ({"min_rating": 6.0}, "rating 6 or more: no row is left"),
        ({"since": date(2030, 1, 1)}, "since 2030-01-01: no row is left"),
        ({"users": 1, "share": 0.5}, "--users and --sample both"),
    ):
        with pytest.raises(UserError, match=message):
            imported(tmp_path, "yelp", entries, **filters)
    path = write(tmp_path / "blank.jsonl", [b"", b" "])
    with pytest.raises(UserError, match=r"blank\.jsonl: no rows that can be read"):
        SOURCES["yelp"]([path])
    with pytest.raises(UserError, match=r"dirty\.jsonl: no rows that can be read"):
        SOURCES["yelp"]([write(tmp_path / "dirty.jsonl", [b"no"])], skip_bad=True)
    with pytest.raises(UserError, match="name at least one with --reviews"):
        SOURCES["amazon"]([])


def test_memory_stays_far_below_the_file(tmp_path: Path) -> None:
    """A file of 40 MB of which a twentieth stays: numpy's and Python's own memory, at its peak."""
    import tracemalloc

    entries = generated(2_000, 200, 50)
    long = "word " * 4_000
    path = tmp_path / "r.jsonl"
    with path.open("w") as stream:
        for entry in entries:
            stream.write(json.dumps(yelp((*entry[:5], entry[5] + long))) + "\n")
    assert path.stat().st_size > 40_000_000
    tracemalloc.start()
    data = SOURCES["yelp"]([path], filters=ReviewFilters(share=0.05))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.tables["reviews"].height > 50
    assert peak < 12_000_000


DOCUMENTED = {
    "Amazon Reviews 2023": "amazon",
    "Amazon Review Data 2018": "amazon",
    "Yelp": "yelp",
    "Google Local": "google",
}


@pytest.mark.parametrize("title", DOCUMENTED)
def test_the_documented_samples_can_be_read(tmp_path: Path, title: str) -> None:
    document = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    blocks = document.split(f"\n### {title}\n")[1].split("\n### ")[0].split("```jsonl\n")[1:]
    reviews, meta = (block.split("\n```")[0].splitlines() for block in blocks)
    assert len(reviews) + len(meta) == 10
    data = SOURCES[DOCUMENTED[title]](
        [write(tmp_path / "r.jsonl", list(reviews))], [write(tmp_path / "m.jsonl", list(meta))]
    )
    assert data.summary()["interactions"] == {"train": 5, "valid": 1, "test": 1}
    assert len(data.items) == 3
    assert all(data.titles())
