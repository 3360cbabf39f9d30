"""Kill -9 of a process that writes events, at random moments: what it had acknowledged is there, once.

    python -m benchmarks.serve_durability --kills 50
    python -m benchmarks.serve_durability --kills 20 --database postgresql [--run runs/mine]

A child writes batches of events and prints each batch's number when `add_events` has returned; after the kill the
database is opened again, and the next child first repeats the last batches (a client that got no answer does so). On
PostgreSQL the benchmark starts a server of its own and kills it too, all its processes at once. Prints JSON:
acknowledged events that are lost, keys that are there twice, batches written in part, and the most seconds until all
events could be read again. Ends with 1 where any is wrong. With `--run` the batches go by HTTP to `forwhy serve` over
that run, which is killed; the seconds of its start, run loaded, are told too.
"""

import argparse
import http.client
import json
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import Server

from forwhy.serve.database import Database

BATCH = 20
AGAIN = 3
"""Batches before the last that are sent once more."""
CHILD = """
import sys
from forwhy.serve.database import Database
from benchmarks.serve_durability import batch
database, number = Database(sys.argv[1]), int(sys.argv[2])
while True:
    database.add_events(batch(number))
    print(number, flush=True)
    number += 1
"""


def batch(number: int) -> list[dict[str, str]]:
    """The events of a batch, always the same."""
    return [{"key": f"{number}-{it}", "user": f"u{number % 50}", "item": f"i{it}"} for it in range(BATCH)]


def main() -> None:
    """Kill, open, count, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, help="write by HTTP to a server over this run, and kill that")
    given = parser.parse_args()
    with started(given.database) as (url, server):
        found = killed(url, server, given.kills, random.Random(given.seed), given.run)
    print(json.dumps({"database": given.database, "kills": given.kills, **found}))
    sys.exit(
        bool(
            found["lost"]
            or found["twice"]
            or found["torn"]
            or found["slowest opening"] > 10
            or found["slowest start"] > 10
        )
    )


@contextmanager
def started(kind: str) -> Iterator[tuple[str, object]]:
    """A database without tables, and its server where there is one."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/serve.db", None
        return
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from postgres import Server

    server = Server()
    try:
        yield server.url, server
    finally:
        server.close()


def killed(url: str, server: object, kills: int, chance: random.Random, run: Path | None) -> dict[str, float]:
    """Kill and open again so many times; what was acknowledged is counted after each."""
    opened(url)
    acknowledged, openings, starts, lost, torn = 0, [], [0.0], 0, 0
    for _ in range(kills):
        if run:
            acknowledged, seconds = posted(run, url, server, acknowledged, chance)
            starts.append(seconds)
        else:
            acknowledged = written(url, server, acknowledged, chance)
        since = time.monotonic()
        if server:
            server.start()  # type: ignore[attr-defined]
        keys = opened(url)
        openings.append(time.monotonic() - since)
        there = set(keys)
        lost += sum(event["key"] not in there for number in range(acknowledged) for event in batch(number))
        torn += len(there) % BATCH  # a batch is written whole or not at all
    return {
        "acknowledged": acknowledged * BATCH,
        "lost": lost,
        "twice": len(keys) - len(there),
        "torn": torn,
        "slowest opening": round(max(openings), 3),
        "slowest start": round(max(starts), 3),
    }


def written(url: str, server: object, start: int, chance: random.Random) -> int:
    """Batches acknowledged by a child that was killed some moment after its first answer."""
    command = [sys.executable, "-c", CHILD, url, str(max(0, start - AGAIN))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout
        if not select.select([child.stdout], [], [], 120)[0]:
            raise RuntimeError("the child writes nothing")
        time.sleep(chance.uniform(0, 0.4))
        victims = [child.kill, *([server.kill] if server else [])]  # type: ignore[attr-defined]
        chance.shuffle(victims)
        for kill in victims:
            kill()
        lines = child.stdout.read().splitlines(keepends=True)
    return max([start, *(int(line) + 1 for line in lines if line.endswith(b"\n"))])


def posted(run: Path, url: str, server: object, start: int, chance: random.Random) -> tuple[int, float]:
    """As `written`, by HTTP; and seconds until the service listened with its run loaded."""
    service = Server(run, url)
    victims = [service.process.kill, *([server.kill] if server else [])]  # type: ignore[attr-defined]
    chance.shuffle(victims)
    end = threading.Timer(chance.uniform(0, 0.4), lambda: [kill() for kill in victims])
    client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    number = first = max(0, start - AGAIN)
    try:
        while True:
            body = json.dumps({"events": batch(number)})
            client.request("POST", "/v1/events", body, {"content-type": "application/json"})
            answer = client.getresponse()
            answer.read()
            if answer.status != 201:  # the database went first
                break
            number += 1
            if number == first + 1:
                end.start()
    except (OSError, http.client.HTTPException):
        pass
    end.join()
    service.process.wait()
    return max(start, number), service.starting


def opened(url: str) -> list[str]:
    """Open as the service does; the keys of all events."""
    with Database(url) as database:
        database.upgrade()
        keys, cursor = [], None
        while True:
            rows, cursor = database.page("events", 10_000, cursor)
            keys += [row["key"] for row in rows]
            if cursor is None:
                return keys


if __name__ == "__main__":
    main()
