"""A folder that loads alone: config.json + model.safetensors + NAME.parquet + a card, each file hashed. No torch.

``config.json`` is written last and holds the library version, the format, the kind, the caller's config and the size
and SHA-256 of every other file, itself covered by a digest. So a folder is whole or refused. Nothing is pickled.
"""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from forwhy.atomic import (
    Signed,
    atomic_folder,
    is_inside,
    read_signed,
    refuse_foreign,
    stamps,
    write_signed,
)
from forwhy.documents import plain_json, read_json, require_file
from forwhy.errors import UserError
from forwhy.frames import Shown, read_parquet
from forwhy.hub import local

FORMAT = 2
"""Version of the folder layout; raised when an older library could no longer read the folder."""

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


UNFIT = (
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
    RuntimeError,
    OverflowError,
    pl.exceptions.PolarsError,
)
"""What code raises that is given tensors, tables and settings which do not fit together."""


class _Document(Signed):
    """What `config.json` says beside the files."""

    kind: str
    config: dict[str, Any]


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
    """What goes into an artifact."""

    config: Mapping[str, Any] = field(default_factory=dict)
    """JSON; numbers that are not finite become null."""
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    card: str = ""
    parts: Mapping[str, Path | SavesItself] = field(default_factory=dict)
    """Name -> a file or folder that is copied, or a thing that saves itself there."""


class Saved(Shown, ABC):
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
        """Write a folder that loads alone; cost and errors are those of `save`."""
        save(Path(folder), self.kind, self.content())

    @classmethod
    def from_pretrained(cls, folder: Path | str, revision: str | None = None, **where: Any) -> Self:  # noqa: ANN401 (such as device)
        """Read a folder that :meth:`save_pretrained` wrote, or a run's folder, in which a stage made such a thing.

        `folder` may be the name of a pushed one, `org/name`, and `revision` its commit. `where` goes to
        :meth:`restore`; errors as `load` and `hub.local`.
        """
        stored = load(_stage(local(folder, revision), cls.kind), cls.kind)
        try:
            return cls.restore(stored, **where)
        except KeyError as error:
            raise UserError(
                f"{folder}: another version of forwhy wrote it, without {error}; make it again"
            ) from error
        except UNFIT as error:  # its digests are right, so it was made by hand, or by another version
            said = " ".join(str(error).split())[:100]
            raise UserError(
                f"{folder}: holds no {cls.kind} that fits together ({type(error).__name__}: {said}); make it again"
            ) from error


def _stage(folder: Path, kind: str) -> Path:
    """The folder itself; of a run's folder the one inside that holds such an artifact."""
    if not (folder / "recipe.toml").is_file():
        return folder
    for path in sorted(folder.glob(f"*/{CONFIG}")):
        with suppress(UserError, AttributeError):  # a damaged one is no such artifact
            if read_json(path).get("kind") == kind:
                return path.parent
    raise UserError(
        f"{folder}: a run without a finished {kind}; go on with: forwhy run {folder / 'recipe.toml'} --out {folder}"
    )


def save(folder: Path, kind: str, content: Content) -> None:
    """Write an artifact in one atomic step; costs one write and one read of every file.

    Raises:
        UserError: The disk is full, or ``folder`` holds something that is not an artifact.
    """
    refuse_foreign(folder, CONFIG)
    with atomic_folder(folder) as temporary:
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in content.tensors.items()}
        save_file(tensors, temporary / WEIGHTS)
        for name, table in content.tables.items():
            table.write_parquet(temporary / f"{name}.parquet")
        (temporary / CARD).write_text(content.card, encoding="utf-8")
        for name, source in content.parts.items():
            _write_part(temporary, name, source)
        document = {"forwhy": library_version(), "format": FORMAT, "kind": kind}
        document |= {"config": plain_json(content.config), "files": stamps(temporary, CONFIG)}
        write_signed(temporary, CONFIG, document)


def _write_part(folder: Path, name: str, source: Path | SavesItself) -> None:
    if name in {CONFIG, WEIGHTS, CARD} or not is_inside(name):
        raise ValueError(f"part name {name!r} is taken or not a plain relative name")
    if not isinstance(source, Path):
        source.save_pretrained(str(folder / name))
    elif source.is_dir():
        shutil.copytree(source, folder / name)
    else:
        shutil.copyfile(source, folder / name)


def library_version() -> str:
    """Of this forwhy; "0" where it is not installed."""
    with suppress(PackageNotFoundError):
        return version("forwhy")
    return "0"


def load(folder: Path, kind: str) -> Artifact:
    """Read an artifact of ``kind`` after checking all of its files; costs two reads of the weights.

    Raises:
        UserError: The file and the reason: missing, truncated, altered, of another kind or version.
    """
    document = read_signed(folder, CONFIG, "an artifact", FORMAT, "forwhy run", _Document)
    path, found = folder / CONFIG, document.get("kind")
    if document["format"] < FORMAT:
        recipe, command = folder.parent / "recipe.toml", "the command that made it"
        if recipe.is_file():
            command = f"`forwhy run {recipe} --out {folder.parent}`"
        raise UserError(
            f"{path}: format {document['format']} of forwhy {document['forwhy']}, this library reads format {FORMAT}; "
            f"make it again with {command}"
        )
    if found != kind:
        raise UserError(
            f"{path}: holds an artifact of kind {found!r}, but {kind!r} was asked for; give its folder"
        )
    weights = folder / WEIGHTS
    require_file(weights)
    try:
        tensors = dict(load_file(weights))
    except SafetensorError as error:  # right hash, wrong content: a folder made by hand
        raise UserError(f"{weights}: not readable as safetensors ({error}); save it again") from error
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise UserError(f"{weights}: {name!r} holds numbers that are not finite; make it again")
    names = [name for name in document["files"] if name.endswith(".parquet") and "/" not in name]
    tables = {name.removesuffix(".parquet"): read_parquet(folder / name, "save it again") for name in names}
    return Artifact(kind, document["config"], tensors, tables, folder)


def whole_numbers(
    found: NDArray[Any], shape: tuple[int, ...], beyond: Sequence[int] | NDArray[Any]
) -> NDArray[Any]:
    """An array itself, where it holds whole numbers from 0 to `beyond` (excluded; of each column).

    `shape` is what it has to be, -1 any length.

    Raises:
        ValueError: It is not.
    """
    of_shape = found.ndim == len(shape)
    of_shape &= all(wanted in (-1, own) for wanted, own in zip(shape, found.shape, strict=False))
    if not of_shape or found.dtype.kind not in "iu" or ((found < 0) | (found >= np.asarray(beyond))).any():
        raise ValueError(
            f"numbers of shape {found.shape} and type {found.dtype} are no numbers of what is here"
        )
    return found


def card(
    title: str,
    text: str,
    measured: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    *tags: str,
    library: str = "forwhy",
    **front: object,
) -> str:
    """The card of an artifact, a README.md as model hubs show it, with what they find it by and read in front.

    `measured`: name -> number, also grouped (stage -> name -> number); or rows of a table, column -> cell. `library`:
    what loads it.
    """
    if isinstance(measured, Mapping):
        measured = [{"measured in training": name, "": value} for name, value in _flat(measured)]
    head = [list(measured[0]), ["---"] * len(measured[0])] if measured else []
    cells = [*head, *(row.values() for row in measured)]
    rows = "".join(f"| {' | '.join(map(str, row))} |\n" for row in cells)
    more = "".join(f"{key}: {json.dumps(value)}\n" for key, value in front.items())  # JSON is YAML
    top = f"---\nlibrary_name: {library}\ntags: [{', '.join(('recommendation', *tags))}]\n{more}---\n"
    return f"{top}# {title}\n\n{text}\n\n{rows}"


def _flat(measured: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in measured.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", number) for inner, number in _flat(value))
        else:
            yield name, value
