"""A real `forwhy serve` on loopback under a bounded load: `python -m benchmarks.serve RUN --only load|explain|mixed`.

The server is a process of its own over SQLite; requests come when their time has come, whether earlier ones were
answered or not, and their seconds count from that moment. `load`: lists at 100 a second, against `forwhy recommend`,
which loads the run and answers once. `explain`: reasons that nobody asked for yet, one client against sixteen in turns.
`mixed`: all kinds of requests for some minutes, live readers that come and go; memory and open files by the minute with
what a line through them says. `--profile FILE` notes where the server's threads were, 200 times a second.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from benchmarks.serving import Client, Server, serving

TURNS = 2


async def paced(rate: float, seconds: float, ask: Callable[[], Awaitable[Any]], seed: int = 0) -> list[float]:
    """Asks at random moments, `rate` a second on average; seconds of each from its moment, lost ones as infinity."""
    chance, moment, took, tasks = (
        random.Random(seed),
        time.monotonic(),
        list[float](),
        set[asyncio.Task[None]](),
    )
    end = moment + seconds

    async def one(due: float) -> None:
        try:
            await ask()
            took.append(time.monotonic() - due)
        except Exception as error:  # counted, and the others go on
            print(f"lost: {error!r}", file=sys.stderr)
            took.append(float("inf"))

    while (moment := moment + chance.expovariate(rate)) < end:
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        tasks.add(task := asyncio.create_task(one(moment)))
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return took


async def people(client: Client, most: int = 5_000) -> list[str]:
    """Ids of people of the run, in random order."""
    found, cursor = list[str](), ""
    while len(found) < most:
        _, page = await client.ask("GET", f"/v1/users?limit=1000{cursor}")
        found += [one["id"] for one in page["users"] if one["taken"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    random.Random(0).shuffle(found)
    return found


def listing(client: Client, users: list[str]) -> Callable[[], Awaitable[Any]]:
    """Asks for ten items, for one person after the other."""
    order = iter(users * 1_000)
    return lambda: client.ask("POST", "/v1/recommend", {"user": next(order), "k": 10})


async def load(server: Server, run: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Lists at a rate, against a process that loads and answers once."""
    client = Client(server.port)
    users = await people(client)
    await paced(rate / 4, 5, listing(client, users))
    client.answers.clear()
    before = server.seconds
    took = await paced(rate, seconds, listing(client, users[::-1]))
    each = (server.seconds - before) / len(took)
    once, cost = [], []
    for user in users[:5]:
        used, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [sys.executable, "-m", "forwhy", "recommend", str(run), "--user", user, "-k", "10"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        once.append(time.monotonic() - begun)
        cost.append(now.ru_utime - used.ru_utime + now.ru_stime - used.ru_stime)
    p50, p95, p99 = np.percentile(took, [50, 95, 99]).tolist()
    return {
        "requests": len(took),
        **{f"{name}, ms": round(it * 1000, 1) for name, it in (("p50", p50), ("p95", p95), ("p99", p99))},
        "processor ms a request": round(each * 1000, 2),
        "at once: seconds": round(float(np.median(once)), 2),
        "at once: processor seconds": round(float(np.median(cost)), 2),
        "times by processor": round(float(np.median(cost)) / each, 1),
        "times by clock, at p95": round(float(np.median(once)) / p95, 1),
        "answers": dict(client.answers),
    }


async def explaining(server: Server, pairs: int, clients: int) -> dict[str, Any]:
    """Reasons a second, of one client and of several, in turns; every pair is asked about once."""
    client = Client(server.port)
    users = await people(client)
    asked = listing(client, users)
    taken = [await asked() for _ in range(2 * pairs + clients)]
    questions = iter(
        [
            {"user": user, "item": answer["items"][0]["item_id"]}
            for user, (_, answer) in zip(users, taken, strict=False)
        ]
    )
    await asyncio.gather(*(client.ask("POST", "/v1/explain", next(questions)) for _ in range(2)))
    found = {1: np.zeros(3), clients: np.zeros(3)}
    written = Counter[str]()

    async def asks(count: int, number: int) -> None:
        for _ in range(count):
            status, told = await client.ask("POST", "/v1/explain", next(questions))
            written[told.get("written", str(status))] += 1
            found[number][2] += len(told.get("text", "").split())

    for _ in range(TURNS):
        for number in found:
            share, clock, used = pairs // TURNS // number, time.monotonic(), server.seconds
            await asyncio.gather(*(asks(share, number) for _ in range(number)))
            found[number][:2] += time.monotonic() - clock, server.seconds - used
    one, many = found[1], found[clients]
    count = pairs // TURNS // clients * clients * TURNS
    return {
        "pairs of each": count,
        "written": dict(written),
        "a second, one client": round(count / one[0], 3),
        f"a second, {clients} clients": round(count / many[0], 3),
        "processor seconds of each": [round(one[1] / count, 2), round(many[1] / count, 2)],
        "words of each": [round(one[2] / count, 1), round(many[2] / count, 1)],
        "times by clock": round(one[0] / many[0], 2),
        "times by processor": round(one[1] / many[1], 2),
        "answers": dict(client.answers),
    }


class Visitors:
    """Who ask for everything that there is, at random."""

    def __init__(self, client: Client) -> None:
        self.client, self.ask, self.chance = client, client.ask, random.Random(2)
        self.users: list[str] = []
        self.items: list[str] = []
        self.words: list[str] = []

    async def look_around(self) -> None:
        """Whom and what there is."""
        self.users = await people(self.client)
        for kind, key in (("items", "id"), ("words", "token")):
            _, page = await self.ask("GET", f"/v1/{kind}?limit=200")
            setattr(self, kind, [one[key] for one in page[kind]])

    def event(self, user: str) -> dict[str, str]:
        """Of a person with any item."""
        return {"key": f"{self.chance.getrandbits(60)}", "user": user, "item": self.chance.choice(self.items)}

    async def newcomer(self) -> None:
        """Somebody new takes something, asks, and sometimes wants to be forgotten."""
        name = f"new-{self.chance.getrandbits(40)}"
        await self.ask("POST", "/v1/events", {"events": [self.event(name) for _ in range(3)]})
        await self.ask("POST", "/v1/recommend", {"user": name})
        if self.chance.random() < 0.3:
            await self.ask("DELETE", f"/v1/users/{name}")

    async def offered(self) -> None:
        """An item that is new, or changed."""
        body = {"title": "A quiet café", "text": f"Cakes, tea and board games, table {self.chance.random()}."}
        await self.ask("PUT", f"/v1/items/new-{self.chance.randrange(20)}", body)

    async def clicked(self) -> None:
        """Somebody clicks, and wonders what their list would be without a word of theirs."""
        user = self.chance.choice(self.users)
        _, shown = await self.ask("POST", "/v1/recommend", {"user": user})
        said = {"impression": shown["impression"], "kind": "clicked", "item": shown["items"][0]["item_id"]}
        await self.ask("POST", "/v1/feedback", {**said, "user": user})
        word = shown["tokens"][0]["token"]
        await self.ask("POST", "/v1/what-if", {"user": user, "without": [word], "k": 5})

    def why(self, stream: bool, seconds: float) -> Awaitable[Any]:
        """A reason; who waits too few seconds leaves in between."""
        body = {"user": self.chance.choice(self.users), "item": self.chance.choice(self.items)}
        return self.ask("POST", "/v1/explain", {**body, "stream": stream}, seconds)

    def kinds(self) -> list[tuple[float, Callable[[], Awaitable[Any]]]]:
        """All of it, each with how often a second."""
        ask, some = self.ask, self.chance.choice
        return [
            (2, lambda: ask("POST", "/v1/recommend", {"user": some(self.users)})),
            (2, lambda: ask("POST", "/v1/events", self.event(some(self.users)))),
            (0.5, self.clicked),
            (0.3, self.newcomer),
            (0.02, self.offered),
            (0.3, lambda: ask("GET", f"/v1/words/{quote(some(self.words))}")),
            (0.1, lambda: ask("POST", "/v1/words/light", {"text": "I like quiet gardens and cake."})),
            (0.1, lambda: ask("POST", "/v1/recommend", {"about": "I like jazz and late dinners."})),
            (0.02, lambda: self.why(False, 60)),
            (0.02, lambda: self.why(True, some([0.3, 60]))),
            (0.2, lambda: ask("GET", "/v1/events/live", None, self.chance.uniform(1, 20))),
            (0.1, lambda: ask("GET", "/v1/status")),
        ]


async def mixed(server: Server, minutes: float, pace: float) -> dict[str, Any]:
    """Everything at once, `pace` times a low rate; what is held is noted each ten seconds."""
    visitors = Visitors(client := Client(server.port))
    await visitors.look_around()
    begun, used = time.monotonic(), server.seconds
    held: list[tuple[float, float, int]] = []

    async def watch() -> None:
        while True:
            held.append(((time.monotonic() - begun) / 60, *server.held()))
            await asyncio.sleep(10)

    watching = asyncio.create_task(watch())
    took = await asyncio.gather(
        *(paced(rate * pace, minutes * 60, ask, seed) for seed, (rate, ask) in enumerate(visitors.kinds()))
    )
    watching.cancel()
    await asyncio.sleep(2)  # who left is noticed
    return {
        "minutes": minutes,
        "requests": sum(client.answers.values()),
        "of 5xx": sum(it for name, it in client.answers.items() if name.split()[-1][0] == "5"),
        "lost": sum(second == float("inf") for one in took for second in one),
        "processor share": round((server.seconds - used) / (time.monotonic() - begun), 3),
        "lists, p50 and p95, ms": np.percentile(1000 * np.array(took[0]), [50, 95]).round(1).tolist(),
        **level(held),
        "MiB and open files at the end": server.held(),
        "answers": dict(sorted(client.answers.items())),
    }


def level(held: list[tuple[float, float, int]]) -> dict[str, Any]:
    """What a line through memory and open files says, after the first third."""
    late = np.array([row for row in held if row[0] >= held[-1][0] / 3])
    if len(late) < 4:
        return {"held": held}
    (slope, _), errors = np.polyfit(late[:, 0], late[:, 1], 1, cov=True)
    files = np.polyfit(late[:, 0], late[:, 2], 1)[0]
    return {
        "MiB, first and last of the fit": [round(late[0, 1], 1), round(late[-1, 1], 1)],
        "MiB a minute": [round(slope, 3), "±", round(1.96 * errors[0, 0] ** 0.5, 3)],
        "open files, least, most, a minute": [int(late[:, 2].min()), int(late[:, 2].max()), round(files, 3)],
        "MiB by the minute": [round(row[1], 1) for row in held[::6]],
    }


def main() -> None:
    """Start, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--only", choices=["load", "explain", "mixed"])
    parser.add_argument("--rate", type=float, default=100, help="lists a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pairs", type=int, default=32, help="reasons of one client, and of all")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--pace", type=float, default=1, help="of the mixed load")
    parser.add_argument("--profile", help="file")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    parts: dict[str, Callable[[Server], Awaitable[Any]]] = {
        "load": lambda server: load(server, given.run, given.rate, given.seconds),
        "explain": lambda server: explaining(server, given.pairs, given.clients),
        "mixed": lambda server: mixed(server, given.minutes, given.pace),
    }
    found: dict[str, Any] = {"run": str(given.run), "load before": os.getloadavg()}
    told = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout.splitlines()
    found["processor"] = [" ".join(line.split()) for line in told if line.startswith(("Model name", "Flags"))]
    for name in [given.only] if given.only else parts:
        with serving(given.run, given.profile, name == "explain") as server:
            found[name] = {
                "starting, s": round(server.starting, 2),
                **asyncio.run(parts[name](server)),  # type: ignore[arg-type]
            }
    found["load after"] = os.getloadavg()
    print(json.dumps(found) if given.json else json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(bool(given.only == "mixed" and (found["mixed"]["of 5xx"] or found["mixed"]["lost"])))


if __name__ == "__main__":
    main()
