"""Plain tables under anybody's column names, and everything that can be wrong with them."""

from pathlib import Path

import polars as pl
import pytest

from forwhy.data.sources import import_tables
from forwhy.errors import UserError


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


def test_without_a_split_everybody_keeps_a_training_row(tmp_path: Path) -> None:
    paths = write(
        tmp_path, interactions_csv="user_id,item_id\n" + "".join(f"{k},{k % 7}\n" for k in range(50))
    )
    dataset = import_tables(paths["interactions"])
    assert set(dataset.edges("train")[:, 0].tolist()) == set(range(50))


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
        ({"interactions_csv": VISITS}, {}, "no column 'user_id'.*who, what, part"),
        ({"interactions_csv": VISITS}, {"interactions.user": "who"}, "did you mean 'interactions.user_id'"),
        ({"interactions_csv": VISITS}, {"interactions.user_id": "whom"}, "no column 'whom'.*it has: who"),
        ({"interactions_csv": VISITS}, {"items.title": "name"}, "no file given for items"),
        ({"interactions_csv": VISITS + "u1,,train\n"}, VISIT_NAMES, r"row 46, column 'what': empty id"),
        ({"interactions_csv": VISITS + "u1,nan,train\n"}, VISIT_NAMES, "row 46, column 'what': NaN"),
        ({"interactions_csv": VISITS + "u0,i0,train\n"}, VISIT_NAMES, "row 46.*duplicate of row 1.*who 'u0'"),
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
    with pytest.raises(UserError, match=r"interactions\.csv: row 2, column 'rating': empty"):
        import_tables(path)
    path = write(tmp_path, interactions_csv="user_id,item_id\n1,2\n\n1,3\n\n\n")["interactions"]
    assert import_tables(path).tables["interactions"].height == 2


def test_missing_file_folder_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        import_tables(tmp_path / "none.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UserError, match=r"d\.csv: is a folder"):
        import_tables(tmp_path / "d.csv")
    (tmp_path / "b.csv").write_bytes(b"user_id,item_id\n1,2\n\xff\xfe,3\n")
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
