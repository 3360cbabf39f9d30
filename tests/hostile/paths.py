"""Names of files and folders that are too long, no name, a pattern, a loop, a pipe, or somebody else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from hostile.judged import Case, Place, Words

GOOD = "user_id,item_id,timestamp\na,x,1\na,y,2\nb,x,3\nb,z,4\n"
PREDICTED = "prediction,reference\nit is good,it is fine\nso so,not bad\n"
Way = Callable[[Place, str], object]


def _link(place: Place, name: str, to: object) -> Path:
    path = place.here / "input" / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(str(to))
    return path


def _loop(place: Place, name: str) -> Path:
    _link(place, "loop", place.here / "input" / name)
    return _link(place, name, place.here / "input" / "loop")


def _pipe(place: Place, name: str) -> Path:
    path = place.here / "input" / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    return path


def _folder(place: Place, name: str) -> Path:
    path = place.here / "input" / name
    path.mkdir(parents=True)
    return path


def _forbidden(place: Place, name: str) -> Path:
    path = place.write(name, "x")
    path.chmod(0)
    return path


WAYS: dict[str, Way] = {
    "missing": lambda place, name: place.here / name,
    "no name": lambda place, name: "",
    "a blank": lambda place, name: " ",
    "of 300 letters": lambda place, name: place.here / ("x" * 300 + name),
    "of 5,000 letters": lambda place, name: place.here / ("/".join(["x" * 200] * 25) + name),
    "of 100,000 letters": lambda place, name: "x" * 100_000 + name,
    "inside a file": lambda place, name: place.write("file", "x") / name,
    "a folder": _folder,
    "a dangling link": lambda place, name: _link(place, name, place.here / "nowhere" / "at" / "all"),
    "a loop": _loop,
    "a pipe": _pipe,
    "a link to a pipe": lambda place, name: _link(place, name, _pipe(place, "pipe")),
    "/dev/null": lambda place, name: _link(place, name, "/dev/null"),
    "/dev/zero": lambda place, name: _link(place, name, "/dev/zero"),
    "/proc": lambda place, name: _link(place, name, "/proc/self/mem"),
    "/proc/self": lambda place, name: "/proc/self/fd/9999",
    "a file without rights": _forbidden,
    "NUL": lambda place, name: f"{place.here}/a\0b{name}",
    "bytes that are no text": lambda place, name: os.fsdecode(
        os.fsencode(place.here) + b"/\xff\xfe" + name.encode()
    ),
    "such bytes that are there": lambda place, name: place.write(os.fsdecode(b"\xff") + name, "x"),
    "escapes": lambda place, name: place.here / f"\x1b[2J\u202e\x9b31m{name}",
    "escapes that are there": lambda place, name: place.write(f"\x1b[2J\u202e{name}", "x"),
    "a line break": lambda place, name: place.here / f"a\nforwhy: b{name}",
    "a pattern": lambda place, name: place.here / f"*{name}",
    "an option": lambda place, name: f"--{name}",
    "a URL": lambda place, name: f"https://127.0.0.1:9/{name}",
    "a home that is nobody's": lambda place, name: f"~nobody-there/{name}",
}


def read() -> Iterator[Case]:
    """Each way before each door that reads a file or a folder."""
    doors: dict[str, tuple[str, Callable[[Place, object], Words]]] = {
        "tables": ("x.csv", lambda p, it: ["data", "import", "tables", "--interactions", it, "--out", p.target]),
        "tables' items": ("x.jsonl", lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--items", it, "--out", p.target]),
        "parquet": ("x.parquet", lambda p, it: ["data", "import", "tables", "--interactions", it, "--out", p.target]),
        "amazon": ("x.jsonl", lambda p, it: ["data", "import", "amazon", "--reviews", it, "--out", p.target]),
        "recbole": ("x", lambda p, it: ["data", "import", "recbole", it, "--out", p.target]),
        "xrec": ("x", lambda p, it: ["data", "import", "xrec", it, "--out", p.target]),
        "lcrec": ("x", lambda p, it: ["data", "import", "lcrec", it, "--out", p.target]),
        "nlg4rs": ("x", lambda p, it: ["data", "import", "nlg4rs", it, "--out", p.target]),
        "sql": ("x.db", lambda p, it: ["data", "import", "sql", f"sqlite:///{it}", "--interactions", "t", "--out", p.target]),
        "show": ("x", lambda p, it: ["data", "show", it]),
        "audit": ("x", lambda p, it: ["data", "audit", it]),
        "export": ("x", lambda p, it: ["data", "export", "lcrec", it, "--out", p.target]),
        "init": ("x", lambda p, it: ["init", it, "--out", p.target]),
        "run": ("x.toml", lambda p, it: ["run", it, "--out", p.target]),
        "data.path": ("x", lambda p, it: ["run", "popularity.toml", "--out", p.target, "--set", f"data.path={it}"]),
        "space": ("x.toml", lambda p, it: ["tune", "popularity.toml", "--out", p.target, "--space", it]),
        "evaluate": ("x", lambda p, it: ["evaluate", it]),
        "outputs": ("x.csv", lambda p, it: ["evaluate", "--outputs", it, "--encoder", "none"]),
        "outputs.txt": ("x.txt", lambda p, it: ["evaluate", "--outputs", it, "--encoder", "none"]),
        "references": ("x.txt", lambda p, it: [
            "evaluate", "--outputs", p.write("o.txt", "a\nb\n"), "--references", it, "--encoder", "none"]),
        "recommend": ("x", lambda p, it: ["recommend", it, "--user", "u0"]),
        "boost": ("x.csv", lambda p, it: ["recommend", p.ours["run"], "--user", "u0", "--boost", it]),
        "only": ("x.csv", lambda p, it: ["recommend", p.ours["run"], "--user", "u0", "--only", it]),
        "explain": ("x", lambda p, it: ["explain", it, "--user", "u0", "--item", "i1"]),
        "indices": ("x", lambda p, it: ["indices", "show", it]),
        "index file": ("x.index.json", lambda p, it: [
            "indices", "build", p.ours["town"], "--out", p.target, "--source", "file", "--file", it]),
        "vectors": ("x.npy", lambda p, it: [
            "indices", "build", p.ours["town"], "--out", p.target, "--source", "behaviour", "--behaviour", it]),
        "run's export": ("x", lambda p, it: ["export", it, "--out", p.target]),
        "push": ("x", lambda p, it: ["push", it, "me/it", "--dry-run", p.target]),
        "mine": ("x", lambda p, it: ["mine", "intents", it, "--extractive", "--out", p.target]),
        "prompt": ("x.txt", lambda p, it: [
            "mine", "intents", p.ours["town"], "--llm", "m", "--llm-url", "http://127.0.0.1:9/v1", "--side", "user",
            "--prompt", it, "--dry-run", "--out", p.target]),
    }  # fmt: skip
    for door, (name, words) in doors.items():
        for about, way in WAYS.items():

            def lay(
                place: Place,
                way: Way = way,
                name: str = name,
                words: Callable[[Place, object], Words] = words,
            ) -> Words:
                return words(place, way(place, name))

            yield Case(f"{about} as {door}", lay)
    for name in ("X.inter.json", "X.item.json", "total_trn.csv", "a.inter", "a.item", "reviews.pickle"):
        for about in (
            "a folder",
            "a dangling link",
            "a loop",
            "a pipe",
            "/dev/zero",
            "a file without rights",
        ):

            def inside(place: Place, name: str = name, way: Way = WAYS[about]) -> Words:
                kind = {"X": "lcrec", "t": "xrec", "a": "recbole", "r": "nlg4rs"}[name[0]]
                if name == "X.item.json":
                    place.write("X.inter.json", '{"u": [0, 1, 2]}')
                if name == "a.item":
                    place.write("a.inter", "user_id:token\titem_id:token\na\tx\n")
                way(place, name)
                return ["data", "import", kind, place.here / "input", "--out", place.target]

            yield Case(f"{about} as {name}", inside)


def written() -> Iterator[Case]:
    """Each way before each door that writes."""
    doors: dict[str, tuple[str, Callable[[Place, object], Words]]] = {
        "tables": ("x", lambda p, it: ["data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", it]),
        "recbole": ("x", lambda p, it: ["data", "export", "recbole", p.ours["town"], "--out", it]),
        "lcrec": ("x", lambda p, it: ["data", "export", "lcrec", p.ours["town"], "--out", it]),
        "init": ("x.toml", lambda p, it: ["init", p.ours["town"], "--out", it]),
        "run": ("x", lambda p, it: ["run", "popularity.toml", "--set", f"data.path={p.ours['town']}", "--out", it]),
        "export": ("x", lambda p, it: ["export", p.ours["knn"], "--out", it]),
        "push": ("x", lambda p, it: ["push", p.ours["run"], "me/it", "--dry-run", it]),
        "report": ("x.html", lambda p, it: [
            "evaluate", "--outputs", p.write("o.csv", PREDICTED), "--encoder", "none", "--report", it]),
        "lists": ("x.csv", lambda p, it: ["recommend", p.ours["run"], "--all", "--out", it]),
        "indices": ("x", lambda p, it: ["indices", "build", p.ours["town"], "--source", "random", "--out", it]),
        "indices' file": ("x.index.json", lambda p, it: ["indices", "export", p.ours["index"], it]),
        "mine": ("x", lambda p, it: ["mine", "intents", p.ours["town"], "--extractive", "--out", it]),
    }  # fmt: skip
    left_out = {"missing", "no name", "a blank", "a pattern", "escapes", "bytes that are no text", "a line break",
                "a URL", "a home that is nobody's", "an option", "a folder", "of 5,000 letters", "a dangling link"}  # fmt: skip
    for door, (name, words) in doors.items():
        for about, way in WAYS.items():
            if about not in left_out:

                def lay(
                    place: Place,
                    way: Way = way,
                    name: str = name,
                    words: Callable[[Place, object], Words] = words,
                ) -> Words:
                    return words(place, way(place, name))

                yield Case(f"writes to {about}, {door}", lay, refused=True)

        # A folder with a file of somebody else's, and a file of theirs.
        def foreign(place: Place, words: Callable[[Place, object], Words] = words, name: str = name) -> Words:
            path = place.write(f"{name}/theirs.txt", "mine")
            return words(place, path.parent)

        def file(place: Place, words: Callable[[Place, object], Words] = words, name: str = name) -> Words:
            return words(place, place.write(name, "mine"))

        yield Case(f"writes to a foreign folder, {door}", foreign, refused=True)
        yield Case(f"writes to a foreign file, {door}", file, refused=None if door == "lists" else True)


def patterns() -> Iterator[Case]:
    """Names with letters of patterns are names: of two that fit, the one that is named is read."""
    for name, other in {
        "r[1]": "r1",
        "r*": "rest",
        "r?": "rx",
        "{a,b}": "a",
        "r[!x]": "ra",
        "**": "all",
    }.items():
        for suffix in ("csv", "parquet", "jsonl"):

            def lay(place: Place, name: str = name, other: str = other, suffix: str = suffix) -> Words:
                for stem, user in ((name, "good"), (other, "EVIL")):
                    _table(place.here / f"{stem}.{suffix}", user)
                return [
                    "data",
                    "import",
                    "tables",
                    "--interactions",
                    f"{name}.{suffix}",
                    "--out",
                    place.target,
                ]

            yield Case(f"{name}.{suffix}", lay, refused=False)

        def shown(place: Place, name: str = name, other: str = other) -> Words:
            place.copy("town", place.here / name)
            place.copy("shop", place.here / other)
            return ["data", "show", name, "--json"]

        def run(place: Place, name: str = name, other: str = other) -> Words:
            place.copy("run", place.here / name)
            place.copy("knn", place.here / other)
            return ["recommend", name, "--user", "u0", "--json"]

        def evaluated(place: Place, name: str = name, other: str = other) -> Words:
            place.copy("run", place.here / name)
            place.copy("knn", place.here / other)
            return ["evaluate", name, other, "--json"]

        def index(place: Place, name: str = name) -> Words:
            return ["indices", "show", place.copy("index", place.here / name)]

        def lists(place: Place, name: str = name) -> Words:
            return ["recommend", place.ours["run"], "--all", "--out", place.here / "target" / f"{name}.csv"]

        for about, layer in (
            ("shown", shown),
            ("run", run),
            ("evaluated", evaluated),
            ("index", index),
            ("lists", lists),
        ):
            yield Case(f"{name} {about}", layer, refused=False)


def _table(path: Path, user: str) -> None:
    import polars as pl

    frame = pl.DataFrame({"user_id": [user, user], "item_id": ["x", "y"]})
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[path.suffix](
        path
    )
