"""Text vectors on disk, found again by content: SHA-256 of the text under one folder per encoder revision.

A folder holds segments, each a safetensors file with `digests` [n, 32] uint8 and `vectors` [n, D] float32.
Segments are only added, each under its final name when complete, so processes may share a folder.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

log = logging.getLogger(__name__)


def digest(text: str) -> bytes:
    """Return the content key of one text. Lone surrogates, which no encoding holds, are kept apart too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class VectorCache:
    """Vectors of texts seen before. Memory: 40 bytes per stored text; vectors are read when asked for."""

    def __init__(self, folder: Path, dim: int) -> None:
        self._folder, self._dim = folder, dim
        self._place: dict[bytes, tuple[Path, int]] = {}
        self._known: set[Path] = set()

    def find(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of those texts that are stored."""
        self._refresh()
        wanted: dict[Path, list[tuple[int, str]]] = {}
        for text in texts:
            place = self._place.get(digest(text))
            if place is not None:
                wanted.setdefault(place[0], []).append((place[1], text))
        return {text: vector for path, rows in wanted.items() for text, vector in self._read(path, rows)}

    def add(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store vectors [n, D]. A full disk costs only the cache: it is logged and the work goes on."""
        digests = np.frombuffer(b"".join(digest(text) for text in texts), dtype=np.uint8).reshape(-1, 32)
        data = save({"digests": digests, "vectors": np.ascontiguousarray(vectors, dtype=np.float32)})
        path = self._folder / f"{hashlib.sha256(digests.tobytes()).hexdigest()[:32]}.safetensors"
        try:
            _write(path, data)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}:
                raise
            log.warning("%s: text vectors are not kept (%s)", self._folder, error.strerror)

    def _refresh(self) -> None:
        for path in sorted(set(self._folder.glob("*.safetensors")) - self._known):
            self._known.add(path)
            for row, key in enumerate(self._digests(path)):
                self._place.setdefault(key.tobytes(), (path, row))

    def _digests(self, path: Path) -> NDArray[np.uint8]:
        try:
            with safe_open(path, framework="numpy") as segment:
                found: NDArray[np.uint8] = segment.get_tensor("digests")
                fits = segment.get_slice("vectors").get_shape() == [len(found), self._dim]
        except (SafetensorError, OSError) as error:
            log.warning("%s: unreadable text vectors, ignored (%s)", path, error)
            return np.empty((0, 32), dtype=np.uint8)
        return found if fits and found.shape[1:] == (32,) else found[:0]

    def _read(self, path: Path, rows: list[tuple[int, str]]) -> list[tuple[str, NDArray[np.float32]]]:
        with safe_open(path, framework="numpy") as segment:
            vectors = segment.get_tensor("vectors")
        return [(text, vectors[row]) for row, text in rows]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
