"""Explanations on three machines (network namespaces of this one): what it costs, what dies, what is refused.

    python -m benchmarks.cluster [--pairs 2000] [--out cluster.json]

Needs root, iproute2 and the extra `cluster`; leaves nothing behind, also when it fails. A town's run with a tiny random
language model says why for some pairs: first in one process, which is the truth; then by Ray with one worker, for what
Ray costs; then on three nodes, while the command is killed and given again, a node is killed (SIGKILL to all of it) and
another one's cable is taken out. Then it is given what is wrong. Prints a markdown table and JSON; ends with 1 where
rows are missing, twice or other than those of one process, or where a refusal is not one line and status 2.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from benchmarks.cluster_nodes import PORT, Node, environment, network, start_ray

REPEATS = 2
FORGOTTEN = 3
"""Shards that are taken away before a command that has to fail: the others must stay."""


@dataclass
class Watched:
    """A command, until it has ended."""

    process: "subprocess.Popen[str]"
    out: Path
    node: Node
    started: float = field(default_factory=time.monotonic)
    before: float = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.node.seconds()

    def files(self) -> int:
        """Shards that are there."""
        return len([*self.out.glob("*.parquet")])

    def until(self, files: int) -> "tuple[float, float]":
        """Clock and processor seconds of the node since the start, when so many shards are there or it has ended."""
        while self.process.poll() is None and self.files() < files:
            self.node.seconds()
            time.sleep(0.05)
        return time.monotonic() - self.started, self.node.seconds() - self.before

    def ended(self) -> "tuple[int, str]":
        """Its exit status and what it said."""
        self.until(sys.maxsize)
        return self.process.returncode, (self.out.with_suffix(".log")).read_text()


@dataclass
class Bench:
    """A run, its pairs, and machines to explain them on."""

    folder: Path
    nodes: list[Node]
    shared: dict[str, str]
    shards: int

    @property
    def run(self) -> Path:
        """The folder of the run."""
        return self.folder / "runs/tiny"

    def explain(self, name: str, *words: object, node: Node | None = None, **given: str) -> Watched:
        """`forwhy explain` on a node (the first), into a folder of this name."""
        node, out = node or self.nodes[0], self.folder / name
        command = [sys.executable, "-m", "forwhy", "explain", self.run, "--out", out]
        command += ["--pairs", self.folder / "pairs.parquet", *words]
        with out.with_suffix(".log").open("w") as log:
            process = subprocess.Popen(
                node.command(command), env={**self.shared, **given}, stdout=log, stderr=log, text=True
            )
        return Watched(process, out, node)

    def on_ray(self, name: str, *words: object) -> Watched:
        """The same by the cluster of the first node."""
        return self.explain(name, "--engine", "ray", "--address", f"{self.nodes[0].address}:{PORT}", *words)

    def rows(self, name: str) -> pl.DataFrame:
        """What lies in a folder, in one order."""
        return pl.read_parquet(self.folder / name / "*.parquet").sort("user_id", "item_id")


def prepared(folder: Path, pairs: int) -> None:
    """A town, a run over it whose language model is tiny and random, and pairs."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    import forwhy
    import tiny_models
    from conftest import TINY_RECIPE
    from forwhy.data.sample import little_town
    from forwhy.recipe import load_recipe, run

    little_town(users=200, items=100).save(folder / "town")
    text = TINY_RECIPE.format(data=folder / "town", model=tiny_models.save(folder / "models/tiny"))
    text = text.replace("max_new_tokens = 8, max_words = 8", "max_new_tokens = 40, max_words = 40")
    (folder / "tiny.toml").write_text(text)
    run(load_recipe(folder / "tiny.toml"), folder / "runs/tiny")
    known = forwhy.open(folder / "runs/tiny").recommender.catalogue
    each = -(-pairs // len(known.users.values))
    some = [(user, item) for user in known.users.values for item in known.items.values[:each]][:pairs]
    pl.DataFrame(some, ["user_id", "item_id"], orient="row").write_parquet(folder / "pairs.parquet")


def measured(watched: Watched, shards: int) -> dict[str, float]:
    """Seconds of a command that must go well: whole, and between its first and its last shard."""
    first, last = watched.until(1), watched.until(shards)
    status, said = watched.ended()
    assert status == 0, said
    whole = watched.until(0)
    return {
        "clock": whole[0],
        "processor": whole[1],
        "clock_between": last[0] - first[0],
        "processor_between": last[1] - first[1],
    }


def cost(bench: Bench) -> dict[str, Any]:
    """One process, and Ray with one worker, in turns: medians."""
    found: dict[str, list[dict[str, float]]] = {"local": [], "ray": []}
    for number in range(REPEATS):
        found["local"].append(measured(bench.explain(f"local{number}"), bench.shards))
        started = time.monotonic()
        start_ray(bench.nodes[0], bench.nodes[0], bench.shared, bench.folder)
        begun = time.monotonic() - started
        found["ray"].append(
            {"start": begun, **measured(bench.on_ray(f"ray{number}", "--workers", 1), bench.shards)}
        )
        assert bench.rows(f"ray{number}").equals(bench.rows("truth"))
        bench.nodes[0].kill()
    return {
        engine: {name: round(statistics.median(one[name] for one in all_), 1) for name in all_[0]}
        for engine, all_ in found.items()
    }


def failures(bench: Bench) -> dict[str, Any]:
    """Three nodes; the command is killed and given again, a node is killed, another one is cut off."""
    head, second, third = bench.nodes[:3]
    head.kill()
    for node in (head, second, third):
        start_ray(node, head, bench.shared, bench.folder)
    first = bench.on_ray("three")
    first.until(1)
    first.process.kill()
    first.process.wait()
    kept = first.files()
    again = bench.on_ray("three")
    again.until(kept + 1)
    second.kill()
    killed = again.files()
    again.until(killed + 1)
    third.plug(False)
    cut, when = again.files(), time.monotonic()
    status, said = again.ended()
    rows, truth = bench.rows("three"), bench.rows("truth")
    return {
        "status": status,
        "shards": bench.shards,
        "done_when_command_killed": kept,
        "done_when_node_killed": killed,
        "done_when_node_cut_off": cut,
        "shards_begun_again": said.count("lost its worker"),
        "seconds_after_cut": round(time.monotonic() - when, 1),
        "pairs": rows.height,
        "pairs_once": rows.select("user_id", "item_id").n_unique(),
        "equal_to_one_process": rows.equals(truth),
    }


def refusals(bench: Bench) -> list[dict[str, Any]]:
    """What is wrong with a cluster, and what is then said."""
    head, second, _, other = bench.nodes
    for node in bench.nodes:
        node.kill()
    start_ray(head, head, bench.shared, bench.folder)
    ray, here = ["--engine", "ray", "--address"], f"{head.address}:{PORT}"
    found = [
        _refused(bench, "nobody at the address", [*ray, "10.213.77.99:6379"]),
        _refused(bench, "no token for it", [*ray, here], RAY_AUTH_MODE="disabled"),
        _no_ray(bench),
        _cut_short(bench),
    ]
    for kind in ("runs", "models"):
        start_ray(second, head, bench.shared, bench.folder, without=bench.folder / kind)
        found.append(_refused(bench, f"a node without {kind}", [*ray, here, "--workers", 2]))
        second.kill()
    start_ray(other, other, bench.shared, bench.folder, version="2.0.0")
    found.append(_refused(bench, "another version", [*ray, f"{other.address}:{PORT}"], node=other))
    other.kill()
    little = {**bench.shared, "RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    start_ray(other, other, little, bench.folder)
    found.append(_refused(bench, "no memory", [*ray, f"{other.address}:{PORT}"], node=other))
    other.kill()
    return found


def _refused(
    bench: Bench, case: str, words: Sequence[object], node: Node | None = None, **given: str
) -> dict[str, Any]:
    name = _begun(bench, case)
    watched = bench.explain(name, *words, node=node, **given)
    status, said = watched.ended()
    lines = [line for line in said.splitlines() if line.startswith("forwhy: ")]
    whole = status == 2 and len(lines) == 1 and "; " in lines[0] and "Traceback" not in said
    kept = watched.files() >= bench.shards - FORGOTTEN
    seconds = round(watched.until(0)[0], 1)
    return {
        "case": case,
        "status": status,
        "said": lines[0][8:] if lines else said[-300:],
        "kept": kept,
        "right": whole and kept,
        "seconds": seconds,
    }


def _no_ray(bench: Bench) -> dict[str, Any]:
    head = bench.nodes[0]
    web = subprocess.Popen(
        head.command([sys.executable, "-m", "http.server", 8000]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(1.0)
    try:
        return _refused(bench, "no Ray at the port", ["--engine", "ray", "--address", f"{head.address}:8000"])
    finally:
        web.kill()


def _begun(bench: Bench, case: str) -> str:
    """A folder that lacks some shards."""
    name = case.replace(" ", "-")
    shutil.copytree(bench.folder / "truth", bench.folder / name)
    for path in sorted((bench.folder / name).glob("*.parquet"))[:FORGOTTEN]:
        path.unlink()
    return name


def _cut_short(bench: Bench) -> dict[str, Any]:
    name = _begun(bench, "a shard cut short")
    last = sorted((bench.folder / name).glob("*.parquet"))[-1]
    last.write_bytes(last.read_bytes()[:-100])
    watched = bench.on_ray(name, "--workers", 1)
    status, said = watched.ended()
    line = next((line for line in said.splitlines() if last.name in line), "")
    right = status == 0 and "made again" in line and bench.rows(name).equals(bench.rows("truth"))
    return {
        "case": "a shard cut short",
        "status": status,
        "said": line,
        "kept": True,
        "right": right,
        "seconds": round(watched.until(0)[0], 1),
    }


def table(found: dict[str, Any]) -> str:
    """The figures for a page."""
    lines = []
    if costs := found.get("cost"):
        lines += ["| seconds | one process | Ray, one worker |", "|---|---|---|"]
        lines += [f"| {name} | {costs['local'][name]} | {costs['ray'][name]} |" for name in costs["local"]]
    if failed := found.get("failures"):
        lines += ["", "| three nodes | |", "|---|---|", *(f"| {name} | {failed[name]} |" for name in failed)]
    if wrong := found.get("refusals"):
        lines += ["", "| wrong | right | status | seconds | said |", "|---|---|---|---|---|"]
        lines += [
            f"| {it['case']} | {it['right']} | {it['status']} | {it['seconds']} | {it['said']} |"
            for it in wrong
        ]
    return "\n".join(lines)


def right(found: dict[str, Any]) -> bool:
    """Whether nothing was lost, doubled, changed or refused badly."""
    failed = found.get("failures", {"status": 0, "equal_to_one_process": True})
    return (
        not failed["status"]
        and failed["equal_to_one_process"]
        and all(it["right"] for it in found.get("refusals", []))
    )


def main() -> None:
    """Measure, break, ask what is wrong, print."""
    parts = {"cost": cost, "failures": failures, "refusals": refusals}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="file for the JSON")
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts], help="not all three")
    given = parser.parse_args()
    if os.geteuid():
        raise SystemExit("needs root, for network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is cleaned away
    with tempfile.TemporaryDirectory(prefix="fw") as name, network(4) as nodes:
        bench = Bench(Path(name), nodes, environment(Path(name)), 0)
        prepared(bench.folder, given.pairs)
        status, said = bench.explain("truth").ended()
        assert status == 0, said
        bench.shards = len([*(bench.folder / "truth").glob("*.parquet")])
        found = {part: parts[part](bench) for part in given.parts}
    print(f"{table(found)}\n\n{json.dumps(found)}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=1))
    sys.exit(not right(found))


if __name__ == "__main__":
    main()
