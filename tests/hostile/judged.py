"""One hostile input: what is laid out, the command that meets it, and what is wrong with how that ended."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from forwhy.cli import main

SECONDS, BYTES, LETTERS = 10, 2 << 30, 300
"""A command may take this long and this much memory, and its refusal is a line of at most so many letters."""
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Letters that move a cursor, turn a line round or break it."""


@dataclass(frozen=True)
class Place:
    """Where a case is laid out: an empty folder, and things of ours that may be copied into it."""

    here: Path
    ours: Mapping[str, Path]
    """`town` (a data set), `run` (a finished run), `index` (an artifact)."""

    @property
    def target(self) -> Path:
        """The only thing that the command may write."""
        return self.here / "target"

    def write(self, name: str, content: bytes | str) -> Path:
        """A file among the inputs."""
        path = self.here / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return path

    def copy(self, name: str, to: Path | None = None) -> Path:
        """A copy of something of ours, by default the target itself: the command works in it."""
        return Path(shutil.copytree(self.ours[name], to or self.target))


Words = list[object]


@dataclass(frozen=True)
class Case:
    """A hostile input before a door."""

    about: str
    lay: Callable[[Place], Words]
    """Lays it out; the words of the command."""
    refused: bool | None = None
    """Whether it has to be refused, or taken; None: both will do."""


@dataclass
class Verdict:
    """How a command ended."""

    status: int
    out: str
    err: str
    seconds: float
    wrong: list[str] = field(default_factory=list)


def judge(case: Case, place: Place) -> Verdict:
    """Lays a case out, calls its command in this process, and says all that is wrong with how it ended."""
    place.here.mkdir(parents=True)
    words = [str(word) for word in case.lay(place)]
    before, most = snapshot(place.here), _peak()
    found = called(words, place.here)
    after = snapshot(place.here)
    kept = {name for name in before.keys() | after.keys() if name.split("/")[0] != "target"}
    changed = [name for name in kept if before.get(name) != after.get(name)]
    if found.status == 2:
        changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    found.wrong = [*_wrong(found), *(f"changed {name!r}" for name in sorted(changed)[:3])]
    if case.refused is not None and found.status in (0, 2) and (found.status == 2) != case.refused:
        found.wrong.append("taken" if case.refused else "refused")
    if _peak() - most > BYTES:
        found.wrong.append(f"{(_peak() - most) >> 20} MiB")
    return found


def _wrong(found: Verdict) -> Iterator[str]:
    if found.status not in (0, 2):
        yield f"status {found.status}"
    if "Traceback" in found.err or "internal error" in found.err:
        yield "traceback"
    if found.seconds > SECONDS:
        yield f"{found.seconds:.0f} seconds"
    if letter := RAW.search(found.out + found.err):
        yield f"raw {letter[0]!r}"
    if found.status != 2:
        return
    said = [line for line in found.err.splitlines() if line.startswith("forwhy: ")]
    if len(said) != 1 or not found.err.endswith(f"{said[0]}\n"):
        yield f"{len(said)} lines of refusal"
    elif len(said[0]) > LETTERS:
        yield f"{len(said[0])} letters"
    elif ";" not in said[0]:
        yield "no remedy"


def called(words: list[str], at: Path) -> Verdict:
    """A command of this process, in the folder `at`, with streams as a terminal's in UTF-8 are."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", how) for how in ("strict", "backslashreplace"))
    logger, here, began = logging.getLogger("forwhy"), Path.cwd(), time.monotonic()
    kept, status = (logger.handlers, logger.propagate, logger.level), -3
    os.chdir(at)
    try:
        with _native(err), redirect_stdout(out), redirect_stderr(err), _at_most(SECONDS):
            main(words)
    except SystemExit as leaving:
        status = int(leaving.code or 0)
    except _Hangs:
        status = -1
    except BaseException as error:  # a panic of a library is no Exception
        err.write(f"Traceback: {type(error).__name__}: {str(error)[:100]}\n")
        status = -2
    finally:
        os.chdir(here)
        logger.handlers, logger.propagate, logger.level = kept
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
        stream.close()
    return Verdict(status, *texts, time.monotonic() - began)


class _Hangs(BaseException):
    pass


@contextmanager
def _native(err: io.TextIOWrapper) -> Iterator[None]:
    """What libraries write past Python, such as a panic of polars, stands before the rest."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            said = caught.read()
    if b"panicked" in said:
        err.write("Traceback: a panic of a library\n")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise _Hangs

    old, (soft, hard) = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(
        resource.RLIMIT_AS, (mapped + 2 * BYTES, hard)
    )  # so that a bomb ends here and not the machine
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def snapshot(folder: Path) -> dict[str, str]:
    """Every name below a folder with what it holds; links are not followed."""
    found = {}
    for root, folders, files in os.walk(os.fsencode(folder)):
        for name in [*folders, *files]:
            path = os.path.join(root, name)
            short = os.path.relpath(path, os.fsencode(folder)).decode("utf-8", "backslashreplace")
            found[short] = _held(path)
    return found


def _held(path: bytes) -> str:
    if os.path.islink(path):
        return f"-> {os.readlink(path)!r}"
    if os.path.isfile(path):
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    return "folder" if os.path.isdir(path) else "special"
