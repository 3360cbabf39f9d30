"""Work in shards: each file is whole, nothing is done twice, and what dies is begun again elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwhy.atomic import locked
from forwhy.errors import UserError
from forwhy.shards import CLUSTER, Shards, Work, do, shard_of, spread

Rows = list[tuple[str, int]]


@dataclass(frozen=True)
class Doubling:
    """Rows with a column more; notes in a folder who did what, and dies or complains as it is told."""

    notes: Path
    die_at: int = -1
    wrong: str = ""

    def __call__(self) -> Work:
        if self.wrong:
            raise UserError(self.wrong)
        return self._rows

    def _rows(self, asked: Rows) -> pl.DataFrame:
        first = asked[0][1] if asked else -1
        note = self.notes / str(first)
        if first == self.die_at and not note.exists():
            note.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with note.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        frame = pl.DataFrame(asked, {"name": pl.String, "number": pl.Int64}, orient="row")
        return frame.with_columns(twice=pl.col("number") * 2)


ROWS: Rows = [(f"n{number}", number) for number in range(40)]


@dataclass(frozen=True)
class Told:
    """The cluster that work in a worker would be spread over."""

    def __call__(self) -> Work:
        return lambda asked: pl.DataFrame({"asked": [asked], "cluster": [os.environ.get(CLUSTER, "none")]})


def parts(count: int) -> list[Rows]:
    found: list[Rows] = [[] for _ in range(count)]
    for row, number in zip(ROWS, shard_of(ROWS, count).tolist(), strict=True):
        found[number].append(row)
    return found


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "*.parquet").sort("number")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def test_every_row_once(tmp_path: Path, notes: Path) -> None:
    shards = Shards(tmp_path / "out", 6, "a")
    assert do(shards, parts(6), Doubling(notes)) == 6
    found = read(shards.folder)
    assert found["number"].to_list() == list(range(40))
    assert found["twice"].to_list() == [2 * number for number in range(40)]
    assert do(shards, parts(6), Doubling(notes, wrong="not asked again")) == 0


def test_only_what_is_missing_or_broken_is_made(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shards = Shards(tmp_path / "out", 6, "a")
    do(shards, parts(6), Doubling(notes))
    before = read(shards.folder)
    shards.path(2).unlink()
    shards.path(4).write_bytes(shards.path(4).read_bytes()[:40])
    assert do(shards, parts(6), Doubling(notes)) == 2
    assert read(shards.folder).equals(before)
    assert "part-00004-of-00006.parquet" in caplog.text


def test_what_fails_keeps_what_is_done(tmp_path: Path, notes: Path) -> None:
    shards = Shards(tmp_path / "out", 6, "a")

    def make() -> Work:
        done: list[int] = []

        def work(asked: Rows) -> pl.DataFrame:
            done.append(1)
            if len(done) > 3:
                raise UserError("no more; rest")
            return Doubling(notes)._rows(asked)

        return work

    with pytest.raises(UserError, match="no more"):
        do(shards, parts(6), make)
    assert len([*shards.folder.glob("*.parquet")]) == 3
    assert do(shards, parts(6), Doubling(notes)) == 3


def test_other_questions_and_other_writers_are_refused(tmp_path: Path, notes: Path) -> None:
    do(Shards(tmp_path / "out", 6, "a"), parts(6), Doubling(notes))
    for other in (Shards(tmp_path / "out", 6, "b"), Shards(tmp_path / "out", 3, "a")):
        with pytest.raises(UserError, match="another run or other pairs; give a new"):
            do(other, parts(other.count), Doubling(notes))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").touch()
    with pytest.raises(UserError, match="did not write"):
        do(Shards(tmp_path / "theirs", 6, "a"), parts(6), Doubling(notes))
    with locked(tmp_path / "out"), pytest.raises(UserError, match="another command writes into it; wait"):
        do(Shards(tmp_path / "out", 6, "a"), parts(6), Doubling(notes))


@given(rows=st.lists(st.tuples(st.text(), st.integers()), max_size=30), count=st.integers(1, 9))
def test_a_row_has_one_shard_whatever_stands_beside_it(rows: list[tuple[str, int]], count: int) -> None:
    together = shard_of(rows, count)
    assert [shard_of([row], count)[0] for row in rows] == together.tolist()
    assert ((together >= 0) & (together < count)).all()


def test_shards_are_of_about_one_size() -> None:
    counts = [0] * 8
    for number in shard_of([(f"user{n}", n % 7) for n in range(8000)], 8):
        counts[number] += 1
    assert max(counts) < 1.15 * min(counts)


# --- Ray: first one that only schedules, then Ray itself


class Gone(Exception):
    """As Ray's errors of a worker or node that is no more."""


@dataclass(frozen=True, eq=False)
class Call:
    """What a worker is asked: a shard, or whether it runs."""

    worker: weakref.ref[Remote]
    asked: tuple[Any, ...]


class Remote:
    """A worker's handle: without it, the worker ends."""

    def __init__(self, work: Any) -> None:  # noqa: ANN401
        self.work, this = work, weakref.ref(self)
        self.do = self.__ray_ready__ = SimpleNamespace(remote=lambda *asked: Call(this, asked))


class Cluster:
    """As Ray: so many workers run as there are cores; `dies` says over which call one does."""

    exceptions = SimpleNamespace(RayError=Gone, RayTaskError=InterruptedError)

    def __init__(self, cores: int, dies: Callable[[Cluster, Call], bool]) -> None:
        self.cores, self.dies = cores, dies
        self.running: weakref.WeakSet[Remote] = weakref.WeakSet()

    def cluster_resources(self) -> dict[str, int]:
        return {"CPU": self.cores}

    def remote(self, **_: object) -> Any:  # noqa: ANN401
        return lambda kind: SimpleNamespace(remote=lambda make: Remote(kind(make)))

    def wait(self, calls: list[Call], num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        for call in calls:
            worker = call.worker()
            if worker is not None and len(self.running) < self.cores:
                self.running.add(worker)
            if worker in self.running:
                return [call], []
        assert not self.cores, "it waits for ever"
        return [], calls

    def get(self, call: Call) -> Any:  # noqa: ANN401
        worker = call.worker()
        assert worker is not None
        if self.dies(self, call):
            self.running.discard(worker)
            raise Gone("running low\non memory")
        return worker.work.do(*call.asked) if call.asked else None

    def shutdown(self) -> None:
        pass


def test_shards_of_lost_nodes_are_done_by_what_is_left(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[int] = []

    def dies(cluster: Cluster, call: Call) -> bool:
        """Two of three nodes, each over its first shard; their cores do not come back."""
        if not call.asked or call.asked[0] not in (1, 2) or call.asked[0] in lost:
            return False
        lost.append(call.asked[0])
        cluster.cores -= 1
        return True

    monkeypatch.setattr("forwhy.shards._joined", lambda _: Cluster(3, dies))
    here, there = Shards(tmp_path / "here", 6, "a"), Shards(tmp_path / "there", 6, "a")
    do(here, parts(6), Doubling(notes))
    assert do(there, parts(6), Doubling(notes), "ray") == 6
    assert lost == [1, 2]
    assert read(there.folder).equals(read(here.folder))


def test_when_nobody_is_left_it_is_said_and_the_rest_is_kept(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(cluster: Cluster, call: Call) -> bool:
        if call.asked[:1] == (2,):
            cluster.cores = 0
            cluster.running.clear()
        return not cluster.cores

    monkeypatch.setattr("forwhy.shards._joined", lambda _: Cluster(1, dies))
    shards = Shards(tmp_path / "out", 6, "a")
    with pytest.raises(UserError, match="no machine with a core is left; start one"):
        do(shards, parts(6), Doubling(notes), "ray")
    assert len([*shards.folder.glob("*.parquet")]) == 2


@pytest.mark.parametrize(
    ("asked", "said", "done"),
    [
        ((3,), "shard 3 lost its worker, 6 times .running low on memory.; is there memory", 5),
        ((), "a worker did not start, 11 times .running low on memory.; is there memory", 0),
    ],
)
def test_what_loses_each_of_its_workers_is_said_and_the_rest_is_kept(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch, asked: tuple[int, ...], said: str, done: int
) -> None:
    monkeypatch.setattr(
        "forwhy.shards._joined", lambda _: Cluster(2, lambda _, call: call.asked[:1] == asked)
    )
    shards = Shards(tmp_path / "out", 6, "a")
    with pytest.raises(UserError, match=said):
        do(shards, parts(6), Doubling(notes), "ray")
    assert len([*shards.folder.glob("*.parquet")]) == done


@pytest.fixture(scope="module")
def ray() -> object:
    return pytest.importorskip("ray", reason="pip install 'forwhy[cluster]' brings it")


@pytest.mark.usefixtures("ray")
def test_ray_does_what_one_process_does_though_a_worker_dies(tmp_path: Path, notes: Path) -> None:
    here, there = Shards(tmp_path / "here", 6, "a"), Shards(tmp_path / "there", 6, "a")
    do(here, parts(6), Doubling(notes))
    (tmp_path / "more").mkdir()
    died = next(rows[0][1] for rows in parts(6) if rows)
    assert do(there, parts(6), Doubling(tmp_path / "more", die_at=died), "ray", workers=2) == 6
    assert read(there.folder).equals(read(here.folder))
    workers = {line for note in (tmp_path / "more").iterdir() for line in note.read_text().split()}
    assert str(os.getpid()) not in workers


@pytest.mark.usefixtures("ray")
def test_spread_work_is_not_spread_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLUSTER, "local")
    found = {number: rows.row(0) for number, rows in spread(Told(), ["a", "b"], None)}
    assert found == {0: ("a", "none"), 1: ("b", "none")}


def test_a_cluster_of_other_versions_and_a_port_without_ray_are_refused(
    tmp_path: Path, notes: Path, monkeypatch: pytest.MonkeyPatch, ray: object
) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 1.0.0")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("forwhy.shards.REACH", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for given, said in (
            (None, "Ray: 1.0.0.; install the same Python"),
            (address, "timed out.; start one"),
        ):
            with pytest.raises(UserError, match=said):
                do(Shards(tmp_path / "out", 2, "a"), parts(2), Doubling(notes), "ray", given)


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize(
    ("make", "address", "said"),
    [
        (lambda notes: Doubling(notes, wrong="no model here; fetch it"), None, "no model here"),
        (Doubling, "127.0.0.1:9", r"no cluster to join .*; start one \(ray start --head\)"),
    ],
)
def test_what_is_wrong_on_a_cluster_is_said_in_a_line(
    tmp_path: Path, notes: Path, make: Callable[[Path], Doubling], address: str | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        do(Shards(tmp_path / "out", 2, "a"), parts(2), make(notes), "ray", address, 1)
