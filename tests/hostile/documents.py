"""JSON and TOML that is cut, empty, of another shape, too deep, too long or no text, before all doors for documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from hostile.judged import Case, Place, Words

DIGITS = "9" * 5000

JSON: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "a list": b"[]",
    "an object": b"{}",
    "a number": b"12",
    "a text": b'"text"',
    "true": b"true",
    "NaN": b"NaN",
    "two documents": b"{}{}",
    "NUL": b'{"a\\u0000b": [1, 2, 3]}',
    "raw NUL": b'{"a\0b": [1]}',
    "UTF-16": '{"a": [1, 2, 3]}'.encode("utf-16"),
    "bytes that are none": b'{"\xff\xfe": [1, 2]}',
    "a mark": b'\xef\xbb\xbf{"0": [1, 2, 3]}',
    "lists too deep": b"[" * 100_000,
    "whole lists too deep": b"[" * 100_000 + b"]" * 100_000,
    "objects too deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep": b'{"stages":' + b"[" * 900 + b"]" * 900 + b"}",
    "5,000 digits": f'{{"0": [{DIGITS}, 1, 2], "stages": {DIGITS}, "format": {DIGITS}}}'.encode(),
    "4,000 digits": f'{{"0": [{DIGITS[:4000]}, 1, 2], "stages": {DIGITS[:4000]}, "format": {DIGITS[:4000]}}}'.encode(),
    "5,000 digits behind a point": f'{{"0": [0.{DIGITS}]}}'.encode(),
    "infinite": b'{"0": [1e999, 2, 3]}',
    "half a letter": b'{"0": [0, "\\ud800", 2], "1": ["\\udc00"]}',
    "half a letter in a key": b'{"\\ud800": [0, 1, 2]}',
    "escapes": b'{"\\u001b[2J\\u202e": [0, "\\u009b31m", 2]}',
    "a long key": b'{"' + b"k" * 1_000_000 + b'": [1, 2, 3]}',
    "nested": b'{"0": [[1], {"a": 2}], "1": {"a": {"b": [null]}}}',
    "nulls": b'{"0": null, "1": [null, null]}',
    "texts": b'{"0": "abc", "1": ["<a_1>", "<b_2>"]}',
    "negative": b'{"0": [-1, -2, -3]}',
    "fractions": b'{"0": [0.5, 1.5, 2.5]}',
    "booleans": b'{"0": [true, false, true]}',
    "twice a key": b'{"0": [1, 2, 3], "0": [4, 5, 6]}',
    "an empty key": b'{"": [1, 2, 3]}',
    "list of objects": b'[{"prediction": 1}, {"prediction": null}]',
    "stages null": b'{"stages": null}',
    "stages a list": b'{"stages": [1]}',
    "stage null": b'{"format": 2, "stages": {"recommender": null, "evaluation": {}}}',
    "stage without seconds": b'{"format": 2, "stages": {"recommender": {"inputs": "x"}}}',
    "stage of other types": b'{"format": "2", "stages": {"recommender": {"inputs": 1, "seconds": "a", "finished": []}}}',
    "parts of other types": b'{"text": 1, "ranking": [1], "protocol": "x", "controls": null, "costs": {"a": []}}',
    "parts empty": b'{"text": {}, "ranking": {}, "protocol": {}, "unseen": {}, "baselines": {"a": {}}}',
}  # fmt: skip
JSON |= {f"cut at {at}": b'{"0": [1, 2, 3], "1": ["a\\u00e9", 2]}'[:at] for at in (1, 3, 7, 12, 25, 33)}


def _lcrec(name: str) -> Callable[[Place, bytes], Words]:
    def words(place: Place, content: bytes) -> Words:
        place.write("X.inter.json", '{"u": [0, 1, 2], "v": [1, 0, 2]}')
        place.write(name, content)
        return ["data", "import", "lcrec", place.here / "input", "--out", place.target]

    return words


def _inside(ours: str, name: str, *command: str) -> Callable[[Place, bytes], Words]:
    """A file of something of ours in place of its own."""

    def words(place: Place, content: bytes) -> Words:
        path = place.copy(ours)
        (path / name).write_bytes(content)
        return [path if word == "IT" else word for word in command]

    return words


def _index(place: Place, content: bytes) -> Words:
    path = place.write("x.index.json", content)
    return ["indices", "build", place.ours["town"], "--out", place.target, "--source", "file", "--file", path]


def _outputs(place: Place, content: bytes) -> Words:
    path = place.write("x.json", content)
    right = place.write("right.txt", "one\ntwo\nthree\n")
    return ["evaluate", "--outputs", path, "--references", right, "--encoder", "none"]


def _rows(source: str) -> Callable[[Place, bytes], Words]:
    def words(place: Place, content: bytes) -> Words:
        path = place.write("rows.jsonl", content)
        given = "--interactions" if source == "tables" else "--reviews"
        return ["data", "import", source, given, path, "--out", place.target]

    return words


DOORS: dict[str, Callable[[Place, bytes], Words]] = {
    "lcrec histories": _lcrec("X.inter.json"),
    "lcrec texts": _lcrec("X.item.json"),
    "lcrec index": _lcrec("X.index.json"),
    "an index file": _index,
    "outputs": _outputs,
    "dataset.json, shown": _inside("town", "dataset.json", "data", "show", "IT"),
    "dataset.json, audited": _inside("town", "dataset.json", "data", "audit", "IT", "--json"),
    "dataset.json, replaced": _inside("town", "dataset.json", "data", "export", "recbole", "IT", "--out", "new/er"),
    "state.json, evaluated": _inside("run", "state.json", "evaluate", "IT"),
    "state.json, run": _inside("run", "state.json", "run", "target/recipe.toml", "--out", "IT"),
    "evaluation.json, shown": _inside("run", "evaluation.json", "evaluate", "IT"),
    "evaluation.json, as JSON": _inside("run", "evaluation.json", "evaluate", "IT", "--json"),
    "evaluation.json, run": _inside("run", "evaluation.json", "run", "target/recipe.toml", "--out", "IT"),
    "metrics.jsonl, report": _inside("run", "metrics.jsonl", "evaluate", "IT", "--report", "target/r.html"),
    "config.json, recommend": _inside("sas", "recommender/config.json", "recommend", "IT", "--user", "u0"),
    "config.json, index": _inside("index", "config.json", "indices", "show", "IT"),
    "amazon rows": _rows("amazon"),
    "yelp rows": _rows("yelp"),
    "google rows": _rows("google"),
    "table rows": _rows("tables"),
}  # fmt: skip


def of_json() -> Iterator[Case]:
    """Each document before each door for JSON."""
    for door, words in DOORS.items():
        for about, content in JSON.items():

            def lay(
                place: Place, words: Callable[[Place, bytes], Words] = words, content: bytes = content
            ) -> Words:
                return words(place, content)

            yield Case(f"{about} as {door}", lay)


FIELDS = {
    "amazon": {"rating": 5.0, "title": "t", "text": "x", "parent_asin": "i", "user_id": "u", "timestamp": 1.6e12},
    "yelp": {"review_id": "r", "user_id": "u", "business_id": "b", "stars": 4, "text": "t", "date": "2018-07-07 22:09:11"},
    "google": {"user_id": "u", "gmap_id": "g", "rating": 4, "text": "t", "time": 1609909927056},
    "tables": {"user_id": "u", "item_id": "i", "rating": 1, "timestamp": 1, "more": "m"},
}  # fmt: skip
ODD: dict[str, str] = {
    "null": "null", "list": "[1, [2]]", "object": '{"a": {"b": 1}}', "text": '"yesterday"', "empty": '""',
    "bool": "true", "huge": "1" + "0" * 400, "digits": DIGITS, "inf": "1e999", "NaN": "NaN", "half": '"\\ud800"',
    "NUL": '"a\\u0000b"', "escape": '"\\u001b[2J\\u202e"', "beyond": "18446744073709551615", "negative": "-1e30",
    "a date that is none": '"2020-13-45 99:99"', "year 10000": '"10000-01-01"', "zone": '"2020-01-01T00:00:00+99:00"',
    "deep": "[" * 2000 + "]" * 2000, "long": '"' + "x" * 100_000 + '"',
}  # fmt: skip


def of_rows() -> Iterator[Case]:
    """Each odd value in each field of rows of JSON."""
    for source, fields in FIELDS.items():
        for column in fields:
            for about, value in ODD.items():

                def lay(
                    place: Place, source: str = source, column: str = column, value: str = value
                ) -> Words:
                    row = json.dumps({**FIELDS[source], column: "ODD"}).replace('"ODD"', value)
                    good = json.dumps(FIELDS[source])
                    return _rows(source)(place, f"{good}\n{row}\n".encode())

                yield Case(f"{about} as {source}.{column}", lay)


TOML: dict[str, bytes] = {
    "empty": b"",
    "cut": b'name = "a',
    "bytes that are none": b'name = "\xff"',
    "NUL": b"name = \0",
    "not TOML": b"{}",
    "lists too deep": b"a = " + b"[" * 100_000,
    "whole lists too deep": b"a = " + b"[" * 5_000 + b"]" * 5_000,
    "tables too deep": b"a = " + b"{a = " * 5_000 + b"1" + b"}" * 5_000,
    "keys too deep": b"[" + b".".join([b"a"] * 5_000) + b"]\nb = 1",
    "5,000 digits": f"seed = {DIGITS}".encode(),
    "2^70": b"seed = 1180591620717411303424",
    "2^64": b"seed = 18446744073709551616",
    "minus": b"seed = -1",
    "infinite": b"seed = inf",
    "a date": b"seed = 2020-01-01",
    "a date that is none": b"seed = 2020-13-45",
    "other types": b"name = 1\nsystem = []\ndata = 3\nevaluation = [1]",
    "no such system": b'system = "../../etc/passwd"',
    "a system of 100,000 letters": b'system = "' + b"s" * 100_000 + b'"',
    "data of NUL": b'system = "popularity"\nname = "x"\n[data]\npath = "a\\u0000b"',
    "data of 100,000 letters": b'system = "popularity"\nname = "x"\n[data]\npath = "' + b"s" * 100_000 + b'"',
    "twice a key": b"a = 1\na = 2",
    "a long key": b"k" * 1_000_000 + b" = 1",
    "half a letter": b'name = "\\ud800"',
    "escapes": b'"\\u001b[2J\\u202e" = 1',
    "a grid of nothing": b'name = "x"\nbase = 3\nrows = 4',
    "a grid of itself": b'name = "x"\nbase = "recipe.toml"\n[rows.a]\nname = "y"',
    "a grid that leaves": b'name = "x"\nbase = "../../../../etc/passwd"\n[rows."../../a"]\n',
    "a grid of other types": b'name = "x"\nbase = "recipe.toml"\nset = 3\n[rows]\na = 1',
}


def of_toml() -> Iterator[Case]:
    """Each document before each door for TOML."""
    doors: dict[str, Callable[[Place, bytes], Words]] = {
        "a recipe": lambda place, content: [
            "run", place.write("recipe.toml", content), "--out", place.target, "--set", f"data.path={place.ours['town']}"
        ],
        "a recipe as it is": lambda place, content: [
            "run", place.write("recipe.toml", content), "--out", place.target
        ],
        "a space": lambda place, content: [
            "tune", "popularity.toml", "--out", place.target, "--space", place.write("space.toml", content),
            "--set", f"data.path={place.ours['town']}",
        ],
        "a run's recipe, evaluated": _inside("run", "recipe.toml", "evaluate", "IT"),
        "a run's recipe, asked": _inside("run", "recipe.toml", "recommend", "IT", "--user", "u0"),
        "a run's recipe, again": _inside("run", "recipe.toml", "evaluate", "IT", "--again"),
        "a run's recipe, exported": _inside("run", "recipe.toml", "export", "IT", "--out", "new"),
    }  # fmt: skip
    for door, words in doors.items():
        for about, content in TOML.items():

            def lay(
                place: Place, words: Callable[[Place, bytes], Words] = words, content: bytes = content
            ) -> Words:
                return words(place, content)

            yield Case(f"{about} as {door}", lay)
