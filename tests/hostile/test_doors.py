"""Every class of hostile inputs before every door: done, or one line with a remedy; never a trace, a hang, a loss."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest

from hostile import documents, paths, signed, tables, words
from hostile.judged import Case, Place, called, judge

MOST = 160
"""Inputs of a class in an ordinary run of the tests."""
SHOWN = 40
"""Failures that are told; all are counted."""


def _rows(prefix: str = "", strange: str = "") -> dict[str, pl.DataFrame]:
    users, items = [f"{strange}u{n}" for n in range(8)], [f"{prefix}i{n}" for n in range(12)]
    pairs = [(user, items[(3 * at + step) % 12]) for at, user in enumerate(users) for step in range(6)]
    took = pl.DataFrame(pairs, ["user_id", "item_id"], orient="row").with_row_index(
        "timestamp", 1_600_000_000
    )
    said = pl.DataFrame(pairs[::5], ["user_id", "item_id"], orient="row")
    return {
        "interactions": took.with_columns(pl.col("timestamp").cast(pl.Int64)),
        "items": pl.DataFrame({"item_id": items, "title": [f"{strange}Thing {n}" for n in range(12)],
                               "categories": ["red, round"] * 12}),
        "explanations": said.with_columns(text=pl.lit(f"{strange} it is a good and quiet place")),
        "reviews": said.with_columns(text=pl.lit(f"{strange} I liked the coffee. It was cheap.")),
    }  # fmt: skip


def _town(folder: Path, tables_: Mapping[str, pl.DataFrame], name: str) -> None:
    options: list[object] = []
    (source := folder / "source").mkdir(parents=True)
    for table, frame in tables_.items():
        frame.write_parquet(source / f"{table}.parquet")
        options += [f"--{table}", source / f"{table}.parquet"]
    _done(folder, "data", "import", "tables", *options, "--out", folder / name, "--name", name)


def _run(at: Path, system: str, town: Path, out: Path, *more: str, until: str = "evaluation") -> None:
    chosen = [f"--set={it}" for it in (f"system={system}", f"data.path={town}", *more)]
    _done(at, "run", "popularity.toml", *chosen, "--out", out, "--until", until)


def _done(at: Path, *command: object) -> None:
    found = called([str(word) for word in command], at)
    assert found.status == 0, found.err


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Path) -> dict[str, Path]:
    """A shop, runs of it, an index, and a shop whose ids and texts are hostile."""
    here = tmp_path_factory.mktemp("ours")
    _town(here, _rows(), "town")
    _town(here / "other", _rows(prefix="x"), "shop")
    _run(here, "popularity", here / "town", here / "run")
    _run(here, "item-knn", here / "town", here / "knn")
    _run(here, "sasrec", here / "town", here / "sas", "recommender.epochs=1", "recommender.dims=8")
    _run(here, "hybrid", here / "town", here / "hybrid", "encoder.name=hash")
    small = ("encoder.name=hash", "vocabulary.epochs=1", "vocabulary.codes=4")
    _run(here, "because", here / "town", here / "words", *small, until="vocabulary")
    _done(here, "run", tiny_recipe, "--set=system=because", "--out", here / "because", "--until", "explainer")
    _done(here, "indices", "build", here / "town", "--source", "random", "--out", here / "index")
    strange = "".join(
        words.ANSI[name] for name in ("escape", "CSI", "turned", "separators", "html", "markup")
    )
    _town(here / "hostile", _rows(strange=strange), "town")
    (here / "hostile" / "user.json").write_text(json.dumps(f"{strange}u0"), "utf-8")
    _run(here, "popularity", here / "hostile" / "town", here / "hostile" / "run")
    found = {
        name: here / name
        for name in ("town", "run", "knn", "sas", "hybrid", "words", "because", "index", "hostile")
    }
    return found | {"shop": here / "other" / "shop", "nowhere": here / "nowhere"}


CLASSES: dict[str, Callable[[dict[str, Path]], Iterator[Case]]] = {
    "types of tables": lambda ours: tables.typed(),
    "CSV": lambda ours: tables.separated(),
    "RecBole": lambda ours: tables.recbole(),
    "JSON": lambda ours: documents.of_json(),
    "rows of JSON": lambda ours: documents.of_rows(),
    "TOML": lambda ours: documents.of_toml(),
    "signed data sets": lambda ours: signed.datasets(),
    "signed artifacts": signed.artifacts,
    "kept results": lambda ours: signed.outputs(),
    "paths that are read": lambda ours: paths.read(),
    "paths that are written": lambda ours: paths.written(),
    "patterns": lambda ours: paths.patterns(),
    "numbers": lambda ours: words.numbers(),
    "letters": lambda ours: words.letters(),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_door_takes_it_or_says_why_not(
    kind: str, ours: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ends, wrong = Counter[str](), list[str]()
    for number, case in enumerate(_some([*CLASSES[kind](ours)])):
        place = Place(tmp_path / str(number), ours)
        found = judge(case, place)
        ends[{0: "taken", 2: "refused"}.get(found.status, "neither")] += 1
        if found.wrong:
            last = (found.err.splitlines() or [""])[-1]
            wrong.append(f"{case.about}: {', '.join(found.wrong)} | {last[:160]!r}")
        _gone(place.here)
    print(f"\n{kind}: {sum(ends.values())} inputs, {dict(ends)}, {len(wrong)} wrong")
    if to := os.environ.get("HOSTILE"):
        with open(to, "a") as stream:
            stream.writelines(f"{kind} :: {line}\n" for line in wrong)
    assert not wrong, f"{len(wrong)} of {sum(ends.values())}:\n" + "\n".join(wrong[:SHOWN])


def _some(cases: list[Case]) -> list[Case]:
    """A seeded draw of at most `MOST`, in their order; all of them where `HOSTILE` names a file for what is wrong."""
    if len(cases) <= MOST or "HOSTILE" in os.environ:
        return cases
    return [cases[row] for row in sorted(random.Random(0).sample(range(len(cases)), MOST))]


def _gone(folder: Path) -> None:
    shutil.rmtree(os.fsencode(folder), ignore_errors=True)
