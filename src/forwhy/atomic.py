"""Writing files and folders whole or not at all, the errors of a full disk, and folders that show any damage."""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from forwhy.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write; on success it is synced and renamed to ``path``, else removed.

    A full disk becomes a :class:`UserError`. One writer per file: what an earlier, killed writer left is overwritten.
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


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling to fill; on success it takes the place of ``folder``, else it goes.

    Should the process die in the moment of the swap, :func:`recover` brings the old folder back before it is next read
    or written. One writer per folder: what an earlier, killed writer left is removed first.
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
    if aside.is_dir() and folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.is_dir():
        aside.rename(folder)


def refuse_foreign(folder: Path, marker: str) -> None:
    """Raise :class:`UserError` unless ``folder`` is absent, empty or holds the file ``marker`` of ours."""
    recover(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, not a folder; choose another place to write to")
    if folder.is_dir() and any(folder.iterdir()):
        document = None
        with suppress(OSError, ValueError):  # an unreadable marker is not ours
            document = json.loads((folder / marker).read_text(encoding="utf-8"))
        if not isinstance(document, dict) or "forwhy" not in document:
            wrong = "holds files that forwhy did not write"
            raise UserError(f"{folder}: {wrong}; choose another or an empty folder")


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Turn "no space left" into the caller's error: one line that names the path."""
    try:
        yield
    except Exception as error:
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


def plain_json(value: Any) -> Any:  # noqa: ANN401 - JSON is any of these
    """The value as it will come back from JSON: tuples and arrays are lists, keys text, non-finite numbers null."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- signed folders: a JSON document lists size and SHA-256 of every other file, itself covered by a digest


def stamps(folder: Path, marker: str) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file under ``folder`` but the marker, by relative name."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    found = [(name, path) for name, path in sorted(files.items()) if name != marker]
    return {name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for name, path in found}


def write_signed(folder: Path, marker: str, document: Mapping[str, Any]) -> None:
    """Write the document, whose `files` are :func:`stamps`, with the digest of all that is in it."""
    signed = {**document, "digest": _digest(document)}
    text = json.dumps(signed, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / marker).write_text(f"{text}\n", encoding="utf-8")


def read_signed(folder: Path, marker: str, what: str, newest: int, made_by: str) -> dict[str, Any]:
    """The document of a folder, which `marker` names, after checking every file that it lists.

    `newest` is the highest `format` that can be read; messages say `what` it should be and the command that it is
    `made_by`.

    Raises:
        UserError: The file and the reason: missing, foreign, truncated, altered, written by a newer library.
    """
    recover(folder)
    path, remedy = folder / marker, f"restore the file, or make {what} anew with `{made_by}`"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path, or make {what} with `{made_by}`")
    if not path.is_file():
        raise UserError(f"{path}: missing, so this is not {what}; make one with `{made_by}`")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: truncated or not JSON ({error}); {remedy}") from error
    if not isinstance(document, dict) or not {"forwhy", "format", "files"} <= document.keys():
        raise UserError(f"{path}: not written by forwhy; make {what} with `{made_by}`")
    if not isinstance(document["format"], int) or document["format"] > newest:
        raise UserError(f"{path}: format {document['format']} is newer than {newest}; upgrade forwhy")
    if document.get("digest") != _digest(document):
        raise UserError(f"{path}: altered after it was saved (its digest differs); {remedy}")
    _check_files(path, document["files"], remedy)
    return document


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its own digest, independent of layout."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_files(marker: Path, files: object, remedy: str) -> None:
    if not isinstance(files, dict):
        raise UserError(f"{marker}: has no list of files; {remedy}")
    for name, stamp in files.items():
        if not is_inside(name):
            raise UserError(f"{marker}: names the file {name!r} outside its folder; refused")
        if not isinstance(stamp, dict) or stamp.keys() != {"bytes", "sha256"}:
            raise UserError(f"{marker}: has no size and SHA-256 of {name!r}; {remedy}")
        path = marker.parent / name
        if not path.is_file():
            raise UserError(f"{path}: missing; {remedy}")
        size, saved = path.stat().st_size, stamp["bytes"]
        if size != saved:  # cheap, and tells truncation from alteration
            word = "truncated" if size < saved else "altered"
            raise UserError(f"{path}: {word} ({size:,} bytes, {saved:,} when saved); {remedy}")
        if file_sha256(path) != stamp["sha256"]:
            raise UserError(f"{path}: altered after it was saved (its SHA-256 differs); {remedy}")


def is_inside(name: str) -> bool:
    """Whether a relative file name stays inside its folder."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
