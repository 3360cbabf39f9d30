"""Folders whose digests are right and whose content is not: anybody can compute a digest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from forwhy.atomic import stamps, write_signed
from hostile.judged import Case, Place, Words

Change = Callable[[Path], None]


def sign(folder: Path, marker: str, document: dict[str, Any] | None = None) -> None:
    """Gives a changed folder the digests of what it holds now."""
    if document is None:
        document = json.loads((folder / marker).read_bytes())
        document["files"] = stamps(folder, marker)
    document.pop("digest", None)
    write_signed(folder, marker, document)


def of_document(change: Callable[[dict[str, Any]], object], marker: str) -> Change:
    """A change of what the marker says."""

    def apply(folder: Path) -> None:
        document = json.loads((folder / marker).read_bytes())
        change(document)
        sign(folder, marker, document)

    return apply


def of_table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame], marker: str) -> Change:
    """A change of a parquet file."""

    def apply(folder: Path) -> None:
        path = folder / f"{name}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)
        sign(folder, marker)

    return apply


def of_tensors(change: Callable[[dict[str, Any]], object]) -> Change:
    """A change of the tensors."""

    def apply(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = dict(load_file(path))
        change(tensors)
        save_file(tensors, path)
        sign(folder, "config.json")

    return apply


def _retyped(column: str) -> Iterator[tuple[str, Callable[[pl.DataFrame], pl.DataFrame]]]:
    it = pl.col(column)
    yield f"{column} missing", lambda frame: frame.drop(column)
    yield f"{column} null", lambda frame: frame.with_columns(pl.lit(None).alias(column))
    yield (
        f"{column} a null",
        lambda frame: frame.with_columns(pl.when(pl.int_range(pl.len()) > 0).then(it).alias(column)),
    )
    yield f"{column} a list", lambda frame: frame.with_columns(pl.concat_list(it).alias(column))
    yield f"{column} text", lambda frame: frame.with_columns(pl.lit("\x1b[2J").alias(column))
    yield f"{column} numbers", lambda frame: frame.with_columns(pl.lit(2**62).alias(column))
    yield f"{column} bytes", lambda frame: frame.with_columns(pl.lit(b"\xff").alias(column))


TABLES = {
    "interactions": ("user_id", "item_id", "timestamp", "split"),
    "items": ("item_id", "title"),
    "explanations": ("user_id", "item_id", "text", "split"),
    "reviews": ("user_id", "item_id", "text"),
}
MARKED: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"without {key}": lambda it, key=key: it.pop(key, None)
       for key in ("forwhy", "format", "name", "fingerprint", "rows", "source", "files")},
    **{f"{key} {about}": lambda it, key=key, value=value: it.update({key: value})
       for key in ("forwhy", "format", "name", "fingerprint", "rows", "source", "files")
       for about, value in {"null": None, "a list": [1], "a number": 7, "a text": "\x1b[2J", "deep": [[[[[]]]]]}.items()},
    "format of 4,000 digits": lambda it: it.update(format=10**4000),
    "a file outside": lambda it: it["files"].update({"../../etc/passwd": {"bytes": 1, "sha256": "x"}}),
    "a file that is NUL": lambda it: it["files"].update({"a\0b": {"bytes": 1, "sha256": "x"}}),
    "a file of 300 letters": lambda it: it["files"].update({"a" * 300: {"bytes": 1, "sha256": "x"}}),
    "sizes of text": lambda it: it["files"].update({"items.parquet": {"bytes": "a", "sha256": 3}}),
    "no interactions": lambda it: it["files"].pop("interactions.parquet", None),
    "protocol of text": lambda it: it.get("source", it.get("config")).update(protocol="x"),
    "mined of text": lambda it: it.get("source", it.get("config")).update(mined="x"),
}  # fmt: skip


def datasets() -> Iterator[Case]:
    """Data sets."""
    changes = {about: of_document(change, "dataset.json") for about, change in MARKED.items()}
    for table, columns in TABLES.items():
        for column in columns:
            for about, change in _retyped(column):
                changes[f"{table}: {about}"] = of_table(table, change, "dataset.json")
        changes[f"{table}: no rows"] = of_table(table, pl.DataFrame.clear, "dataset.json")
        changes[f"{table}: twice"] = of_table(table, lambda it: pl.concat([it, it]), "dataset.json")
        strange = {"item_id": "nobody"} if table != "items" else {"title": "\u202e"}
        changes[f"{table}: strangers"] = of_table(
            table, lambda it, more=strange: it.with_columns(**{k: pl.lit(v) for k, v in more.items()}), "dataset.json"
        )  # fmt: skip
    doors: dict[str, Words] = {
        "show": ["data", "show", "IT"],
        "audit": ["data", "audit", "IT", "--json"],
        "lcrec": ["data", "export", "lcrec", "IT", "--out", "new/er"],
        "recbole": ["data", "export", "recbole", "IT", "--out", "new/er"],
    }
    for about, change in changes.items():
        for door, command in doors.items():
            yield Case(
                f"{about}, {door}", _laid("town", change, command, out="recbole" in door or "lcrec" in door)
            )
        # one that learns: what has nothing to learn stays where it can't be measured, since it can be asked
        learns = [f"--set={it}" for it in ("system=sasrec", "recommender.epochs=1", "recommender.dims=8")]
        fitted: Words = ["run", "popularity.toml", "--out", "TARGET", "--set=data.path=IT", *learns]
        yield Case(f"{about}, run", _laid("town", change, fitted, out=True))
        yield Case(f"{about}, init", _laid("town", change, ["init", "IT", "--out", "TARGET"], out=True))


def _laid(
    ours: str, change: Change, command: Words, part: str = "", out: bool = False
) -> Callable[[Place], Words]:
    """Something of ours, changed, where a command may write over it, or `out` may only read it."""

    def lay(place: Place) -> Words:
        path = place.copy(ours, place.here / "given" if out else None)
        change(path / part)
        named = {"IT": str(path), "TARGET": str(place.target), "new/er": str(place.target)}
        words = []
        for word in map(str, command):
            for name, value in named.items():
                word = word.replace(name, value)
            words.append(word)
        return words

    return lay


def _tensor_changes(folder: Path) -> Iterator[tuple[str, Change]]:
    for name, tensor in load_file(folder / "model.safetensors").items():
        odd = {
            "missing": None,
            "empty": tensor[:0],
            "shorter": tensor[:-1] if tensor.ndim else None,
            "of another shape": tensor.reshape(-1, 1, 1),
            "text": np.zeros(tensor.shape, np.uint8),
            "negative": (np.zeros(tensor.shape) - 7).astype(
                tensor.dtype if tensor.dtype.kind in "if" else np.int64
            ),
            "beyond": (np.zeros(tensor.shape) + 2**30).astype(
                tensor.dtype if tensor.dtype.kind in "if" else np.int64
            ),
            "NaN": np.full(tensor.shape, np.nan, np.float32),
        }
        for about, value in odd.items():

            def change(tensors: dict[str, Any], name: str = name, value: Any = value) -> None:  # noqa: ANN401
                tensors.pop(name)
                tensors.update({} if value is None else {name: np.ascontiguousarray(value)})

            yield f"{name} {about}", of_tensors(change)


def _artifact(folder: Path) -> Iterator[tuple[str, Change]]:
    """All changes of an artifact: its document, each key of its config, its tables and tensors."""
    for about, change in MARKED.items():
        if "interactions" not in about and "items.parquet" not in about:
            yield about, of_document(change, "config.json")
    document = json.loads((folder / "config.json").read_bytes())
    for key in ("kind", "config"):
        for value in (None, [], 3, "x", {}):
            yield f"{key} = {value}", of_document(lambda it, k=key, v=value: it.update({k: v}), "config.json")
    for key in document["config"]:
        yield f"config without {key}", of_document(lambda it, k=key: it["config"].pop(k), "config.json")
        for value in (None, [1], -7, "x", {}):
            yield (
                f"config.{key} = {value}",
                of_document(lambda it, k=key, v=value: it["config"].update({k: v}), "config.json"),
            )
    for path in sorted(folder.glob("*.parquet")):
        for column in pl.read_parquet_schema(path):
            for about, change in _retyped(column):
                yield f"{path.stem}: {about}", of_table(path.stem, change, "config.json")
        yield f"{path.stem}: no rows", of_table(path.stem, pl.DataFrame.clear, "config.json")
        yield f"{path.stem}: fewer", of_table(path.stem, lambda it: it.head(1), "config.json")

        def gone(it: Path, name: str = path.name) -> None:
            (it / name).unlink()
            sign(it, "config.json")

        yield f"{path.stem}: missing", gone
    yield from _tensor_changes(folder)


def artifacts(ours: dict[str, Path]) -> Iterator[Case]:
    """Artifacts of runs' recommenders, words, indices."""
    for about, change in _artifact(ours["hybrid"] / "mixture"):
        yield Case(
            f"mixture: {about}", _laid("hybrid", change, ["recommend", "IT", "--user", "u0"], "mixture")
        )
    for about, change in _artifact(ours["sas"] / "recommender"):
        for door in (["recommend", "IT", "--user", "u0"], ["explain", "IT", "--user", "u0", "--item", "i1"]):
            yield Case(f"recommender: {about}, {door[0]}", _laid("sas", change, list(door), "recommender"))
    for about, change in _artifact(ours["words"] / "vocabulary"):
        for door in (["vocabulary", "IT"], ["recommend", "IT", "--user", "u0"]):
            yield Case(f"vocabulary: {about}, {door[0]}", _laid("words", change, list(door), "vocabulary"))
    for about, change in _artifact(ours["because"] / "explainer"):
        asked: Words = ["explain", "IT", "--user", "edda-novak", "--item", "wandering-hare-flower-shop"]
        yield Case(f"explainer: {about}", _laid("because", change, asked, "explainer"))
    for about, change in _artifact(ours["index"]):
        yield Case(f"index: {about}", _laid("index", change, ["indices", "show", "IT"]))


def outputs() -> Iterator[Case]:
    """Texts and ranks that a run has kept."""
    for name in ("ranking.parquet", "outputs.parquet"):
        for about, content in {"empty": b"", "cut": b"PAR1", "text": b"user_id,item_id\n1,2\n"}.items():

            def lay(place: Place, name: str = name, content: bytes = content) -> Words:
                run, other = place.copy("run"), place.ours["knn"]
                (run / name).write_bytes(content)
                return ["evaluate", run, other]

            yield Case(f"{about} as {name}", lay)
    for column in ("user_id", "item_id", "rank", "ndcg@20"):
        for about, change in _retyped(column):

            def ranked(place: Place, change: Callable[[pl.DataFrame], pl.DataFrame] = change) -> Words:
                run, other = place.copy("run"), place.ours["knn"]
                path = run / "ranking.parquet"
                frame = pl.read_parquet(path)
                change(frame).write_parquet(path)
                return ["evaluate", run, other]

            yield Case(f"ranking {about}", ranked)
