"""Writing files and folders whole or not at all, the errors of a full disk, and folders that show any damage."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, Field, NonNegativeInt

from forwhy.documents import read_json, refuse_deep, require_file
from forwhy.errors import UserError
from forwhy.options import checked

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary file to write, of the same name; on success it is synced and renamed to ``path``, else removed.

    A full disk becomes a :class:`UserError`. Of several writers at once each has its own, and the last one's stays.
    """
    path = _real(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder, not a file; choose another place to write to")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is a pipe or a device, not a file; choose another place to write to")
    with _beside(path) as folder:
        yield folder / path.name
        _sync(folder / path.name)
        (folder / path.name).replace(path)
        _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary folder to fill; on success it takes the place of ``folder``, else it goes.

    Should the process die in the moment of the swap, :func:`recover` brings the old folder back before it is next read
    or written. Of several writers at once each fills its own, and the last one's stays.
    """
    folder = _real(folder)
    recover(folder)
    with _beside(folder) as temporary:
        filled = temporary / folder.name
        filled.mkdir()
        yield filled
        for path in sorted(filled.rglob("*")):
            _sync(path)
        _sync(filled)
        _swap(filled, folder)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary folder beside a path, locked while its writer lives; folders made on the way go if that fails.

    What killed writers of the same path left, which nobody locks any more, is removed first.
    """
    made = [it for it in path.parents if not it.exists()]
    with full_disk(path), _undone(made):
        path.parent.mkdir(parents=True, exist_ok=True)
        begin = f".{path.name[:40]}."
        sweep(path.parent, begin)
        with _new(path.parent, begin) as temporary:
            yield temporary


def sweep(folder: Path, begin: str = ".") -> None:
    """Remove what killed writers left in a folder of ours, or of files that begin so."""
    for stale in folder.glob(f"{begin.translate(_LITERAL)}*.partial"):
        with locked(stale, wait=False) as ours:
            if ours:
                shutil.rmtree(stale, ignore_errors=True)


@contextmanager
def _new(place: Path, begin: str) -> Iterator[Path]:
    """A new folder in a place, locked, and removed at the end."""
    while True:
        temporary = Path(tempfile.mkdtemp(".partial", begin, place))
        with locked(temporary):
            if not temporary.exists():  # taken for a killed writer's before it was locked
                continue
            try:
                return (yield temporary)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


_LITERAL = str.maketrans({letter: f"[{letter}]" for letter in "[*?"})


@contextmanager
def _undone(made: list[Path]) -> Iterator[None]:
    """Removes these folders, the innermost first, where what they were made for fails."""
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[bool | None]:
    """Holds a folder against other processes, without a file for it; whether it is held, or another one holds it.

    None, and nothing waits, where a file system or a machine has no such locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield None
        return
    handle, held = -1, None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        held = True
    except BlockingIOError:
        held = False
    except OSError:
        pass
    try:
        yield held
    finally:
        if handle >= 0:
            os.close(handle)


def recover(folder: Path) -> None:
    """Finish a swap that a kill cut in two: bring the old folder back, or drop it if the new one is there."""
    folder = _real(folder)
    if folder.name and os.path.isdir(_aside(folder)):
        with locked(folder.parent):  # another process may be in the middle of it
            _recover(folder)


def _recover(folder: Path) -> None:
    aside = _aside(folder)
    if aside.is_dir() and folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
    elif aside.is_dir():
        aside.rename(folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def refuse_foreign(folder: Path, marker: str) -> None:
    """Raise :class:`UserError` unless ``folder`` is absent, empty or holds the file ``marker`` of ours."""
    recover(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, not a folder; choose another place to write to")
    if folder.is_dir() and any(folder.iterdir()):
        document = None
        with suppress(UserError):  # an unreadable marker is not ours
            document = read_json(folder / marker)
        if not isinstance(document, dict) or "forwhy" not in document:
            wrong = "holds files that forwhy did not write"
            raise UserError(f"{folder}: {wrong}; choose another or an empty folder")


def refuse_other(path: Path, ours: Callable[[bytes], bool]) -> None:
    """Raise :class:`UserError` for a file that is there, unless its first 64 KiB look like a file of `ours`."""
    if not os.path.lexists(path):
        return
    require_file(path, may_be_empty=True)
    with path.open("rb") as stream:
        begin = stream.read(1 << 16)
    if begin and not ours(begin):
        raise UserError(f"{path}: is there and not written by forwhy; choose another place to write to")


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
    with locked(folder.parent):
        _recover(folder)
        if folder.exists():
            folder.rename(_aside(folder))
        try:
            temporary.rename(folder)
        except OSError:
            _recover(folder)
            raise
        _sync(folder.parent)
        shutil.rmtree(_aside(folder), ignore_errors=True)


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
    try:
        return Path(path).absolute().resolve()
    except (RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise UserError(f"{path}: no path that can be followed ({error}); give another") from error


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


class Stamp(BaseModel, strict=True):
    """What a signed document says of a file."""

    bytes: NonNegativeInt
    sha256: str


class Signed(BaseModel, extra="allow", strict=True):
    """What every signed document says; a kind of folder has more."""

    forwhy: str
    format: Annotated[int, Field(ge=0, lt=2**31)]
    files: dict[str, Stamp]


def read_signed(
    folder: Path, marker: str, what: str, newest: int, made_by: str, kind: type[Signed] = Signed
) -> dict[str, Any]:
    """The document of a folder, which `marker` names, after checking every file that it lists.

    `newest` is the highest `format` that can be read; messages say `what` it should be and the command that it is
    `made_by`. `kind`: what the document has to say; a digest proves that nothing was altered, not that it makes sense.

    Raises:
        UserError: The file and the reason: missing, foreign, truncated, altered, written by a newer library.
    """
    recover(folder)
    path, remedy = folder / marker, f"restore the file, or make {what} anew with `{made_by}`"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; check the path, or make {what} with `{made_by}`")
    if not path.exists():
        raise UserError(f"{path}: missing, so this is not {what}; make one with `{made_by}`")
    document = read_json(path, remedy)
    if not isinstance(document, dict) or not {"forwhy", "format", "files"} <= document.keys():
        raise UserError(f"{path}: not written by forwhy; make {what} with `{made_by}`")
    refuse_deep(document, path)
    signed = checked(Signed, document, str(path), remedy=remedy)
    if signed.format > newest:
        raise UserError(f"{path}: format {signed.format} is newer than {newest}; upgrade forwhy")
    if document.get("digest") != _digest(document):
        raise UserError(f"{path}: altered after it was saved (its digest differs); {remedy}")
    checked(kind, document, str(path), remedy=remedy)
    _check_files(path, signed.files, remedy)
    return document


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its own digest, independent of layout."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _check_files(marker: Path, files: Mapping[str, Stamp], remedy: str) -> None:
    for name, stamp in files.items():
        if not is_inside(name):
            raise UserError(f"{marker}: names the file {name!r} outside its folder; refused")
        path = marker.parent / name
        if not os.path.lexists(path):
            raise UserError(f"{path}: missing; {remedy}")
        require_file(path, may_be_empty=True)
        size, saved = path.stat().st_size, stamp.bytes
        if size != saved:  # cheap, and tells truncation from alteration
            word = "truncated" if size < saved else "altered"
            raise UserError(f"{path}: {word} ({size:,} bytes, {saved:,} when saved); {remedy}")
        if file_sha256(path) != stamp.sha256:
            raise UserError(f"{path}: altered after it was saved (its SHA-256 differs); {remedy}")


def is_inside(name: str) -> bool:
    """Whether a relative file name stays inside its folder."""
    path = PurePosixPath(name)
    return (
        bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & {*name}
    )
