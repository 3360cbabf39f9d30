"""Whether a change of the code changed any figure or text: `python -m benchmarks.unchanged --against REV`.

Every system runs, small but real, on the little town or on drawn histories. Only what users see is used: the command
line, recipes, files of run folders; so one script judges old and new code. What they say goes into one JSON document,
without what may vary (`MASKED`). `--out FILE` writes that of one source folder, `--compare OLD NEW` lists every
difference of two, `--against REV` runs both sides and compares. Exit status 1: something differs, or a command failed.
A side takes about four minutes of one core.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[1]
MASKED = frozenset({"seconds", "ranking_seconds_per_user", "peak_memory_mib"})
"""Keys that are left out; folders become WORK and SOURCE."""
QUIET = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "COLUMNS": "110",
    "NO_COLOR": "1",
    "PYTHONSAFEPATH": "1",
    "PYTHONWARNINGS": "ignore",
}
"""Environment of each command: one thread, no GPU, no network, lines of one width."""

TOWN = "users=60, items=40, visits=10, explanations=(60, 12, 20)"
USERS, ITEMS = 80, 36
"""Of the drawn histories."""
BEAT = """
name = "NAME"
seed = 3
[data]
path = "town"
[intents]
training_explanations = false
[vocabulary]
codes = 16
slot_dim = 4
text_dims = 8
epochs = 3
batch_size = 256
text_batch = 32
"""
XREC = """
name = "NAME"
system = "xrec"
seed = 3
[data]
path = "town"
protocol = "zero-shot"
zero_shot_users = 0.5
[collaborative]
dims = 8
epochs = 3
"""
READER = """
[explainer]
model = "smollm2-135m"
train_pairs = 12
validation_pairs = 4
batch_size = 4
epochs = 1
lr = 1e-2
[explainer.generation]
max_words = 24
max_new_tokens = 24
no_repeat = 4
[evaluation]
pairs = 8
generate = 6
"""
POPULARITY = """
name = "toys"
system = "popularity"
seed = 3
[data]
path = "toys"
[evaluation]
ks = [1, 5, 10]
shuffled_users = 40
"""
NEXT_ITEM = """
name = "next-item"
base = "popularity.toml"
[rows.popularity]
[rows.item-knn]
system = "item-knn"
recommender = { decay = 0.6, shrink = 5.0 }
[rows.sasrec]
system = "sasrec"
recommender = { dims = 16, epochs = 3, batch_size = 16, learning_rate = 1e-2 }
[rows.gru4rec]
system = "gru4rec"
recommender = { dims = 16, hidden = 16, epochs = 3, batch_size = 16, learning_rate = 1e-2 }
[rows.tiger]
system = "tiger"
index = { width = 8, depth = 2, epochs = 2 }
[rows.tiger.recommender]
layers = 1
dims = 16
heads = 2
head_dims = 8
feedforward = 16
epochs = 2
beam = 10
learning_rate = 1e-2
[rows.llm-bs]
system = "llm-bs"
behaviour = { network = "din", dims = 16, epochs = 3, batch_size = 16, negatives = 12 }
index = { width = 4 }
[rows.llm-bs.recommender]
epochs = 2
patience = 0
batch_size = 16
learning_rate = 1e-2
beam = 12
window = 6
stride = 3
backbone = { layers = 2, dims = 32, heads = 2, feedforward = 32, text_tokens = 400 }
tasks = { item_to_index = 1.0, index_to_item = 0.5, fused = 0.5, preference = 0.5 }
annealing = { epochs = 1 }
[rows.llm-bs-spectral]
system = "llm-bs"
behaviour = { network = "spectral", dims = 8 }
index = { source = "behaviour", width = 4 }
[rows.llm-bs-spectral.recommender]
epochs = 2
patience = 0
batch_size = 16
learning_rate = 1e-2
beam = 12
softmax = "vocab"
contrast = { in_batch = true }
backbone = { layers = 1, dims = 32, heads = 2, feedforward = 32 }
"""
ROWS = ("popularity", "item-knn", "sasrec", "gru4rec", "tiger", "llm-bs", "llm-bs-spectral")
TABLES = ("outputs", "outputs-warm", "ranking")
"""What an evaluation keeps of each pair or user."""
MISSING = "(missing)"

Found = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """Code to judge, and the folder where its commands run."""

    source: Path
    work: Path
    verbose: bool = False
    failed: list[str] = field(default_factory=list)

    def python(self, cache: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs Python on this code; text vectors are kept per job, since they vary with what shares a batch."""
        folder = self.work / "caches" / cache
        share_models(folder)
        paths = {"PYTHONPATH": str(self.source), "FORWHY_CACHE": str(folder)}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.work,
            env=os.environ | QUIET | paths,
            capture_output=True,
            text=True,
            check=False,
        )
        if self.verbose:
            print(
                f"{time.perf_counter() - start:5.1f} s  {' '.join(words)[:90]}", file=sys.stderr, flush=True
            )
        return done

    def masked(self, value: object) -> object:
        """A document without what may vary."""
        if isinstance(value, dict):
            return {str(key): self.masked(one) for key, one in value.items() if key not in MASKED}
        if isinstance(value, list | tuple):
            return [self.masked(one) for one in value]
        if isinstance(value, str):
            return value.replace(str(self.work), "WORK").replace(str(self.source), "SOURCE")
        return value if value is None or isinstance(value, int | float) else str(value)


@dataclass(frozen=True)
class Job:
    """Commands that one process after the other runs, and what they said."""

    name: str
    side: Side
    found: Found = field(default_factory=dict)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One command that should succeed."""
        done = self.side.python(self.name, "-m", "forwhy", *words)
        if done.returncode:
            self.side.failed.append(f"forwhy {' '.join(words)}: {done.stderr.strip()[-600:]}")
        return done

    def told(self, key: str, *words: str) -> None:
        """What a command says as JSON."""
        done = self.run(*words, "--json")
        said = json.loads(done.stdout) if done.returncode == 0 else {"exit": done.returncode}
        self.found[key] = self.side.masked(said)

    def shown(self, key: str, *words: str) -> None:
        """What a command says in a terminal, line by line."""
        self.found[key] = self.side.masked([line.rstrip() for line in self.run(*words).stdout.splitlines()])

    def refused(self, key: str, *words: str) -> None:
        """How a command says that it can't."""
        done = self.side.python(self.name, "-m", "forwhy", *words)
        said = (done.stdout + done.stderr).splitlines()
        self.found[key] = {"exit": done.returncode, "says": self.side.masked(said)}

    def trained(self, key: str, folder: str) -> None:
        """Everything that a run folder says of itself."""
        place = self.side.work / folder
        self.found[key] = self.side.masked(
            {
                "files": sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()),
                "recipe": read(place / "recipe.toml", tomllib.loads),
                "evaluation": read(place / "evaluation.json", json.loads),
                "metrics": read(place / "metrics.jsonl", by_task),
                **{name: rows_of(place / f"{name}.parquet") for name in TABLES},
            }
        )


def main() -> None:
    """Runs, compares, prints."""
    options = parsed()
    if options.compare:
        old, new = (json.loads(path.read_text(encoding="utf-8")) for path in options.compare)
        sys.exit(reported(old, new, options.tolerance))
    if options.against is None and options.out is None:
        sys.exit("nothing to do; give --out FILE, --against REV or --compare OLD NEW")
    names = selected(options.only)
    old = None if options.against is None else old_side(options, names)
    new, failed = collected(options.source.resolve(), names, options)
    if options.out is not None:
        write(options.out, new)
    sys.exit(bool(failed) if old is None else reported(old, new, options.tolerance) or bool(failed))


def parsed() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="file for the document of --source")
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="folder with forwhy")
    parser.add_argument("--against", metavar="REV", help="commit to compare --source with")
    parser.add_argument("--keep", type=Path, help="folder that keeps documents of --against")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("OLD", "NEW"), help="compare only")
    parser.add_argument("--only", help=f"of {','.join(JOBS)}")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--tolerance", type=float, default=0.0, help="of numbers, absolute and relative")
    parser.add_argument("--verbose", action="store_true", help="say what each command took")
    return parser.parse_args()


def selected(only: str | None) -> list[str]:
    """Names of jobs; those whose runs are compared come with `tables`."""
    asked = list(JOBS) if only is None else only.split(",")
    unknown = sorted(set(asked) - set(JOBS))
    if unknown:
        sys.exit(f"--only {','.join(unknown)}: not one of {','.join(JOBS)}")
    return [name for name in JOBS if name in asked or ("tables" in asked and name in COMPARED)]


def collected(source: Path, names: Sequence[str], options: argparse.Namespace) -> tuple[Found, list[str]]:
    """What all jobs found on this code, and the commands that failed."""
    with tempfile.TemporaryDirectory(prefix="unchanged-") as folder:
        side = Side(source, Path(folder).resolve(), options.verbose)
        prepare(side)
        with ThreadPoolExecutor(options.jobs) as pool:
            early = [name for name in names if name != "tables"]
            documents = dict(zip(early, pool.map(lambda name: finished(name, side), early), strict=True))
        if "tables" in names:
            documents["tables"] = finished("tables", side)
    for line in side.failed:
        print(f"failed: {line}", file=sys.stderr)
    return documents, side.failed


def finished(name: str, side: Side) -> Found:
    """One job, done."""
    job = Job(name, side)
    JOBS[name](job)
    return job.found


def prepare(side: Side) -> None:
    """The data sets of all jobs, made by the code that is judged; exits when it is other code, or can't."""
    make = f"import forwhy; forwhy.little_town({TOWN}).save('town'); print(forwhy.__file__)"
    done = side.python("data", "-c", make)
    if done.returncode or not done.stdout.strip().startswith(str(side.source)):
        sys.exit(f"{side.source}: no forwhy that makes its little town: {done.stdout}{done.stderr}")
    histories(side.work / "raw")
    done = side.python("data", "-m", "forwhy", "data", "import", "lcrec", "raw", "toys")
    if done.returncode:
        sys.exit(f"{side.source}: histories are not imported: {done.stderr}")


def histories(folder: Path) -> None:
    """LC-Rec's files of people who take item after item around a ring, with a few leaps and repeats."""
    rng = np.random.default_rng(5)
    colours = ("red", "blue", "green", "small", "large", "old", "new")
    things = ("lamp", "chair", "brush", "soap", "kettle")
    taken: dict[str, list[int]] = {}
    for user in range(USERS):
        steps = np.where(rng.random(rng.integers(6, 12)) < 0.3, rng.integers(0, 6), 1)
        taken[f"u{user}"] = ((int(rng.integers(ITEMS)) + np.cumsum(steps)) % ITEMS).tolist()
    items = {
        str(item): {
            "title": f"{colours[item % 7]} {things[item % 5]} {item}",
            "description": f"A {colours[item * 3 % 7]} {things[item % 5]} for {item % 4 + 1} people.",
            "categories": things[item % 5],
        }
        for item in range(ITEMS)
    }
    folder.mkdir()
    (folder / "toys.inter.json").write_text(json.dumps(taken), encoding="utf-8")
    (folder / "toys.item.json").write_text(json.dumps(items), encoding="utf-8")


def share_models(cache: Path) -> None:
    """A cache with the models of this machine, and nothing else of it."""
    if cache.exists():
        return
    cache.mkdir(parents=True)
    common = Path(os.environ.get("FORWHY_CACHE") or Path.home() / ".cache" / "forwhy")
    for path in common.iterdir():
        if path.name != "vectors":
            (cache / path.name).symlink_to(path)


def explaining(job: Job, recipe: str, *changes: str) -> None:
    """A run on the little town, and its commands for somebody in it."""
    (job.side.work / f"{job.name}.toml").write_text(recipe.replace("NAME", job.name), encoding="utf-8")
    job.run("run", f"{job.name}.toml", "--out", job.name, *(f"--set={change}" for change in changes))
    job.trained("run", job.name)
    user, item = person(job.side)
    job.told("explain user", "explain", job.name, "--user", user, "--item", item)
    job.told("recommend user", "recommend", job.name, "--user", user, "-k", "5")
    job.told("recommend history", "recommend", job.name, "--history", item, "-k", "5")
    job.shown("evaluate", "evaluate", job.name)


def person(side: Side) -> tuple[str, str]:
    """The first explained test pair of the town."""
    frame = pl.read_parquet(side.work / "town" / "explanations.parquet").filter(pl.col("split") == "test")
    return frame["user_id"][0], frame["item_id"][0]


def beat(job: Job) -> None:
    """BEAT, its words, and what it refuses."""
    explaining(job, BEAT + READER, "explainer.sar.gamma=1.0")
    user, item = person(job.side)
    job.told("explain history", "explain", job.name, "--history", item, "--item", item)
    job.shown("recommend", "recommend", job.name, "--user", user)
    job.told("vocabulary", "vocabulary", job.name)
    job.shown("vocabulary text", "vocabulary", job.name)
    job.refused("unknown user", "recommend", job.name, "--user", "nobody")
    job.refused("unknown key", "run", f"{job.name}.toml", "--out", "refused", "--set", "vocabulary.epoch=3")


def words(job: Job) -> None:
    """BEAT for models that only take text."""
    explaining(job, BEAT + READER, "explainer.reader=words", "explainer.words.examples=1")


def xrec(job: Job) -> None:
    """XRec, on people without texts too."""
    explaining(job, XREC + READER)


def next_item(job: Job) -> None:
    """Every system of the next item as a table of runs, and their commands."""
    (job.side.work / "popularity.toml").write_text(POPULARITY, encoding="utf-8")
    (job.side.work / "next-item.toml").write_text(NEXT_ITEM, encoding="utf-8")
    job.run("run", "next-item.toml", "--out", "next-item")
    for row in ROWS:
        job.trained(f"run {row}", f"next-item/{row}")
    for row in ROWS:
        job.told(f"recommend {row}", "recommend", f"next-item/{row}", "--history", "3,4, 5", "-k", "5")
    for row in ("item-knn", "llm-bs"):
        job.told(f"recommend {row} user", "recommend", f"next-item/{row}", "--user", "u7", "-k", "5")
    runs = [f"next-item/{row}" for row in ROWS]
    job.told("evaluate", "evaluate", *runs)
    job.shown("evaluate text", "evaluate", *runs)
    job.shown("evaluate llm-bs", "evaluate", "next-item/llm-bs")
    job.refused("unknown item", "recommend", "next-item/item-knn", "--history", "3,99")
    job.refused("explain", "explain", "next-item/popularity", "--user", "u7", "--item", "3")


def data(job: Job) -> None:
    """What is said of data, made from it without training, and learned by `fit`."""
    for name in ("town", "toys"):
        for verb in ("show", "audit"):
            job.told(f"{verb} {name}", "data", verb, name)
            job.shown(f"{verb} {name} text", "data", verb, name)
    for kind in ("intents", "profiles"):
        job.told(f"mine {kind}", "mine", kind, "town", "--extractive", "--out", f"mined-{kind}")
        job.found[f"mined {kind}"] = rows_of(job.side.work / f"mined-{kind}" / f"{kind}.parquet")
    job.told("indices", "indices", "build", "toys", "--out", "index", "--width", "8")
    job.shown("indices text", "indices", "show", "index")
    job.run("indices", "export", "index", "toys.index.json")
    job.found["indices export"] = read(job.side.work / "toys.index.json", json.loads)
    job.run("fit", "behaviour", "beat", "town", "--out", "fit", "--set=vocabulary.epochs=1")
    job.trained("fit", "fit")
    job.refused("no data", "data", "show", "nowhere")


def tables(job: Job) -> None:
    """Runs that explain, side by side."""
    job.told("evaluate", "evaluate", *COMPARED)
    job.shown("evaluate text", "evaluate", *COMPARED)


JOBS: dict[str, Callable[[Job], None]] = {
    "next-item": next_item,
    "beat": beat,
    "words": words,
    "xrec": xrec,
    "data": data,
    "tables": tables,
}
"""Longest first; `tables` waits for the others."""
COMPARED = ("beat", "words", "xrec")


def read(path: Path, reader: Callable[[str], object]) -> object:
    """A file, read; `MISSING` where there is none."""
    return reader(path.read_text(encoding="utf-8")) if path.is_file() else MISSING


def rows_of(path: Path) -> object:
    """A table's columns and rows."""
    if not path.is_file():
        return MISSING
    frame = pl.read_parquet(path)
    columns = {name: str(kind) for name, kind in frame.schema.items()}
    return {"columns": columns, "rows": frame.to_dicts()}


def by_task(lines: str) -> Found:
    """Metrics of each training, in their order."""
    found: dict[str, list[Found]] = {}
    for line in map(json.loads, lines.splitlines()):
        found.setdefault(f"{line['stage']} {line['task']}", []).append(line)
    return found


def old_side(options: argparse.Namespace, names: Sequence[str]) -> Found:
    """The document of a commit, kept by its hash and this script's."""
    commit = git("rev-parse", "--verify", f"{options.against}^{{commit}}")
    script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    stem = f"unchanged-{commit[:12]}-{script}"
    narrow = "" if len(names) == len(JOBS) else "-" + "+".join(names)
    kept = [options.keep / f"{stem}{ending}.json" for ending in ("", narrow)] if options.keep else []
    for path in kept:
        if path.is_file():
            whole = json.loads(path.read_text(encoding="utf-8"))
            return {name: whole[name] for name in names}
    with checked_out(commit) as folder:
        found, failed = collected(folder / "src", names, options)
    if kept and not failed:
        write(kept[-1], found)
    return found


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A work tree of a commit, for a while."""
    place = Path(tempfile.mkdtemp(prefix="unchanged-tree-")).resolve()
    try:
        git("worktree", "add", "--detach", str(place / "tree"), commit)
        yield place / "tree"
    finally:
        git("worktree", "remove", "--force", str(place / "tree"))
        shutil.rmtree(place, ignore_errors=True)


def git(*words: str) -> str:
    """What git says."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def write(path: Path, document: Found) -> None:
    """One JSON file, keys sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def reported(old: Found, new: Found, tolerance: float) -> int:
    """Prints every difference; 1 if there is any."""
    old, new = (json.loads(json.dumps(one)) for one in (old, new))
    found = list(differences(old, new, "", tolerance))
    for line in found:
        print(line)
    print(f"{len(found):,} differences in {leaves(old):,} values")
    return int(bool(found))


def leaves(value: object) -> int:
    """How many values a document has."""
    if isinstance(value, dict | list):
        return sum(map(leaves, value.values() if isinstance(value, dict) else value))
    return 1


def differences(old: object, new: object, path: str, tolerance: float) -> Iterator[str]:
    """One line for each value that differs, is new or is gone."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}/{key}" if path else key
            yield from differences(old.get(key, MISSING), new.get(key, MISSING), below, tolerance)
    elif isinstance(old, list) and isinstance(new, list):
        for at in range(max(len(old), len(new))):
            left, right = (one[at] if at < len(one) else MISSING for one in (old, new))
            yield from differences(left, right, f"{path}[{at}]", tolerance)
    elif not same(old, new, tolerance):
        yield f"{path}: {short(old)} -> {short(new)}"


def same(old: object, new: object, tolerance: float) -> bool:
    """Whether two values are equal: of one type, and to the last bit without a tolerance."""
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (old, new))
    if numbers and tolerance:
        return math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance) or repr(old) == repr(new)  # type: ignore[arg-type]
    return repr(old) == repr(new)


def short(value: object, limit: int = 300) -> str:
    """A value in one line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


if __name__ == "__main__":
    main()
