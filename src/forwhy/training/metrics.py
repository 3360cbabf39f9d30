"""metrics.jsonl: one JSON document per line, never one twice."""

import json
import math
import os
from pathlib import Path
from typing import Any, Self

from forwhy.artifact import full_disk


class MetricsLog:
    """An open metrics.jsonl, cut back on entry to ``size`` bytes: what the checkpoint knew of.

    A process that does not write (``writes`` false) keeps nothing.
    """

    def __init__(self, path: Path, size: int, writes: bool) -> None:
        self._path, self._size, self._writes = path, size, writes

    def __enter__(self) -> Self:
        with full_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = open(self._path if self._writes else os.devnull, "ab")
            if self._writes and self._stream.tell() > self._size:
                self._stream.truncate(self._size)
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, line: dict[str, Any]) -> None:
        """Append a line and hand it to the system; a full disk is a :class:`UserError`."""
        with full_disk(self._path):
            self._stream.write(json.dumps(_finite(line), allow_nan=False).encode() + b"\n")
            self._stream.flush()

    def sync(self) -> int:
        """Flush to the disk; the size in bytes."""
        with full_disk(self._path):
            os.fsync(self._stream.fileno())
        return self._stream.tell()


def _finite(value: Any) -> Any:  # noqa: ANN401 - JSON is any of these
    """The value with null for numbers that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
