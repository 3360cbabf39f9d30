"""A real `forwhy serve` on loopback under a bounded load: `python -m benchmarks.serve RUN --only load|explain|mixed`.

The server is a process of its own over SQLite; requests come when their time has come, whether earlier ones were
answered or not, and their seconds count from that moment. `load`: lists at 100 a second, against `forwhy recommend`,
which loads the run and answers once. `explain`: reasons that nobody asked for yet, one client against sixteen in turns.
`mixed`: all kinds of requests for some minutes, live readers that come and go; memory and open files by the minute with
what a line through them says. `--profile FILE` notes where the server's threads were, 200 times a second.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

PROFILED = """
import collections, json, sys, threading, time
from pathlib import Path
seen = collections.Counter()
def watch():
    while True:
        time.sleep(0.005)
        for number, frame in sys._current_frames().items():
            if number != threading.get_ident():
                stack = []
                while frame is not None:
                    stack.append(f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_code.co_name}")
                    frame = frame.f_back
                seen["<".join(stack[:40])] += 1
threading.Thread(target=watch, daemon=True).start()
from forwhy.cli import main
try:
    main(sys.argv[2:])
finally:
    Path(sys.argv[1]).write_text(json.dumps(seen.most_common()))
"""
PATIENT = """
import sys
from forwhy.serve.service import Limits
Limits.__init__.__defaults__ = (600.0, *Limits.__init__.__defaults__[1:])
from forwhy.cli import main
main(sys.argv[1:])
"""
"""A reason is waited for to its end, however slow a shared machine is: plain ones would count for nothing."""
TURNS = 2
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """The service as a process; `seconds` it has used, what it holds."""

    def __init__(
        self,
        run: Path,
        folder: Path,
        profile: str | None = None,
        patient: bool = False,
        also: Sequence[Path] = (),
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = ["serve", "run", run.resolve(), *also, "--port", self.port, "--per-minute", 10**7]
        arguments += ["--database", f"sqlite:///{folder / 'serve.db'}"]
        how = ["-c", PROFILED, profile] if profile else ["-c", PATIENT] if patient else ["-m", "forwhy"]
        begun = time.monotonic()
        self.process = subprocess.Popen([sys.executable, *map(str, [*how, *arguments])])
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > begun + 120:
                raise RuntimeError("the server does not start")
            time.sleep(0.05)
        self.starting = time.monotonic() - begun
        self.settle()

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def seconds(self) -> float:
        """Of processor time, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def settle(self) -> None:
        """Waits until nothing is loaded any more."""
        used, end = -1.0, time.monotonic() + 120
        while self.seconds > used + 0.1 and time.monotonic() < end:
            used = self.seconds
            time.sleep(2)

    def held(self) -> tuple[float, int]:
        """MiB resident, and open files."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
        return resident / 1024, len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def close(self) -> None:
        """Stops it as a user does."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


class Client:
    """HTTP over kept connections; counts answers by path and status."""

    def __init__(self, port: int) -> None:
        self.port, self.answers = port, Counter[str]()
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def _sent(self, method: str, path: str, body: object) -> tuple[Any, Any]:
        while self._idle and self._idle[-1][0] < time.monotonic() - 2:  # the server closes after 5
            self._idle.pop()[2].close()
        _, reader, writer = (
            self._idle.pop()
            if self._idle
            else (0, *await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24))
        )
        sent = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        return reader, writer

    async def ask(self, method: str, path: str, body: object = None, seconds: float = 60) -> tuple[int, Any]:
        """Status and document; of a stream, that is read for some seconds at most, its bytes."""
        reader, writer = await self._sent(method, path, body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status, length = int(head.split()[1]), head.partition("content-length: ")[2].split("\r\n")[0]
        self.answers[f"{method} /{'/'.join(path.partition('?')[0].split('/')[2:3])} {status}"] += 1
        if length or status == 204:
            read = await reader.readexactly(int(length or 0))
            self._idle.append((time.monotonic(), reader, writer))
            return status, json.loads(read) if "json" in head else read
        read = bytearray()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not read.endswith(b"0\r\n\r\n") and (piece := await reader.read(1 << 16)):
                    read += piece
        writer.close()
        return status, bytes(read)


async def paced(rate: float, seconds: float, ask: Callable[[], Awaitable[Any]]) -> list[float]:
    """Asks at random moments, `rate` a second on average; seconds of each from its moment, lost ones as infinity."""
    chance, moment, took, tasks = random.Random(1), time.monotonic(), list[float](), set[asyncio.Task[None]]()
    end = moment + seconds

    async def one(due: float) -> None:
        try:
            await ask()
            took.append(time.monotonic() - due)
        except (OSError, EOFError) as error:
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


async def mixed(server: Server, minutes: float, pace: float) -> dict[str, Any]:
    """Everything at once, `pace` times a low rate; what is held is noted each ten seconds."""
    client, chance = Client(server.port), random.Random(2)
    users = await people(client)
    _, page = await client.ask("GET", "/v1/items?limit=1000")
    _, words = await client.ask("GET", "/v1/words?limit=200")
    items, tokens = [one["id"] for one in page["items"]], [one["token"] for one in words["words"]]

    def somebody() -> str:
        return chance.choice(users)

    def event(user: str) -> dict[str, str]:
        return {"key": f"{chance.getrandbits(60)}", "user": user, "item": chance.choice(items)}

    async def newcomer() -> None:
        name = f"new-{chance.getrandbits(40)}"
        await client.ask("POST", "/v1/events", {"events": [event(name) for _ in range(3)]})
        await client.ask("POST", "/v1/recommend", {"user": name})
        if chance.random() < 0.3:
            await client.ask("DELETE", f"/v1/users/{name}")

    async def offered() -> None:
        body = {"title": "A quiet café", "text": f"Cakes, tea and board games, table {chance.random()}."}
        await client.ask("PUT", f"/v1/items/new-{chance.randrange(20)}", body)

    async def clicked() -> None:
        user = somebody()
        _, shown = await client.ask("POST", "/v1/recommend", {"user": user})
        said = {"impression": shown["impression"], "kind": "clicked", "item": shown["items"][0]["item_id"]}
        await client.ask("POST", "/v1/feedback", {**said, "user": user})
        word = shown["tokens"][0]["token"]
        await client.ask("POST", "/v1/what-if", {"user": user, "without": [word], "k": 5})

    def explained(stream: bool, seconds: float) -> Awaitable[Any]:
        body = {"user": somebody(), "item": chance.choice(items), "stream": stream}
        return client.ask("POST", "/v1/explain", body, seconds)

    kinds: list[tuple[float, Callable[[], Awaitable[Any]]]] = [
        (2, lambda: client.ask("POST", "/v1/recommend", {"user": somebody()})),
        (2, lambda: client.ask("POST", "/v1/events", event(somebody()))),
        (0.5, clicked),
        (0.3, newcomer),
        (0.02, offered),
        (0.3, lambda: client.ask("GET", f"/v1/words/{chance.choice(tokens)}")),
        (0.1, lambda: client.ask("POST", "/v1/words/light", {"text": "I like quiet gardens and cake."})),
        (0.1, lambda: client.ask("POST", "/v1/recommend", {"about": "I like jazz and late dinners."})),
        (0.1, lambda: explained(False, 60)),
        (0.1, lambda: explained(True, chance.choice([0.3, 60]))),  # some leave early
        (0.2, lambda: client.ask("GET", "/v1/events/live", None, chance.uniform(1, 20))),
        (0.1, lambda: client.ask("GET", "/v1/status")),
    ]
    begun, used = time.monotonic(), server.seconds
    held: list[tuple[float, float, int]] = []

    async def watch() -> None:
        while True:
            held.append(((time.monotonic() - begun) / 60, *server.held()))
            await asyncio.sleep(10)

    watching = asyncio.create_task(watch())
    took = await asyncio.gather(*(paced(rate * pace, minutes * 60, ask) for rate, ask in kinds))
    watching.cancel()
    await asyncio.sleep(2)  # who left is noticed
    lists = [second * 1000 for second in took[0]]
    return {
        "minutes": minutes,
        "requests": sum(client.answers.values()),
        "of 5xx": sum(it for name, it in client.answers.items() if name.split()[-1][0] == "5"),
        "lost": sum(second == float("inf") for one in took for second in one),
        "processor share": round((server.seconds - used) / (time.monotonic() - begun), 3),
        "lists, p50 and p95, ms": np.percentile(lists, [50, 95]).round(1).tolist(),
        **level(held),
        "at the end": server.held(),
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


@contextlib.contextmanager
def serving(run: Path, profile: str | None = None, patient: bool = False) -> Iterator[Server]:
    """A server over a run and a new database."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(run, Path(folder), profile, patient)
        try:
            yield server
        finally:
            server.close()


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
