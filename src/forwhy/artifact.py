"""A folder that loads alone: config.json + model.safetensors + NAME.parquet + a card, each file hashed.

``config.json`` is written last and holds the library version, the format, the kind, the caller's config and
the size and SHA-256 of every other file, itself covered by a digest. So a folder is whole or refused, and
the refusal names the file. Nothing is pickled; this module imports no torch.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.exceptions import PolarsError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from forwhy.errors import UserError

FORMAT = 1
"""Version of the folder layout; raised when an older library could no longer read the folder."""

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_RESERVED = {CONFIG, WEIGHTS, CARD}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Artifact:
    """What :func:`load` read from a folder."""

    kind: str
    config: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    tables: dict[str, pl.DataFrame]
    folder: Path

    def part(self, name: str) -> Path:
        """Where the part saved as ``name`` lies (itself often an artifact)."""
        return self.folder / name


def save(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    tables: Mapping[str, pl.DataFrame],
    card: str,
    parts: Mapping[str, Path] | None = None,
) -> None:
    """Write an artifact in one atomic step; an artifact already there stays whole until the swap.

    ``config`` must be JSON (numbers that are not finite become null); ``parts`` are files or folders copied
    in under the given names. Costs one write and one read of every file. Raises :class:`UserError` when the
    disk is full or ``folder`` holds something that is not an artifact.
    """
    refuse_foreign(Path(folder), CONFIG)
    with atomic_folder(folder) as temporary:
        _write_content(temporary, tensors, tables, card, parts or {})
        document = {"forwhy": _library_version(), "format": FORMAT, "kind": kind, "config": _json(config)}
        document["files"] = {name: _stamp(temporary / name) for name in _names(temporary)}
        document["digest"] = _digest(document)
        (temporary / CONFIG).write_text(_dump(document) + "\n", encoding="utf-8")


def load(folder: Path, kind: str) -> Artifact:
    """Read an artifact of ``kind`` after checking every file of it against its size and SHA-256.

    Raises :class:`UserError` naming the file and the reason: missing, truncated, altered, of another kind,
    written by a newer library. Costs two reads of the weights.
    """
    folder = Path(folder)
    recover(folder)
    document = _read_document(folder)
    _check_kind(folder, document, kind)
    for name, stamp in document["files"].items():
        _check_file(folder / name, stamp)
    return Artifact(kind, document["config"], _read_tensors(folder), _read_tables(folder, document), folder)


def peek(folder: Path) -> tuple[str, dict[str, Any]]:
    """The kind and config of the artifact in ``folder``, without reading or checking its other files."""
    recover(Path(folder))
    document = _read_document(Path(folder))
    return document["kind"], document["config"]


# --- atomic writing -------------------------------------------------------------------------------------


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write; on success it is synced and renamed to ``path``, else removed.

    A full disk becomes a :class:`UserError` that names ``path``; what was there stays untouched. One writer
    per file: what an earlier, killed writer left is overwritten.
    """
    path = _real(path)
    with full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.partial")
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling to fill; on success it takes the place of ``folder``, else it goes.

    The old folder is set aside for the moment of the swap; should the process die in between,
    :func:`recover` (called by :func:`load` and here) brings it back. One writer per folder: what an earlier,
    killed writer left is removed first.
    """
    folder = _real(folder)
    recover(folder)
    temporary = folder.with_name(f".{folder.name}.partial")
    with full_disk(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for path in sorted(temporary.rglob("*")):
                _sync(path)
            _sync(temporary)
            _swap(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def recover(folder: Path) -> None:
    """Finish a swap that a kill cut in two: bring the old folder back, or drop it if the new one is there."""
    folder = _real(folder)
    aside = folder.with_name(f".{folder.name}.previous")
    if not aside.is_dir():
        return
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.rename(folder)


def refuse_foreign(folder: Path, marker: str) -> None:
    """Raise :class:`UserError` unless ``folder`` is absent, empty or holds the file ``marker`` of ours."""
    recover(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, not a folder; choose another place to write to")
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder / marker):
        raise UserError(f"{folder}: holds files that forwhy did not write; choose another or an empty folder")


def _is_ours(marker: Path) -> bool:
    """Whether the marker file is a JSON object that names this library (a broken one is not ours)."""
    try:
        document = json.loads(marker.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and "forwhy" in document


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" into the caller's error: one line that names the path."""
    try:
        yield
    except (OSError, SafetensorError, PolarsError) as error:
        if _errno(error) not in _FULL:
            raise
        raise UserError(f"{path}: the disk is full; free space or choose another place") from error


def _errno(error: Exception) -> int | None:
    """The system's error number; safetensors and polars keep it only in their text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def _swap(temporary: Path, folder: Path) -> None:
    """Put ``temporary`` in the place of ``folder``; a directory can't be renamed over a filled one."""
    aside = folder.with_name(f".{folder.name}.previous")
    if folder.exists():
        folder.rename(aside)
    try:
        temporary.rename(folder)
    except OSError:
        recover(folder)
        raise
    _sync(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _sync(path: Path) -> None:
    """Flush a file's or folder's content to the disk, so that a rename never shows an empty file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some file systems can't sync a folder
            raise
    finally:
        os.close(handle)


def _real(path: Path) -> Path:
    """The path behind links, so that a link to a folder is kept and its target replaced."""
    return Path(path).absolute().resolve()


# --- content --------------------------------------------------------------------------------------------


def _write_content(
    folder: Path,
    tensors: Mapping[str, NDArray[Any]],
    tables: Mapping[str, pl.DataFrame],
    card: str,
    parts: Mapping[str, Path],
) -> None:
    """Write everything but config.json."""
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    (folder / CARD).write_text(card, encoding="utf-8")
    for name, source in parts.items():
        if name in _RESERVED or not _is_inside(name):
            raise ValueError(f"part name {name!r} is taken or not a plain relative name")
        copy = shutil.copytree if Path(source).is_dir() else shutil.copyfile
        copy(source, folder / name)


def _names(folder: Path) -> list[str]:
    """Relative names of the files under ``folder``, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _stamp(path: Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of one file."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its own digest, independent of layout."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def _json(value: Any) -> Any:  # noqa: ANN401 - JSON is any of these
    """The value as it will come back from JSON: tuples are lists, keys text, non-finite numbers null."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _library_version() -> str:
    with suppress(PackageNotFoundError):
        return version("forwhy")
    return "0"


# --- checks ---------------------------------------------------------------------------------------------


def _read_document(folder: Path) -> dict[str, Any]:
    """config.json, checked for being ours, whole and unaltered."""
    path = folder / CONFIG
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path, or make it with `forwhy run`")
    if not path.is_file():
        raise UserError(f"{path}: missing, so this is no forwhy artifact; give the folder that holds it")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{path}: truncated or not JSON ({_line(error)}); copy the folder again") from error
    _check_document(path, document)
    return dict(document)


def _check_document(path: Path, document: object) -> None:
    """Foreign, newer or altered config.json is refused before any field of it is used."""
    if not isinstance(document, dict) or not {"forwhy", "format", "kind"} <= document.keys():
        raise UserError(f"{path}: not written by forwhy (no library version, format or kind in it)")
    if not isinstance(document["format"], int) or document["format"] > FORMAT:
        raise UserError(
            f"{path}: format {document['format']} of forwhy {document['forwhy']}, this library reads up to "
            f"{FORMAT}; upgrade forwhy"
        )
    if document.get("digest") != _digest(document):
        raise UserError(f"{path}: altered after it was saved (its digest differs); restore the original")
    if not isinstance(document.get("config"), dict) or not isinstance(document.get("files"), dict):
        raise UserError(f"{path}: has no config or no list of files; save the artifact again")
    for name, stamp in document["files"].items():
        if not _is_inside(name):
            raise UserError(f"{path}: names the file {name!r} outside its folder; refused")
        if not isinstance(stamp, dict) or stamp.keys() != {"bytes", "sha256"}:
            raise UserError(f"{path}: has no size and SHA-256 of {name!r}; save the artifact again")


def _is_inside(name: str) -> bool:
    """Whether a file name from a config stays inside its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _check_kind(folder: Path, document: Mapping[str, Any], kind: str) -> None:
    if document["kind"] != kind:
        raise UserError(
            f"{folder / CONFIG}: holds an artifact of kind {document['kind']!r}, but {kind!r} was asked for; "
            f"give the folder of the {kind}"
        )


def _check_file(path: Path, stamp: Mapping[str, Any]) -> None:
    """Size first: it is cheap and tells truncation from alteration."""
    if not path.is_file():
        raise UserError(f"{path}: missing from the artifact; copy the whole folder again")
    size = path.stat().st_size
    if size != stamp["bytes"]:
        word = "truncated" if size < stamp["bytes"] else "altered"
        raise UserError(f"{path}: {word} ({size} bytes, {stamp['bytes']} when saved); copy it again")
    if file_sha256(path) != stamp["sha256"]:
        raise UserError(f"{path}: altered after it was saved (its SHA-256 differs); restore the original")


def _read_tensors(folder: Path) -> dict[str, NDArray[Any]]:
    try:
        return dict(load_file(folder / WEIGHTS))
    except SafetensorError as error:  # right hash, wrong content: a folder made by hand
        raise UserError(f"{folder / WEIGHTS}: not readable as safetensors ({_line(error)})") from error


def _read_tables(folder: Path, document: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """The parquet files at the top of the folder, by name."""
    names = [name for name in document["files"] if name.endswith(".parquet") and "/" not in name]
    return {name.removesuffix(".parquet"): pl.read_parquet(folder / name) for name in names}


def _line(error: Exception) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split())
