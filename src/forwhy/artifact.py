"""A folder that loads alone: config.json + model.safetensors + NAME.parquet + a card, each file hashed.

``config.json`` is written last and holds the library version, the format, the kind, the caller's config and
the size and SHA-256 of every other file, itself covered by a digest. So a folder is whole or refused, and
the refusal names the file. Nothing is pickled; this module imports no torch.
"""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from forwhy.atomic import atomic_folder, file_sha256, plain_json, recover, refuse_foreign
from forwhy.errors import UserError

FORMAT = 2
"""Version of the folder layout; raised when an older library could no longer read the folder."""

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
_RESERVED = {CONFIG, WEIGHTS, CARD}


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

    def group(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The tensors whose names begin with ``prefix``, without it."""
        return {name.removeprefix(prefix): it for name, it in self.tensors.items() if name.startswith(prefix)}


class SavesItself(Protocol):
    """Something that writes a folder of its own: another `Saved`, or a tokenizer of Hugging Face."""

    def save_pretrained(self, folder: str, /) -> object:
        """Write the folder."""


@dataclass(frozen=True)
class Content:
    """What goes into an artifact; see :func:`save`."""

    config: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    card: str = ""
    parts: Mapping[str, Path | SavesItself] = field(default_factory=dict)


class Saved(ABC):
    """Something that is kept as an artifact: it says its content and is made again from it."""

    kind: ClassVar[str]
    """What the folder is called in messages and checks, such as `vocabulary`."""

    @abstractmethod
    def content(self) -> Content:
        """Everything that :meth:`restore` needs."""

    @classmethod
    @abstractmethod
    def restore(cls, stored: Artifact, **where: Any) -> Self:  # noqa: ANN401 (such as device)
        """Make it again from a folder that is whole."""

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone, in one atomic step; what was there stays whole until then.

        Raises:
            UserError: Full disk, or a folder of something else.
        """
        content = self.content()
        save(
            Path(folder),
            self.kind,
            content.config,
            content.tensors,
            content.tables,
            content.card,
            content.parts,
        )

    @classmethod
    def from_pretrained(cls, folder: Path | str, **where: Any) -> Self:  # noqa: ANN401 (such as device)
        """Read a folder that :meth:`save_pretrained` wrote; `where` as :meth:`restore` takes it.

        Raises:
            UserError: A file is missing, truncated, altered or of another kind or version, with the remedy.
        """
        return cls.restore(load(Path(folder), cls.kind), **where)


def save(
    folder: Path,
    kind: str,
    config: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    tables: Mapping[str, pl.DataFrame],
    card: str,
    parts: Mapping[str, Path | SavesItself] | None = None,
) -> None:
    """Write an artifact in one atomic step; an artifact already there stays whole until the swap.

    ``config`` must be JSON (numbers that are not finite become null); ``parts`` are files or folders copied
    in under the given names, or things that save themselves there. Costs one write and one read of every file.
    Raises :class:`UserError` when the disk is full or ``folder`` holds something that is not an artifact.
    """
    refuse_foreign(Path(folder), CONFIG)
    with atomic_folder(folder) as temporary:
        _write_content(temporary, tensors, tables, card, parts or {})
        document = {
            "forwhy": _library_version(),
            "format": FORMAT,
            "kind": kind,
            "config": plain_json(config),
        }
        document["files"] = stamps(temporary)
        write_document(temporary, document)


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
        check_file(folder / name, stamp)
    return Artifact(kind, document["config"], _read_tensors(folder), _read_tables(folder, document), folder)


def card(
    title: str, text: str, measured: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (), *tags: str
) -> str:
    """The card of an artifact, a README.md as model hubs show it.

    Args:
        title: What it is.
        text: Paragraphs about it: what it does, how it is loaded, its limits.
        measured: Name -> number, also grouped (stage -> name -> number); or rows of a table, column -> cell.
        *tags: What hubs find it by, besides `recommendation`.
    """
    if isinstance(measured, Mapping):
        measured = [{"measured in training": name, "": value} for name, value in _flat(measured)]
    table = (
        [list(measured[0]), ["---"] * len(measured[0]), *(row.values() for row in measured)]
        if measured
        else []
    )
    rows = "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in table)
    front = f"---\nlibrary_name: forwhy\ntags: [{', '.join(('recommendation', *tags))}]\n---\n"
    return f"{front}# {title}\n\n{text}\n\n{rows}"


def _flat(measured: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in measured.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", number) for inner, number in _flat(value))
        else:
            yield name, value


# --- content --------------------------------------------------------------------------------------------


def _write_content(
    folder: Path,
    tensors: Mapping[str, NDArray[Any]],
    tables: Mapping[str, pl.DataFrame],
    card: str,
    parts: Mapping[str, Path | SavesItself],
) -> None:
    """Write everything but config.json."""
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / WEIGHTS)
    for name, table in tables.items():
        table.write_parquet(folder / f"{name}.parquet")
    (folder / CARD).write_text(card, encoding="utf-8")
    for name, source in parts.items():
        if name in _RESERVED or not _is_inside(name):
            raise ValueError(f"part name {name!r} is taken or not a plain relative name")
        if not isinstance(source, Path):
            source.save_pretrained(str(folder / name))
        elif source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copyfile(source, folder / name)


def stamps(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and SHA-256 of every file under ``folder`` but its config.json, by relative name."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in names
        if name != CONFIG
    }


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of the document without its own digest, independent of layout."""
    rest = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write_document(folder: Path, document: dict[str, Any], name: str = CONFIG) -> None:
    """Write config.json, or a file of another name, with the digest of all that is in it."""
    text = json.dumps(
        document | {"digest": digest_of(document)}, indent=2, ensure_ascii=False, allow_nan=False
    )
    (folder / name).write_text(f"{text}\n", encoding="utf-8")


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
    _check_format(path, document)
    if document.get("digest") != digest_of(document):
        raise UserError(f"{path}: altered after it was saved (its digest differs); restore the original")
    if not isinstance(document.get("config"), dict) or not isinstance(document.get("files"), dict):
        raise UserError(f"{path}: has no config or no list of files; save the artifact again")
    for name, stamp in document["files"].items():
        if not _is_inside(name):
            raise UserError(f"{path}: names the file {name!r} outside its folder; refused")
        if not isinstance(stamp, dict) or stamp.keys() != {"bytes", "sha256"}:
            raise UserError(f"{path}: has no size and SHA-256 of {name!r}; save the artifact again")


def _check_format(path: Path, document: Mapping[str, Any]) -> None:
    if not isinstance(document["format"], int) or document["format"] > FORMAT:
        raise UserError(
            f"{path}: format {document['format']} of forwhy {document['forwhy']}, this library reads up to "
            f"{FORMAT}; upgrade forwhy"
        )
    if document["format"] < FORMAT:
        raise UserError(
            f"{path}: format {document['format']} of forwhy {document['forwhy']}, this library reads format {FORMAT}; "
            "make it again with `forwhy run RUN/recipe.toml --out NEW`, or with the command that made it"
        )


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


def check_file(path: Path, stamp: Mapping[str, Any]) -> None:
    """Size first: it is cheap and tells truncation from alteration."""
    if not path.is_file():
        raise UserError(f"{path}: missing; copy the whole folder again")
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
