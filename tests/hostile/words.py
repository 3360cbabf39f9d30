"""What is typed: numbers beyond all bounds, dates that are none, ids and names with letters that move a cursor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import polars as pl

from hostile.judged import Case, Place, Words
from hostile.paths import GOOD

NUMBERS = ("-1", "0", "1e9", "1000000000", str(2**63), str(2**64), str(2**70), "1" * 5000, "nan", "inf", "-inf", "1e400",
           "0x10", "1_0", "", " ", "one", "½", "٣", "1.5", "-0", "[1]", "true")  # fmt: skip
DATES = ("2020-13-45", "0000-00-00", "9999-12-31", "10000-01-01", "yesterday", "", "1", str(2**70), "2020-01-01T00:00:00",
         "\x1b[2J")  # fmt: skip
ANSI = {
    "escape": "\x1b[2J\x1b[31m",
    "CSI": "\x9b31m",
    "title": "\x1b]0;owned\x07",
    "turned": "\u202egpj.exe",
    "isolated": "\u2066a\u2069\u200f",
    "bell": "\a\b\x7f",
    "separators": "\u2028a\u2029b\x85c",
    "NUL": "a\0b",
    "markup": "[bold red]x[/]",
    "html": "<script>alert(1)</script>",
    "percent": "%s%n{0}{}",
    "return": "good\rbad",
    "a forged line": "x\nforwhy: all is well; go on",
    "long": "n" * 5000,
    "a million": "n" * 1_000_000,
    "no text": "\udcff\udcfe",
}


def numbers() -> Iterator[Case]:
    """Each number for each option that takes one."""
    doors: dict[str, Callable[[Place, str], Words]] = {}
    for option in ("--seed", "--min-rating", "--sample", "--core", "--validation"):
        doors[f"tables {option}"] = lambda p, it, option=option: [
            "data",
            "import",
            "tables",
            "--interactions",
            p.write("i.csv", GOOD),
            "--out",
            p.target,
            f"{option}={it}",
        ]
    for option in ("--seed", "--core", "--sample"):
        doors[f"recbole {option}"] = lambda p, it, option=option: [
            "data",
            "import",
            "recbole",
            p.write("a.inter", "user_id:token\titem_id:token\na\tx\n").parent,
            "--out",
            p.target,
            f"{option}={it}",
        ]
    doors["xrec --seed"] = lambda p, it: [
        "data",
        "import",
        "xrec",
        _xrec(p),
        "--out",
        p.target,
        f"--seed={it}",
    ]
    doors["nlg4rs --fold"] = lambda p, it: [
        "data",
        "import",
        "nlg4rs",
        p.write("reviews.pickle", b"x").parent,
        "--out",
        p.target,
        f"--fold={it}",
    ]
    doors["sql --timeout"] = lambda p, it: [
        "data",
        "import",
        "sql",
        f"sqlite:///{p.write('no.db', b'x')}",
        "--interactions",
        "t",
        "--out",
        p.target,
        f"--timeout={it}",
    ]
    doors["recommend -k"] = lambda p, it: ["recommend", p.ours["run"], "--user", "u0", f"-k={it}"]
    doors["recommend -k knn"] = lambda p, it: ["recommend", p.ours["knn"], "--user", "u0", "-k", it]
    doors["evaluate --seed"] = lambda p, it: [
        "evaluate",
        "--outputs",
        p.write("o.csv", "prediction,reference\na b,a c\nb,c\n"),
        "--encoder",
        "none",
        f"--seed={it}",
    ]
    for option in ("--width", "--depth", "--seed", "--iterations"):
        doors[f"indices {option}"] = lambda p, it, option=option: [
            "indices",
            "build",
            p.ours["town"],
            "--out",
            p.target,
            "--source",
            "random",
            f"{option}={it}",
        ]
    doors["tune --trials"] = lambda p, it: [
        "tune",
        "popularity.toml",
        "--set",
        f"data.path={p.ours['nowhere']}",
        "--out",
        p.target,
        f"--trials={it}",
    ]
    for key in ("seed", "evaluation.ks", "evaluation.seed", "data.zero_shot_users", "evaluation.nothing"):
        doors[f"--set {key}"] = lambda p, it, key=key: [
            "run",
            "popularity.toml",
            "--set",
            f"data.path={p.ours['town']}",
            "--out",
            p.target,
            "--set",
            f"{key}={it}",
        ]
    doors["--set ks"] = lambda p, it: [
        "run",
        "popularity.toml",
        "--set",
        f"data.path={p.ours['town']}",
        "--out",
        p.target,
        "--set",
        f"evaluation.ks=[{it}]",
    ]
    doors["mine --max"] = lambda p, it: [
        "mine",
        "intents",
        p.ours["town"],
        "--extractive",
        "--out",
        p.target,
        f"--phrases={it}",
    ]
    for door, words in doors.items():
        for number in NUMBERS:

            def lay(
                place: Place, words: Callable[[Place, str], Words] = words, number: str = number
            ) -> Words:
                return words(place, number)

            yield Case(f"{number[:30]!r} as {door}", lay)
    for option in ("--since", "--until"):
        for day in DATES:

            def dated(place: Place, option: str = option, day: str = day) -> Words:
                return ["data", "import", "tables", "--interactions", place.write("i.csv", GOOD), "--out", place.target,
                        f"{option}={day}"]  # fmt: skip

            yield Case(f"{day!r} as {option}", dated)
    many = ",".join(map(str, range(1, 100_001)))
    for about, value in {
        "100,000 cut-offs": f"[{many}]",
        "cut-offs of 10^9": "[1000000000]",
        "twice": "[5,5]",
    }.items():

        def cut_offs(place: Place, value: str = value) -> Words:
            return ["run", "popularity.toml", "--set", f"data.path={place.ours['town']}", "--out", place.target, "--set",
                    f"evaluation.ks={value}"]  # fmt: skip

        yield Case(about, cut_offs)


def _xrec(place: Place) -> object:
    for part in ("trn", "val", "tst"):
        path = place.write(f"total_{part}.csv", "user,item\n1,2\n2,3\n")
    return path.parent


def letters() -> Iterator[Case]:
    """Letters that move a cursor, in each thing that is typed or told again."""
    doors: dict[str, Callable[[Place, str], Words]] = {
        "--user": lambda p, it: ["recommend", p.ours["run"], f"--user={it}"],
        "--history": lambda p, it: ["recommend", p.ours["run"], f"--history={it}"],
        "--history, JSON": lambda p, it: ["recommend", p.ours["run"], f"--history=i1,{it}", "--json"],
        "--item": lambda p, it: ["explain", p.ours["run"], "--user", "u0", f"--item={it}"],
        "--exclude": lambda p, it: ["recommend", p.ours["run"], "--user", "u0", f"--exclude={it}"],
        "--about": lambda p, it: ["recommend", p.ours["run"], f"--about={it}"],
        "--swap": lambda p, it: ["recommend", p.ours["run"], "--user", "u0", f"--swap={it}"],
        "--without": lambda p, it: ["recommend", p.ours["run"], "--user", "u0", f"--without={it}"],
        "--name": lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", p.target, f"--name={it}"],
        "--name, JSON": lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", p.target, f"--name={it}",
            "--json"],
        "--map": lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", p.target, f"--map=user_id={it}"],
        "--map ours": lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", p.target, f"--map={it}=user_id"],
        "--date-format": lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", p.target, f"--date-format={it}"],
        "--split": lambda p, it: [
            "data", "import", "tables", "--interactions", p.write("i.csv", GOOD), "--out", p.target, f"--split={it}"],
        "--prefix": lambda p, it: [
            "data", "import", "lcrec", p.write("X.inter.json", '{"u": [1]}').parent, "--out", p.target, f"--prefix={it}"],
        "a query": lambda p, it: ["data", "import", "sql", _database(p), f"--interactions={it}", "--out", p.target],
        "a database": lambda p, it: ["data", "import", "sql", it, "--interactions", "t", "--out", p.target],
        "a URL's variable": lambda p, it: [
            "data", "import", "sql", f"--url-env={it}", "--interactions", "t", "--out", p.target],
        "a set key": lambda p, it: ["run", "popularity.toml", "--out", p.target, f"--set={it}=3"],
        "a set value": lambda p, it: ["run", "popularity.toml", "--out", p.target, f"--set=name={it}",
                                      "--set", f"data.path={p.ours['town']}"],
        "a section": lambda p, it: ["run", "popularity.toml", "--out", p.target, f"--set=evaluation.{it}=3"],
        "a system": lambda p, it: ["fit", "recommender", it, p.ours["town"], "--out", p.target],
        "--until": lambda p, it: ["run", "popularity.toml", "--set", f"data.path={p.ours['town']}", "--out", p.target,
                                  f"--until={it}"],
        "--track": lambda p, it: ["run", "popularity.toml", "--out", p.target, f"--track={it}"],
        "outputs' name": lambda p, it: [
            "evaluate", "--outputs", f"{it}={p.write('o.csv', 'prediction,reference' + chr(10) + 'a b,a c' + chr(10) + 'b,c')}",
            "--encoder", "none"],
        "--encoder": lambda p, it: [
            "evaluate", "--outputs", p.write("o.csv", "prediction,reference\na b,a c\nb,c\n"), f"--encoder={it}"],
        "--metrics": lambda p, it: [
            "evaluate", "--outputs", p.write("o.csv", "prediction,reference\na b,a c\nb,c\n"), "--encoder", "none",
            f"--metrics={it}"],
        "--source": lambda p, it: ["indices", "build", p.ours["town"], "--out", p.target, f"--source={it}"],
        "--behaviour": lambda p, it: ["indices", "build", p.ours["town"], "--out", p.target, f"--behaviour={it}",
                                      "--source", "behaviour"],
        "--token": lambda p, it: ["vocabulary", p.ours["run"], f"--token={it}"],
        "an option": lambda p, it: ["recommend", p.ours["run"], f"--{it}"],
        "a command": lambda p, it: [it],
        "a group's command": lambda p, it: ["data", it],
        "a hub's name": lambda p, it: ["push", p.ours["run"], it, "--dry-run", p.target],
        "a title, imported": lambda p, it: _titled(p, it),
        "an id, imported": lambda p, it: _named(p, it),
        "an id, imported, JSON": lambda p, it: [*_named(p, it), "--json"],
        "a history's item": lambda p, it: [
            "data", "import", "lcrec", p.write("X.inter.json", json.dumps({"u": [it, "b", "c"], it: ["b", it]})).parent,
            "--out", p.target],
        "an index's item": lambda p, it: [
            "indices", "build", p.ours["town"], "--out", p.target, "--source", "file", "--file",
            p.write("x.index.json", json.dumps({it: ["<a_1>"]}))],
        "an index's token": lambda p, it: [
            "indices", "build", p.ours["town"], "--out", p.target, "--source", "file", "--file",
            p.write("x.index.json", json.dumps({f"i{n}": [it] for n in range(12)}))],
        "a column": lambda p, it: [
            "data", "import", "tables", "--interactions",
            p.write("i.csv", f"{it},b\n1,2\n".encode("utf-8", "surrogateescape")), "--out", p.target],
    }  # fmt: skip
    for door, words in doors.items():
        for about, text in ANSI.items():

            def lay(place: Place, words: Callable[[Place, str], Words] = words, text: str = text) -> Words:
                return words(place, text)

            yield Case(f"{about} as {door}", lay)
    asked: dict[str, Words] = {
        "show": ["data", "show", "TOWN"], "show, JSON": ["data", "show", "TOWN", "--json"],
        "audit": ["data", "audit", "TOWN"], "audit, JSON": ["data", "audit", "TOWN", "--json"],
        "init": ["init", "TOWN", "--out", "target"], "init, JSON": ["init", "TOWN", "--out", "target", "--json"],
        "recbole": ["data", "export", "recbole", "TOWN", "--out", "target"],
        "lcrec": ["data", "export", "lcrec", "TOWN", "--out", "target"],
        "recommend": ["recommend", "RUN", "--user", "USER"],
        "recommend, JSON": ["recommend", "RUN", "--user", "USER", "--json"],
        "recommend --explain": ["recommend", "RUN", "--user", "USER", "--explain"],
        "recommend --all": ["recommend", "RUN", "--all", "--out", "target"],
        "explain": ["explain", "RUN", "--user", "USER", "--item", "i2"],
        "explain, JSON": ["explain", "RUN", "--user", "USER", "--item", "i2", "--json"],
        "an unknown user": ["recommend", "RUN", "--user", "USED"],
        "evaluate": ["evaluate", "RUN"], "evaluate, JSON": ["evaluate", "RUN", "--json"],
        "report": ["evaluate", "RUN", "--report", "target"],
        "indices": ["indices", "build", "TOWN", "--source", "random", "--out", "target"],
        "indices, JSON": ["indices", "build", "TOWN", "--source", "random", "--out", "target", "--json"],
        "mine": ["mine", "intents", "TOWN", "--extractive", "--out", "target"],
        "run again": ["run", "popularity.toml", "--set", "data.path=TOWN", "--out", "target"],
        "--set knn": ["run", "popularity.toml", "--set", "system=item-knn", "--set", "data.path=TOWN", "--out", "target"],
    }  # fmt: skip
    for about, command in asked.items():

        def ask(place: Place, command: Words = command) -> Words:
            user = json.loads((place.ours["hostile"] / "user.json").read_text("utf-8"))
            known = {"TOWN": place.ours["hostile"] / "town", "RUN": place.ours["hostile"] / "run", "USER": user,
                     "USED": user[:-1]}  # fmt: skip
            return [_put(str(word), known) for word in command]

        yield Case(f"a hostile town, {about}", ask)


def _put(word: str, known: dict[str, object]) -> str:
    for name, value in known.items():
        word = word.replace(name, str(value))
    return word


def _database(place: Place) -> str:
    import sqlite3

    path = place.write("shop.db", b"")
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (user_id TEXT, item_id TEXT)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [("a", "x"), ("b", "y")])
    connection.close()
    return f"sqlite:///{path}"


def _titled(place: Place, text: str) -> Words:
    text = text.encode("utf-8", "replace").decode()
    items = pl.DataFrame(
        {"item_id": ["x", "y", "z"], "title": [text, f"{text} again", "plain"], text[:50] or "c": [1, 2, 3]}
    )
    path = place.write("items.parquet", b"")
    items.write_parquet(path)
    return [
        "data",
        "import",
        "tables",
        "--interactions",
        place.write("i.csv", GOOD),
        "--items",
        path,
        "--out",
        place.target,
    ]


def _named(place: Place, text: str) -> Words:
    text = text.encode("utf-8", "replace").decode()
    path = place.write("i.parquet", b"")
    pl.DataFrame({"user_id": [text, text, "b"], "item_id": ["x", text, "y"]}).write_parquet(path)
    return ["data", "import", "tables", "--interactions", path, "--out", place.target]
