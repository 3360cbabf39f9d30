"""Through how many files a reader follows a command: `python -m benchmarks.route`.

A file counts when one of its functions runs, in the order of first calls; module and class bodies do not count. The
routes and their budgets: `run` to the first explanation, BEAT's equations within it (how many files are on the stack
when the first of them runs), `recommend --history`, and the evaluation with its report. Runs are tiny, on the little
town and on drawn histories, with SmolLM2-135M. `--files` prints the files; `trace` follows one command.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

ROOT = Path(__file__).resolve().parents[1]
EQUATIONS = ("vocabulary/network.py", "vocabulary/quantizer.py")
"""Where BEAT's equations 2 to 9 stand."""
BUDGETS = {
    "run to the first explanation": 40,
    "BEAT's equations": 6,
    "recommend --history": 25,
    "evaluation": 50,
}
WATCH = """
import json, sys, threading
from pathlib import Path
import forwhy
package, order, chain = f"{Path(forwhy.__file__).parent}/", [], []

def watch(frame, event, argument):
    code = frame.f_code
    if event != "call" or not code.co_flags & 1 or not code.co_filename.startswith(package):
        return
    file = code.co_filename[len(package):]
    if not file.endswith(".py"):  # a template
        return
    if file not in order:
        order.append(file)
    if file in EQUATIONS and not chain:
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(package) and name[len(package):] not in chain:
                chain.append(name[len(package):])
            frame = frame.f_back

threading.setprofile(watch)
sys.setprofile(watch)
from forwhy.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
sys.setprofile(None)
print(json.dumps({"status": status or 0, "order": order, "chain": chain[::-1]}), file=sys.stderr)
"""
TOWN = """
name = "town"
data.path = "{folder}/town"
encoder.name = "hash"
intents.training_explanations = false
vocabulary = {{ codes = 8, slot_dim = 2, text_dims = 4, epochs = 1, batch_size = 256, text_batch = 16 }}
explainer = {{ model = "{model}", epochs = 1, train_pairs = 4, generation = {{ max_new_tokens = 8 }} }}
evaluation = {{ pairs = 4, generate = 4 }}
"""


@dataclass(frozen=True)
class Trace:
    """What one command walked through."""

    order: list[str]
    """Files in the order of their first call."""
    chain: list[str]
    """Files on the stack when the first of BEAT's equations ran; empty when none did."""


def trace(*arguments: object) -> Trace:
    """Runs a command in a process of its own and follows it.

    Raises:
        RuntimeError: The command failed.
    """
    code = WATCH.replace("EQUATIONS", repr(EQUATIONS))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    found = json.loads(done.stderr.strip().splitlines()[-1]) if done.stderr.strip() else {"status": 1}
    if found["status"]:
        raise RuntimeError(f"forwhy {' '.join(map(str, arguments))}: {done.stderr}")
    return Trace(found["order"], found["chain"])


def explaining_routes(recipe: Path, folder: Path) -> dict[str, list[str]]:
    """Of BEAT: to the first explanation, to its equations, and the evaluation with its report."""
    taken = (
        pl.read_parquet(folder / "town" / "interactions.parquet")
        .filter(pl.col("split") == "train")
        .row(0, named=True)
    )
    run = folder / "run"
    learned = trace("run", recipe, "--out", run, "--until", "explainer")
    explained = trace("explain", run, "--user", taken["user_id"], "--item", taken["item_id"])
    evaluated = trace("run", recipe, "--out", run)
    reported = trace("evaluate", run, "--report", folder / "report.html")
    return {
        "run to the first explanation": _together(learned, explained),
        "BEAT's equations": learned.chain,
        "evaluation": _together(evaluated, reported),
    }


def recommending_route(run: Path, history: str) -> dict[str, list[str]]:
    """Of a run that lists the next items."""
    return {"recommend --history": trace("recommend", run, "--history", history).order}


def _together(*traces: Trace) -> list[str]:
    return list(dict.fromkeys(file for one in traces for file in one.order))


def lines_of(files: Sequence[str]) -> int:
    """Lines in these files."""
    return sum((ROOT / "src" / "forwhy" / file).read_text(encoding="utf-8").count("\n") for file in files)


def ring_run(folder: Path) -> Path:
    """Forty people who go around a ring of twelve items, in LC-Rec's layout, imported and learned by LLM-BS."""
    source = folder / "ring"
    source.mkdir()
    around = {str(user): [(user + step) % 12 for step in range(7)] for user in range(40)}
    (source / "ring.inter.json").write_text(json.dumps(around))
    (source / "ring.item.json").write_text(
        json.dumps({str(item): {"title": f"thing {item}"} for item in range(12)})
    )
    trace("data", "import", "lcrec", source, folder / "next")
    recipe = folder / "next.toml"
    recipe.write_text(
        f'name = "next"\nsystem = "llm-bs"\ndata.path = "{folder}/next"\nencoder.name = "hash"\n'
        "behaviour = { dims = 8, epochs = 1 }\nindex.width = 4\n"
        "recommender = { epochs = 1, window = 4, stride = 4, backbone = { layers = 1, dims = 32, heads = 2 } }\n"
    )
    trace("run", recipe, "--out", folder / "next-run", "--until", "recommender")
    return folder / "next-run"


def main() -> None:
    """All routes beside their budgets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action="store_true", help="print the files of each route")
    parser.add_argument("--model", default="smollm2-135m", help="the explainer's model, a name or a folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        from forwhy import little_town

        little_town(users=40, items=30, visits=8, explanations=(30, 8, 8)).save(folder / "town")
        recipe = folder / "town.toml"
        recipe.write_text(TOWN.format(folder=folder, model=given.model))
        routes = explaining_routes(recipe, folder) | recommending_route(ring_run(folder), "0,1,2")
    for name, files in routes.items():
        print(f"{name}: {len(files)} files (budget {BUDGETS[name]}), {lines_of(files):,} lines in them")
        if given.files:
            print("".join(f"    {file}\n" for file in files), end="")


if __name__ == "__main__":
    main()
