"""Machines that are none: network namespaces on one bridge, each with an address, a cable and a Ray node of one core.

Needs root and iproute2. A node is known by what runs in its namespace: so it can be killed whole, cut off by its cable,
measured, and cleaned away whatever happened.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

BRIDGE, NET, PORT = "fwbridge", "10.213.77", 6379
TICKS = os.sysconf("SC_CLK_TCK")
RAY = """
import sys, ray
ray.__version__ = {version!r} or ray.__version__
from ray.scripts.scripts import main
sys.argv[0] = "ray"
main()
"""
HEALTH = {"initial_delay_ms": 1000, "period_ms": 1000, "timeout_ms": 1000, "failure_threshold": 5}
"""Of `ray start --head`: a node that says nothing for so long is dead. Ray's own values are 5000, 3000, 10000 and 5."""


class Node:
    """A machine of the little network, numbered from 1."""

    def __init__(self, number: int) -> None:
        self.name, self.link, self.address = f"fwnode{number}", f"fwlink{number}", f"{NET}.{number}"
        self._seconds: dict[int, float] = {}

    def up(self) -> None:
        """Namespace, cable, address, and the way out that Ray looks for to learn its own address."""
        _ip(f"netns add {self.name}")
        _ip(f"link add {self.link} type veth peer name eth0 netns {self.name}")
        self.plug(True)
        _ip(f"link set {self.link} master {BRIDGE}")
        _ip(f"-n {self.name} link set lo up")
        _ip(f"-n {self.name} addr add {self.address}/24 dev eth0")
        _ip(f"-n {self.name} link set eth0 up")
        _ip(f"-n {self.name} route add default via {NET}.254")

    def plug(self, there: bool) -> None:
        """Put its cable in, or take it out: nothing is told to either side."""
        _ip(f"link set {self.link} {'up' if there else 'down'}")

    def command(self, words: Sequence[object], without: Path | None = None) -> list[str]:
        """The words as a command of this node; `without`: a folder that is empty there."""
        hidden = f'mount -t tmpfs none "{without}" && ' if without else ""
        inside = ["unshare", "--mount", "sh", "-c", f'{hidden}exec "$@"', "sh"]
        return ["ip", "netns", "exec", self.name, *inside, *map(str, words)]

    def pids(self) -> list[int]:
        """All its processes."""
        told = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(word) for word in told.stdout.split()]

    def kill(self) -> None:
        """SIGKILL to all of it, until nothing is left."""
        while found := self.pids():
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def seconds(self) -> float:
        """Processor seconds of all its processes, as they were seen by calls of this; call it often."""
        for pid in self.pids():
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                self._seconds[pid] = sum(map(int, fields[11:13])) / TICKS
        return sum(self._seconds.values())

    def down(self) -> None:
        """Kill it and take it out of the network."""
        self.kill()
        _ip(f"link del {self.link}", check=False)
        _ip(f"netns del {self.name}", check=False)


@contextmanager
def network(count: int) -> Iterator[list[Node]]:
    """So many nodes on one bridge; gone afterwards, with all that runs in them."""
    nodes = [Node(number) for number in range(1, count + 1)]
    _clear(nodes)  # of a benchmark that was killed
    try:
        _ip(f"link add {BRIDGE} type bridge")
        _ip(f"addr add {NET}.254/24 dev {BRIDGE}")
        _ip(f"link set {BRIDGE} up")
        for node in nodes:
            node.up()
        yield nodes
    finally:
        _clear(nodes)


def environment(folder: Path) -> dict[str, str]:
    """What all nodes and commands of a cluster share: a token of its own, kept in a folder, and what a dead node is."""
    token = folder / "token"
    token.write_text(uuid.uuid4().hex)
    token.chmod(0o600)
    health = {f"RAY_health_check_{name}": str(value) for name, value in HEALTH.items()}
    return {**os.environ, **health, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


def start_ray(
    node: Node,
    head: Node,
    shared: dict[str, str],
    folder: Path,
    without: Path | None = None,
    version: str = "",
) -> None:
    """A Ray node of one core: the head of a cluster, or one that joins it; `version`: what it says that it is of."""
    where = ["--head", f"--port={PORT}", f"--temp-dir={folder / node.name}", "--include-dashboard=false"]
    words = [sys.executable, "-c", RAY.format(version=version), "start", f"--node-ip-address={node.address}"]
    words += ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
    words += where if node is head else [f"--address={head.address}:{PORT}"]
    ended = subprocess.run(
        node.command(words, without), env=shared, check=False, capture_output=True, text=True
    )
    if ended.returncode:
        raise SystemExit(f"{node.name}: ray start ended with {ended.returncode}\n{ended.stderr[-2000:]}")


def _clear(nodes: Sequence[Node]) -> None:
    for node in nodes:
        node.down()
    _ip(f"link del {BRIDGE}", check=False)


def _ip(words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words.split()], check=check, capture_output=True)
