"""Long work in shards, here or on a cluster: each shard leaves one file, written whole; the folder is the truth.

Which shard a row belongs to is said by a hash of it, and what a shard holds by that alone. So whatever dies (a worker,
a node, the whole command) costs at most the shards that were under way: called again, it does what has no file yet.
The engine only schedules. Workers send their rows to the caller, who writes; nodes need no common disk for them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.atomic import atomic_file, locked, refuse_foreign, write_text
from forwhy.documents import read_json
from forwhy.errors import UserError, need
from forwhy.frames import read_parquet
from forwhy.progress import track

EngineName = Literal["local", "ray"]
Work = Callable[[Any], pl.DataFrame]
"""What is done with what was asked in a shard: its rows."""
Make = Callable[[], Work]
"""Loads what the work needs, once for each worker; small, as it is sent to other machines."""

MARKER = "shards.json"
CLUSTER = "FORWHY_RAY"
"""Environment: address of a Ray cluster that shares work nobody names one for; `local` makes one here."""
REACH = 10.0
"""Seconds within which a cluster's address has to answer."""
REST = 60.0
"""Seconds without news after which it is asked whether anybody is left."""
TRIES = 5
"""How often a shard is begun again that a worker died over."""
REMEDIES = {
    "Version mismatch": "install the same Python and forwhy[cluster] on every machine",
    "Failed to connect": "it may have another token: give each machine the same (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)",
    "": "start one (ray start --head), or leave --address out for this machine alone",
}
"""What to do when a cluster cannot be joined, by a part of what Ray says; the last is of all else."""
log = logging.getLogger(__name__)


def shard_of(rows: Sequence[Sequence[object]], shards: int) -> NDArray[np.int64]:
    """[n] the shard of each row, by a hash of its values and their kinds; the same on every machine."""
    digests = (hashlib.blake2b(repr(tuple(row)).encode(), digest_size=8).digest() for row in rows)
    return np.array([int.from_bytes(digest, "big") % shards for digest in digests], np.int64)


@dataclass(frozen=True)
class Shards:
    """A folder of as many files as shards, all of one question."""

    folder: Path
    count: int
    identity: str
    """Hash of what all shards depend on: files of another question are not mixed with these."""

    def path(self, number: int) -> Path:
        """Where a shard's rows lie."""
        return self.folder / f"part-{number:05}-of-{self.count:05}.parquet"

    @contextmanager
    def held(self) -> Iterator[list[int]]:
        """The folder, held against other writers, and the shards that it lacks.

        Raises:
            UserError: It holds something else, or another command is writing into it.
        """
        refuse_foreign(self.folder, MARKER)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, wait=False) as ours:
            if ours is False:
                raise UserError(
                    f"{self.folder}: another command writes into it; wait for it, or give another folder"
                )
            marker, known = (
                self.folder / MARKER,
                {"forwhy": 1, "shards": self.count, "identity": self.identity},
            )
            if marker.exists() and read_json(marker) != known:
                raise UserError(
                    f"{self.folder}: holds rows of another run or other pairs; give a new or empty folder"
                )
            write_text(marker, f"{json.dumps(known)}\n")
            yield [number for number in range(self.count) if not self._whole(number)]

    def keep(self, number: int, rows: pl.DataFrame) -> None:
        """Write a shard, whole or not at all."""
        with atomic_file(self.path(number)) as temporary:
            rows.write_parquet(temporary)

    def _whole(self, number: int) -> bool:
        """Whether a shard's file is there; one that cannot be read is made again, and said so."""
        path = self.path(number)
        if not path.exists():
            return False
        try:
            read_parquet(path, "delete it")
        except UserError as error:
            log.warning("%s; it is made again", error)
            return False
        return True


def do(
    shards: Shards,
    asked: Sequence[Any],
    make: Make,
    engine: EngineName = "local",
    address: str | None = None,
    workers: int = 0,
) -> int:
    """Make what is missing; how many shards that was. `address` and `workers` are of Ray: which cluster, how many.

    `asked`: of each shard, what the work is given.

    Raises:
        UserError: As of :meth:`Shards.held`, of the work itself, or of a cluster that is not there.
    """
    with shards.held() as missing:
        if missing:
            wanted = [(number, asked[number]) for number in missing]
            done = _here(make, wanted) if engine == "local" else _on_ray(make, wanted, address, workers)
            for number, rows in track(done, "shards", total=len(missing)):
                shards.keep(number, rows)
        return len(missing)


def spread(make: Make, asked: Sequence[Any], address: str | None) -> Iterator[tuple[int, pl.DataFrame]]:
    """Each part's number and rows as they are done, over a cluster (None: one on this machine); nothing is kept.

    Raises:
        UserError: As of :func:`do`.
    """
    return _on_ray(make, list(enumerate(asked)), address, 0)


def _here(make: Make, wanted: Sequence[tuple[int, Any]]) -> Iterator[tuple[int, pl.DataFrame]]:
    work = make()
    return ((number, work(asked)) for number, asked in wanted)


# --- Ray: actors that load once; a dead one begins again elsewhere


class _Worker:
    """What runs on a node."""

    def __init__(self, make: Make) -> None:
        os.environ.pop(CLUSTER, None)  # a part of spread work is not spread again
        self._make = make
        self._work: Work | None = None  # made by the first shard, whose error then has a name

    def do(self, number: int, asked: Any) -> tuple[int, pl.DataFrame | str]:  # noqa: ANN401 - of any work
        """A shard's rows, or what is wrong with all of them."""
        try:
            work = self._work = self._work or self._make()
            return number, work(asked)
        except UserError as error:
            from ray.util import get_node_ip_address

            return number, f"machine {get_node_ip_address()}: {error}"  # type: ignore[no-untyped-call]


def _on_ray(
    make: Make, wanted: Sequence[tuple[int, Any]], address: str | None, workers: int
) -> Iterator[tuple[int, pl.DataFrame]]:
    ray = _joined(address)
    try:
        most = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield from _Crew(ray, make, wanted, most).rows()
    finally:
        ray.shutdown()


class _Crew:
    """Workers, and what each of them is at.

    A worker gets a shard once it runs: none waits for a core that may never be free again. Ray's own retries are off:
    they are spent in seconds while a node is gone and not yet known to be.
    """

    def __init__(self, ray: Any, make: Make, wanted: Sequence[tuple[int, Any]], most: int) -> None:  # noqa: ANN401
        self._ray, self._make, self._waiting, self._left = ray, make, deque(wanted), len(wanted)
        self._actor, self._most = ray.remote(num_cpus=1)(_Worker), min(most, len(wanted))
        self._lost: Counter[int | None] = Counter()
        self._at: dict[Any, tuple[Any, tuple[int, Any] | None]] = {}
        for _ in range(self._most):
            self._begin()

    def rows(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """Each shard's, as they are done."""
        while self._left:
            ready, _ = self._ray.wait([*self._at], num_returns=1, timeout=REST)
            if not ready and not self._ray.cluster_resources().get("CPU"):
                remedy = "start one (ray start --address=…); what is done is kept: give the command again"
                raise UserError(f"cluster: no machine with a core is left; {remedy}")
            for call in ready:
                if (done := self._sent(call)) is not None:
                    self._left -= 1
                    yield done

    def _begin(self) -> None:
        worker = self._actor.remote(self._make)
        self._at[worker.__ray_ready__.remote()] = worker, None

    def _sent(self, ready: Any) -> tuple[int, pl.DataFrame] | None:  # noqa: ANN401 - of Ray
        """A shard's rows, if that is what a worker was at; it gets the next one, or ends and leaves its core."""
        worker, shard = self._at.pop(ready)
        try:
            found = self._ray.get(ready)
        except self._ray.exceptions.RayTaskError:
            raise  # of the work, as it would be raised here
        except self._ray.exceptions.RayError as error:
            self._again(shard, error)
            return None
        if self._waiting:
            following = self._waiting.popleft()
            self._at[worker.do.remote(*following)] = worker, following
        if shard is None:
            return None
        number, rows = found
        if isinstance(rows, str):
            raise UserError(rows)
        return number, rows

    def _again(self, shard: tuple[int, Any] | None, error: Exception) -> None:
        """Another worker for one that is lost, at a shard or before its first; too often is the caller's to see to."""
        number, said = shard and shard[0], " ".join(str(error).split())[:160]
        what = "a worker did not start" if number is None else f"shard {number} lost its worker"
        self._lost[number] += 1
        most = TRIES if shard else TRIES * self._most  # a large node's death is that of many that begin
        if self._lost[number] > most:
            remedy = "is there memory for one model a core? what is done is kept: give the command again"
            raise UserError(f"cluster: {what}, {self._lost[number]} times ({said}); {remedy}") from error
        log.warning("cluster: %s (%s); another one begins", what, said)
        self._waiting.extend([shard] if shard else [])
        self._begin()


def _reach(host: str, port: int) -> None:
    """An OSError where nothing answers as Ray does, with settings of HTTP/2; Ray itself tries for minutes."""
    with socket.create_connection((host, port), REACH) as link:
        if os.environ.get("RAY_USE_TLS", "0") == "1":
            return
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        if link.recv(9)[3:4] != b"\4":
            raise OSError("what answers there is no Ray")


def _joined(address: str | None) -> Any:  # noqa: ANN401 - a module that may be absent
    need("ray", "cluster")
    import ray

    try:
        if address and (found := re.fullmatch(r"(.+):(\d{1,5})", address)):
            _reach(found[1], int(found[2]))
        ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        said = " ".join(str(error).split())
        remedy = next((it for sign, it in REMEDIES.items() if sign in said), REMEDIES[""])
        raise UserError(f"--address {address}: no cluster to join ({said[:160]}); {remedy}") from error
    return ray
