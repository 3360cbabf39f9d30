"""Tables of every polars type in every column, and CSV as nobody should write it, before all doors for tables."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
from collections.abc import Iterator

import polars as pl

from hostile.judged import Case, Place, Words

ROWS = 6
NUMBERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Int128, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32,
           pl.Float64)  # fmt: skip
DAY = dt.datetime(2024, 5, 17, 10, 30)


def values() -> dict[str, pl.Series]:
    """A column of each type, by what it is."""
    whole = list(range(1, ROWS + 1))
    moments = [DAY + dt.timedelta(days=day) for day in range(ROWS)]
    found = {str(kind): pl.Series(whole, dtype=kind()) for kind in NUMBERS}
    found |= {
        "UInt64 beyond": pl.Series([2**63 + n for n in whole], dtype=pl.UInt64),
        "Int128 beyond": pl.Series([2**90 + n for n in whole], dtype=pl.Int128),
        "Int64 least": pl.Series([-(2**63)] * ROWS),
        "NaN": pl.Series([float("nan")] * ROWS),
        "infinite": pl.Series([float("inf"), -float("inf"), 1e308, -1e308, 5e-324, 0.0]),
        "fractions": pl.Series([0.5 + n for n in whole]),
        "Boolean": pl.Series([True, False] * 3),
        "Null": pl.Series([None] * ROWS, dtype=pl.Null),
        "nulls": pl.Series([None] * ROWS, dtype=pl.Int64),
        "String": pl.Series([f"s{n}" for n in whole]),
        "empty text": pl.Series([""] * ROWS),
        "blank text": pl.Series([" \t\u00a0"] * ROWS),
        "NUL text": pl.Series([f"a\0b{n}" for n in whole]),
        "long text": pl.Series(["x" * 100_000 + str(n) for n in whole]),
        "no dates": pl.Series(["yesterday", "2020-13-45", "NaN", "1e20", "-", "99999999999999999999"]),
        "odd numbers": pl.Series(["1e400", "0x10", "1_000", "٣", "½", "--5"]),
        "Binary": pl.Series([b"\xff\0" * n for n in whole]),
        "Date": pl.Series([moment.date() for moment in moments]),
        "Date far": pl.Series([2**31 - 1 - n for n in whole], dtype=pl.Int32).cast(pl.Date),
        "Datetime ms": pl.Series(moments, dtype=pl.Datetime("ms")),
        "Datetime ns": pl.Series(moments, dtype=pl.Datetime("ns")),
        "Datetime zone": pl.Series(moments).dt.replace_time_zone("Asia/Tokyo"),
        "Datetime far": pl.Series([2**63 - n for n in whole], dtype=pl.Int64).cast(pl.Datetime("us")),
        "Time": pl.Series([moment.time() for moment in moments]),
        "Duration": pl.Series([dt.timedelta(hours=n) for n in whole]),
        "Decimal": pl.Series([decimal.Decimal(f"{n}.25") for n in whole]),
        "Decimal wide": pl.Series([decimal.Decimal(10) ** 30 + n for n in whole], dtype=pl.Decimal(38, 0)),
        "Categorical": pl.Series([f"c{n}" for n in whole], dtype=pl.Categorical),
        "Enum": pl.Series(["a", "b"] * 3, dtype=pl.Enum(["a", "b"])),
        "List": pl.Series([[n, None] for n in whole], dtype=pl.List(pl.Int64)),
        "List of lists": pl.Series([[["a"], [str(n)]] for n in whole]),
        "List of bytes": pl.Series([[b"\xff"]] * ROWS),
        "List of records": pl.Series([[{"a": n}] for n in whole]),
        "Array": pl.Series([[n, n] for n in whole], dtype=pl.Array(pl.Int64, 2)),
        "Array of arrays": pl.Series([[[n]] for n in whole], dtype=pl.Array(pl.Int64, (1, 1))),
        "Struct": pl.Series([{"a": n, "b": None} for n in whole]),
        "Struct of bytes": pl.Series([{"a": b"\xff"}] * ROWS),
        "Struct of times": pl.Series([{"a": dt.timedelta(hours=n), "b": [DAY]} for n in whole]),
    }
    return found


TABLES = {
    "interactions": {"user_id": list("aabbcc"), "item_id": list("xyxyxz"), "rating": [5.0, 4, 3, 2, 1, 5],
                     "timestamp": list(range(ROWS)), "split": ["train"] * ROWS, "extra": ["e"] * ROWS},
    "items": {"item_id": list("xyzuvw"), "title": list("XYZUVW"), "description": ["d"] * ROWS, "more": [1] * ROWS},
    "users": {"user_id": list("abcdef"), "age": [1] * ROWS},
    "reviews": {"user_id": list("aabbcc"), "item_id": list("xyxyxz"), "text": ["good"] * ROWS, "rating": [1.0] * ROWS},
    "explanations": {"user_id": list("aabbcc"), "item_id": list("xyxyxz"), "text": ["good"] * ROWS,
                     "split": ["train"] * ROWS, "features": ["price"] * ROWS},
    "intents": {"side": ["user"] * ROWS, "entity_id": list("aabbcc"), "rank": [1, 2] * 3, "phrase": ["p"] * ROWS},
    "profiles": {"side": ["item"] * ROWS, "entity_id": list("xyzuvw"), "text": ["t"] * ROWS},
    "outputs": {"user_id": list("abcdef"), "item_id": list("xyzuvw"), "prediction": ["it is good"] * ROWS,
                "reference": ["it is fine"] * ROWS, "features": ["price"] * ROWS},
    "rules": {"item_id": ["i0"] * ROWS, "boost": [1.0] * ROWS},
}  # fmt: skip


def typed() -> Iterator[Case]:
    """Every type in every column of every table."""
    for table, columns in TABLES.items():
        for column in columns:
            for kind, series in values().items():

                def lay(
                    place: Place, table: str = table, column: str = column, series: pl.Series = series
                ) -> Words:
                    path = place.write(f"{table}.parquet", b"")
                    frame = pl.DataFrame({**TABLES[table], column: series}, strict=False)
                    frame.write_parquet(path)
                    return _words(place, table, path)

                yield Case(f"{kind} as {table}.{column}", lay)


def _words(place: Place, table: str, path: object) -> Words:
    if table == "outputs":
        return ["evaluate", "--outputs", path, "--encoder", "none", "--json"]
    if table == "rules":
        return ["recommend", place.ours["run"], "--user", "u0", "--boost", path]
    words: Words = ["data", "import", "tables", "--out", place.target, f"--{table}", path]
    if table != "interactions":
        plain = place.write("interactions.csv", pl.DataFrame(TABLES["interactions"]).write_csv())
        words += ["--interactions", plain]
    return words


GOOD = "user_id,item_id,timestamp\na,x,1\na,y,2\nb,x,3\nb,z,4\n"

CSV: dict[str, bytes] = {
    "empty": b"",
    "a line break": b"\n",
    "a header alone": b"user_id,item_id\n",
    "NUL": b"user_id,item_id\0\na,x\n",
    "NUL in a row": b"user_id,item_id\na\0,x\nb,y\n",
    "twice a column": b"user_id,item_id,item_id\na,x,y\n",
    "twice by space": b" user_id,user_id,item_id\na,b,x\n",
    "two that fit": b"user,user_id,item_id,item\na,b,x,y\nc,d,z,w\n",
    "our own columns": b"user_id,item_id,__file,__row\na,x,/etc/passwd,77\n,y,f,r\n",
    "no names": b",,\na,x,1\n",
    "binary": bytes(range(256)) * 8,
    "a quote that stays open": b'user_id,item_id\n"a,x\nb,y\n',
    "text behind a quote": b'user_id,item_id\n"a"b,x\n',
    "too many values": b"user_id,item_id\na,x,1,2,3\n",
    "too few values": b"user_id,item_id\na\nb,y\n",
    "bytes that are none": b"user_id,item_id\n\xff\xfe\xfd,x\nb,y\n",
    "UTF-16": GOOD.encode("utf-16"),
    "half UTF-16": GOOD.encode("utf-16")[:-1],
    "UTF-32": GOOD.encode("utf-32"),
    "only a mark": b"\xef\xbb\xbf",
    "zip that is none": b"PK\x03\x04" + b"\0" * 30,
    "gzip that is none": b"\x1f\x8b" + b"\0" * 30,
    "gzip cut": gzip.compress(GOOD.encode() * 100)[:60],
    "parquet that is none": b"PAR1" + b"\xff" * 40 + b"PAR1",
    "sep": b"sep=;\nuser_id;item_id\na;x\n",
    "sep alone": b"sep=;\n",
    "a long line": b"user_id,item_id\n" + b"a" * 5_000_000 + b",x\n",
    "a long name": b"user_id," + b"n" * 1_000_000 + b",item_id\na,b,x\n",
    "no column of ours": b"colour,smell\nred,sweet\n",
    "100,000 columns": b"user_id,item_id," + b",".join(b"c%d" % n for n in range(100_000)) + b"\na,x\n",
    "100,000 columns of one name": b",".join([b"user_id"] * 100_000) + b"\na\n",
    "100,000 commas": b"user_id,item_id" + b"," * 100_000 + b"\na,x\n",
    "dates that are none": b"user_id,item_id,timestamp\na,x,yesterday\na,y,2020-13-45\n",
    "times beyond": b"user_id,item_id,timestamp\na,x,100000000000000000000\na,y,1e300\n",
    "times that are not numbers": b"user_id,item_id,timestamp\na,x,NaN\na,y,inf\n",
    "ratings that are none": b"user_id,item_id,rating\na,x,five\na,y,*****\n",
    "a long id": b"user_id,item_id\n" + b"i" * 100_000 + b",x\nb,y\n",
    "a long number": b"user_id,item_id\n" + b"9" * 5_000 + b",1\n7,2\n",
    "escapes": "user_id,item_id\n\x1b[2J,\u202ex\n\x9b31m,y\n".encode(),
    "formulas": b"user_id,item_id\n=1+1,@x\n-2,+y\n",
    "carriage returns": b"user_id,item_id\ra,x\rb,y\r",
    "a split of its own": b"user_id,item_id,split\na,x,training\nb,y,holdout\n",
    "percent": b"user_id,item_id\n%s,%n\n{},{0}\n",
}  # fmt: skip


def separated() -> Iterator[Case]:
    """Odd files of every kind, named as tables of every kind are."""
    for about, content in CSV.items():
        for suffix in (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".csv.zip"):
            for table in ("interactions", "outputs", "rules") if suffix == ".csv" else ("interactions",):

                def lay(
                    place: Place, content: bytes = content, suffix: str = suffix, table: str = table
                ) -> Words:
                    return _words(place, table, place.write(f"odd{suffix}", content))

                yield Case(f"{about} in {table}{suffix}", lay)
        for table in ("items", "reviews", "explanations"):

            def beside(place: Place, content: bytes = content, table: str = table) -> Words:
                return _words(place, table, place.write("odd.csv", content))

            yield Case(f"{about} as {table}", beside)

        def xrec(place: Place, content: bytes = content) -> Words:
            for part in ("trn", "val", "tst"):
                place.write(f"total_{part}.csv", content if part == "trn" else "user,item\n1,2\n2,3\n")
            return ["data", "import", "xrec", place.here / "input", "--out", place.target]

        yield Case(f"{about} in xrec", xrec)


def recbole() -> Iterator[Case]:
    """Atomic files as nobody should write them."""
    head, rows = "user_id:token\titem_id:token\ttimestamp:float", "a\tx\t1\na\ty\t2\nb\tx\t3\n"
    odd = {
        "no header": rows,
        "no types": head.replace(":token", "") + f"\n{rows}",
        "another type": head.replace(":float", ":date") + f"\n{rows}",
        "twice a field": f"{head}\titem_id:token\na\tx\t1\ty\n",
        "our own columns": f"{head}\t__file:token\t__row:token\na\tx\t1\tf\tr\n",
        "sequences": f"{head}\titem_id_list:token_seq\na\tx\t1\ty z\n",
        "time NaN": f"{head}\na\tx\tnan\n",
        "time inf": f"{head}\na\tx\tinf\n",
        "time beyond": f"{head}\na\tx\t1e300\n",
        "fewer cells": f"{head}\na\tx\n",
        "empty ids": f"{head}\n\t\t1\n",
        "escape": f"{head}\n\x1b[2J\t\u202e\t1\nb\tx\t2\n",
        "a long head": f"{head}\t" + "x" * 1_000_000 + ":token\n",
        "many fields": head + "".join(f"\tf{n}:token" for n in range(100_000)) + "\n",
    } | {about: content.decode("utf-8", "surrogateescape") for about, content in CSV.items()}
    for about, content in odd.items():
        for name in ("a.inter", "a.item", "a.user"):

            def lay(place: Place, content: str = content, name: str = name) -> Words:
                place.write("a.inter", f"{head}\n{rows}")
                place.write(name, content.replace("item_id", "user_id").encode("utf-8", "surrogateescape")
                            if name == "a.user" else content.encode("utf-8", "surrogateescape"))  # fmt: skip
                return ["data", "import", "recbole", place.here / "input", "--out", place.target]

            yield Case(f"{about} in {name}", lay)

    facts = {
        "origins": "item_id:token\t__file:token\t__row:token\nx\tevil\t9\ny\tevil\tr\n",
        "nothing but origins": "item_id:token\t__row:float\nx\t1\n",
        "a split": "item_id:token\tsplit:token\nx\tt\n",
    }
    for about, content in facts.items():

        def item(place: Place, content: str = content) -> Words:
            place.write("a.inter", f"{head}\n{rows}")
            place.write("a.item", content)
            return ["data", "import", "recbole", place.here / "input", "--out", place.target]

        yield Case(f"{about} in facts", item)
    for given in (
        "item_id=nobody",
        "user_id=",
        "=x",
        "x",
        "nobody=item_id",
        "item_id=user_id",
        "rating=timestamp",
    ):

        def mapped(place: Place, given: str = given) -> Words:
            place.write("a.inter", f"{head}\n{rows}")
            return ["data", "import", "recbole", place.here / "input", "--out", place.target, "--map", given]

        yield Case(f"--map {given}", mapped, refused=None if given == "rating=timestamp" else True)
