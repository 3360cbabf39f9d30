"""Plain tables under anybody's column names, and everything that can be wrong with them."""

import json
from pathlib import Path

import polars as pl
import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sources import import_tables, rows
from forwhy.errors import UserError
from shop_files import write_shop


def write(folder: Path, **files: str) -> dict[str, Path]:
    paths = {}
    for name, text in files.items():
        table, _, extension = name.partition("_")
        paths[table] = folder / f"{table}.{extension}"
        paths[table].write_text(text)
    return paths


VISITS = "who,what,part\n" + "".join(
    f"u{u},i{(u + k) % 9},{'test' if k == 4 else 'train'}\n" for u in range(9) for k in range(5)
)
VISIT_NAMES = {"interactions.user_id": "who", "interactions.item_id": "what", "interactions.split": "part"}


def test_every_format_reads_the_same(tmp_path: Path) -> None:
    paths = write(tmp_path, interactions_csv=VISITS)
    wanted = import_tables(paths["interactions"], columns=VISIT_NAMES, name="x")
    rows = pl.read_csv(paths["interactions"])
    rows.write_csv(tmp_path / "v.tsv", separator="\t")
    rows.write_ndjson(tmp_path / "v.jsonl")
    rows.write_parquet(tmp_path / "v.parquet")
    for extension in ("tsv", "jsonl", "parquet"):
        again = import_tables(tmp_path / f"v.{extension}", columns=VISIT_NAMES)
        assert again.fingerprint == wanted.fingerprint
    assert wanted.summary()["interactions"] == {"train": 32, "valid": 4, "test": 9}
    assert import_tables(paths["interactions"], columns=VISIT_NAMES, seed=1).fingerprint != wanted.fingerprint
    assert (
        import_tables(paths["interactions"], columns=VISIT_NAMES, validation=0).summary()["interactions"][
            "valid"
        ]
        == 0
    )


@pytest.mark.parametrize("extension", ["jsonl", "parquet", "json.csv", "python.csv"])
def test_lists_records_and_numbers_are_terms_whoever_wrote_them(extension: str, tmp_path: Path) -> None:
    """Of items' categories and attributes, nested ones too; a file without types holds them as text."""
    visits = write(tmp_path, interactions_csv=VISITS)["interactions"]
    told: dict[str, object] = {"color": "red", "sizes": [38, 39], "new": True, "used": False, "note": None}
    facts = pl.DataFrame(
        {
            "item_id": [f"i{k}" for k in range(9)],
            "brand": ["Tom &amp; <b>Co</b>"] * 9,
            "categories": [["Tools &amp; home, garden", "Pens"]] * 9,
            "attributes": [told] * 9,
        }
    )
    path = tmp_path / f"items.{extension}"
    if extension == "jsonl":
        facts.write_ndjson(path)
    elif extension == "parquet":
        facts.write_parquet(path)
    else:
        how = json.dumps if "json" in extension else repr
        cells = [
            {name: it if isinstance(it, str) else how(it) for name, it in row.items()}
            for row in facts.to_dicts()
        ]
        pl.DataFrame(cells).write_csv(path)
    dataset = import_tables(visits, items=path, columns=VISIT_NAMES)
    assert dataset.item_column("categories")[0] == "Tools & home garden, Pens"
    wanted = ["Tom & Co", "Tools & home garden", "Pens", "color: red", "sizes: 38", "sizes: 39", "new"]
    assert dataset.item_attributes()[0] == wanted


def test_how_numbers_are_written_is_decided_for_a_whole_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "AT_ONCE", 2)
    days = ("03/04/2024", "05/06/2024", "07/08/2024", "25/12/2024")
    ratings = ("1,250", "2,500", "4,5", "3")
    table = "\n".join(
        f"a;i{k};{rating};{day}" for k, (rating, day) in enumerate(zip(ratings, days, strict=True))
    )
    paths = write(tmp_path, interactions_csv=f"user_id;item_id;rating;date\n{table}\n")
    found = import_tables(paths["interactions"]).table("interactions")
    assert found["rating"].to_list() == [1.25, 2.5, 4.5, 3.0]
    assert found["timestamp"].to_list()[0] == 1712102400
    paths = write(tmp_path, interactions_csv=f"user_id;item_id;rating;date\n{table}\nb;i1;4.5;25/12/2024\n")
    with pytest.raises(UserError, match=r"row 5, column 'rating': '4\.5' is not a number"):
        import_tables(paths["interactions"])


def test_without_a_split_everybody_keeps_a_training_row(tmp_path: Path) -> None:
    paths = write(
        tmp_path, interactions_csv="user_id,item_id\n" + "".join(f"{k},{k % 7}\n" for k in range(50))
    )
    dataset = import_tables(paths["interactions"])
    assert set(dataset.edges("train")[:, 0].tolist()) == set(range(50))


def test_nothing_is_held_out_where_all_rows_are_training(tmp_path: Path) -> None:
    told = "who,what,part,text\nu1,i1,test,fine\nu2,i2,valid,good\n"
    paths = write(tmp_path, interactions_csv=VISITS, explanations_csv=told)
    names = {ours: theirs for key, theirs in VISIT_NAMES.items() for ours in [key.partition(".")[2]]}
    found = import_tables(**paths, columns=names, split="none")
    assert found.summary()["interactions"] == {"train": 45, "valid": 0, "test": 0}
    assert found.summary()["explanations"] == {"train": 2, "valid": 0, "test": 0}
    assert found.source["split"]["interactions"] == "none: all rows are training"


def test_explanations_follow_their_interaction(tmp_path: Path) -> None:
    rows = pl.read_csv(VISITS.encode()).rename({"who": "user_id", "what": "item_id", "part": "split"})
    rows.write_csv(tmp_path / "v.csv")
    rows.with_columns(text=pl.lit("fine")).drop("split").write_ndjson(tmp_path / "e.jsonl")
    dataset = import_tables(tmp_path / "v.csv", explanations=tmp_path / "e.jsonl")
    assert dataset.summary()["explanations"] == dataset.summary()["interactions"]
    assert dataset.summary()["leaks"]["heldout_pairs_in_train_graph"] == 0


@pytest.mark.parametrize(
    ("files", "columns", "message"),
    [
        ({"interactions_csv": ""}, {}, r"interactions\.csv: empty file"),
        ({"interactions_csv": "who,what,part\n"}, VISIT_NAMES, "no rows"),
        ({"interactions_txt": VISITS}, VISIT_NAMES, "extension '.txt' is not one of"),
        (
            {"interactions_csv": VISITS, "items_csv": "nr2,name\n1,A\n"},
            {},
            r"interactions\.csv: no column for user_id and item_id \(it has: who, what, part\); .*items\.csv: no "
            r"column for item_id .*--map interactions.user_id=who --map interactions.item_id=what --map items",
        ),
        ({"interactions_csv": VISITS}, {"interactions.user": "who"}, "did you mean 'interactions.user_id'"),
        ({"interactions_csv": VISITS}, {"interactions.user_id": "whom"}, "no column 'whom'.*it has: who"),
        ({"interactions_csv": VISITS}, {"items.title": "name"}, "no file given for items"),
        ({"interactions_csv": VISITS + "u1,,train\n"}, VISIT_NAMES, r"row 46, column 'what': empty id"),
        ({"interactions_csv": VISITS + "u1,nan,train\n"}, VISIT_NAMES, "row 46, column 'what': NaN"),
        ({"interactions_csv": VISITS + "u1,i8,soon\n"}, VISIT_NAMES, "row 46, column 'part': 'soon'"),
        ({"interactions_csv": VISITS + "u1,i8,train,x\n"}, VISIT_NAMES, "row 46: 4 values in a file of 3"),
        (
            {"interactions_csv": VISITS, "items_jsonl": '{"item_id": "i0"}\n{"item'},
            VISIT_NAMES,
            "row 2: truncated",
        ),
        (
            {"interactions_csv": VISITS, "items_jsonl": "[1]\n"},
            VISIT_NAMES,
            "row 1: not a JSON object but list",
        ),
        ({"interactions_csv": VISITS, "items_parquet": "PAR1 no"}, VISIT_NAMES, "truncated or not parquet"),
        (
            {"interactions_csv": VISITS, "items_csv": "item_id,title\ni0,A\n"},
            VISIT_NAMES,
            r"interactions\.csv: row 2, column 'what': item 'i1' is not in .*items\.csv \(1 items\).*40 rows",
        ),
        (
            {"interactions_csv": VISITS, "explanations_csv": "user_id,item_id,text\nu0,i0,ok\nu99,i0,no\n"},
            VISIT_NAMES,
            r"explanations\.csv: row 2, column 'user_id': user 'u99' is not in .*interactions\.csv",
        ),
    ],
)
def test_bad_plain_tables(
    tmp_path: Path, files: dict[str, str], columns: dict[str, str], message: str
) -> None:
    paths = write(tmp_path, **files)
    with pytest.raises(UserError, match=message) as caught:
        import_tables(**paths, columns=columns)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_nan_in_json_and_blank_lines(tmp_path: Path) -> None:
    row = '{"user_id": 1, "item_id": 2, "rating": %s}\n'
    path = write(tmp_path, interactions_jsonl=row % 3 + row % "NaN")["interactions"]
    with pytest.raises(UserError, match=r"interactions\.jsonl: row 2, column 'rating': nan is no value"):
        import_tables(path)
    path = write(tmp_path, interactions_csv="user_id,item_id,rating\n1,2,3\n1,3,\n")["interactions"]
    assert import_tables(path).tables["interactions"]["rating"].to_list() == [3.0, None]
    path = write(tmp_path, interactions_csv="user_id,item_id\n1,2\n\n1,3\n\n\n")["interactions"]
    assert import_tables(path).tables["interactions"].height == 2


def test_missing_file_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        import_tables(tmp_path / "none.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UserError, match=r"d\.csv: is a folder"):
        import_tables(tmp_path / "d.csv")
    (tmp_path / "b.csv").write_bytes("user_id,item_id\n1,äöü\n".encode() + b"\xff\xfe,3\n")
    with pytest.raises(UserError, match=r"b\.csv: row 2: not UTF-8"):
        import_tables(tmp_path / "b.csv")


def test_duplicates_and_strangers_can_be_allowed(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        interactions_csv=VISITS + "u0,i0,test\n",
        items_csv="item_id,title\ni0,A\n",
        intents_jsonl='{"side": "user", "entity_id": "u1", "phrase": "tea"}\n'
        '{"side": "user", "entity_id": "u77", "phrase": "x"}\n'
        '{"side": "user", "entity_id": "u1", "phrase": "jam"}\n',
    )
    dataset = import_tables(
        **paths,  # type: ignore[arg-type]
        columns=VISIT_NAMES,
        duplicates="first",
        unknown_ids="allow",
    )
    assert len(dataset.items) == 9
    assert dataset.titles()[0] == "A"
    assert dataset.phrases("user") == {1: ["tea", "jam"]}
    strangers = write(tmp_path, items_csv="item_id,title\nz,Z\n")["items"]
    with pytest.raises(UserError, match="is not in"):
        import_tables(
            **(paths | {"items": strangers}), columns=VISIT_NAMES, duplicates="first", unknown_ids="allow"
        )  # type: ignore[arg-type]


def test_quoted_text_of_any_length_and_kind(tmp_path: Path) -> None:
    text = 'He said ""no"",\n<|im_end|> {user} ' * 3000
    paths = write(
        tmp_path,
        interactions_csv=VISITS,
        items_csv="item_id,title\n" + "".join(f'i{k},"{text}"\n' for k in range(9)),
    )
    dataset = import_tables(**paths, columns=VISIT_NAMES)  # type: ignore[arg-type]
    assert dataset.titles()[8] == text.replace('""', '"')


# --- A shop


def test_a_shop_is_read_as_it_is_whatever_its_files_look_like(tmp_path: Path) -> None:
    """Headers are guessed, gaps allowed, repeated purchases kept once; encodings and separators make no difference."""
    found: dict[str, Dataset] = {}
    for name, how in {
        "plain": {},
        "excel": {"encoding": "utf-8-sig", "separator": ";"},
        "old": {"encoding": "latin-1", "separator": "\t"},
        "unicode": {"encoding": "utf-16"},
    }.items():
        (tmp_path / name).mkdir()
        paths = write_shop(tmp_path / name, **how, euro="EUR")  # type: ignore[arg-type]
        found[name] = import_tables(**paths, name="shop")  # type: ignore[arg-type]
    assert len({dataset.fingerprint for dataset in found.values()}) == 1
    shop = found["plain"]
    assert shop.name == "shop"
    assert shop.source["columns"]["reviews.text"] == "review_text"
    edges, reviews = shop.tables["interactions"], shop.tables["reviews"]
    assert not edges.select("user_id", "item_id").is_duplicated().any()
    assert shop.source["steps"][-1] == {
        "step": "first of each pair", "rows": edges.height, "dropped": 500 - edges.height, "users": 40, "items": 30,
    }  # fmt: skip
    assert reviews.columns == ["user_id", "item_id", "text", "rating"]
    assert reviews.height + shop.source["notes"]["reviews: rows without a text, left out"] == 90
    assert 0 < edges["rating"].null_count() < edges.height  # stars of the reviews, where there are any
    assert {"Café Small Loaf Tin"} < set(shop.titles())
    last = edges.sort("timestamp").group_by("user_id").last()
    assert set(last["split"]) <= {"test", "train"}  # leave one out: in time order


def test_ratings_filter_interactions_and_what_was_said_of_them(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        interactions_csv="user,sku,stars\na,x,5\na,y,1\nb,x,4\nb,z,\nc,y,2\n",
        items_csv="sku,name\nx,X\ny,Y\nz,Z\nw,W\n",
        reviews_csv="user,sku,text\na,x,good\na,y,bad\nc,y,poor\n",
    )
    dataset = import_tables(**paths, min_rating=4)  # type: ignore[arg-type]
    assert dataset.tables["interactions"]["user_id"].to_list() == ["a", "b", "b"]  # unrated is not low
    assert dataset.tables["reviews"]["text"].to_list() == ["good"]
    assert dataset.tables["items"]["item_id"].to_list() == [
        "x",
        "z",
        "w",
    ]  # y is gone, w was never there to go
    with pytest.raises(UserError, match="--since, --until and --split by time: there are no times"):
        import_tables(**paths, split="time")  # type: ignore[arg-type]


def test_duplicates_decides(tmp_path: Path) -> None:
    rows = "customer,sku,date\n" + "a,x,2024-01-02\na,x,2024-01-01\na,y,2024-01-03\nb,x,2024-01-01\n"
    path = write(tmp_path, interactions_csv=rows)["interactions"]
    days = {
        which: import_tables(path, duplicates=which).tables["interactions"]
        for which in ("first", "last", "keep")
    }
    assert [frame.height for frame in days.values()] == [3, 3, 4]
    assert days["last"]["timestamp"][0] - days["first"]["timestamp"][0] == 86_400
    with pytest.raises(UserError, match=r"row 2, column 'sku': duplicate of row 1 .*--duplicates first"):
        import_tables(path, duplicates="error")


def test_bad_rows_are_named_or_counted(tmp_path: Path) -> None:
    rows = "user,sku,stars,date\na,x,5,2024-01-02\n,x,3,2024-01-02\nb,x,good,2024-01-02\nb,y,4,05.01.2024\n"
    rows += "c,x,1\nd,y,3,2024-05-06,7\n"
    path = write(tmp_path, interactions_csv=rows)["interactions"]
    with pytest.raises(UserError, match=r"csv: row 6: 5 values in a file of 4 columns; .* --skip-bad"):
        import_tables(path)
    dataset = import_tables(path, skip_bad=True)
    assert dataset.tables["interactions"]["user_id"].to_list() == ["a"]
    assert dataset.source["bad_rows"]["reasons"] == {
        "interactions.csv: 5 values in a file of 4 columns": 1,
        "interactions.csv, column 'user': empty id": 1,
        "interactions.csv, column 'stars': not a number": 1,
        "interactions.csv, column 'date': not a time like the first ones": 1,
        "interactions.csv, column 'date': empty": 1,
    }
    assert "row 3, column 'stars': not a number ('good')" in dataset.source["bad_rows"]["first"][-1] + str(
        dataset.source
    )


def test_ids_that_differ_by_zeros_are_two(tmp_path: Path) -> None:
    path = write(tmp_path, interactions_csv="user,sku\n1,007\n1,7\n2,07\n")["interactions"]
    assert import_tables(path).items.values == ("007", "07", "7")


def test_a_column_can_be_left_out_and_named_once_for_all_tables(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        interactions_csv="who,sku,date\na,x,soon\n",
        reviews_csv="who,sku,text\na,x,<b>Good</b> &amp; fine\n",
    )
    dataset = import_tables(**paths, columns={"user_id": "who", "timestamp": "-"})  # type: ignore[arg-type]
    assert dataset.tables["interactions"].columns == ["user_id", "item_id", "split", "date"]
    assert dataset.tables["reviews"]["text"].to_list() == ["Good & fine"]
