"""A system of another package: the example of docs/adding.md, installed from a wheel, runs from recipe to report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from documents import ROOT, blocks
from forwhy.data.dataset import make_dataset

DOCS = ROOT / "docs" / "adding.md"
RECIPE = """name = "markov"
system = "markov"
data.path = "{data}"
evaluation = {{ ks = [1, 5], shuffled_users = 0 }}
"""


def wheel(folder: Path, name: str, source: str, entry: str) -> Path:
    """A wheel of one module with an entry point, as a build tool would write it."""
    path, info = folder / f"{name}-0.1-py3-none-any.whl", f"{name}-0.1.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[forwhy.systems]\n{entry}\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(file, text)
    return path


def installed(folder: Path, entry: str) -> dict[str, str]:
    """The environment in which the example's package is installed."""
    source = blocks(DOCS, "python")[0].text
    made, target = wheel(folder, "forwhy_markov", source, entry), folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*pip, "--target", str(target), str(made)], check=True, capture_output=True)
    paths = [str(target), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def forwhy(environment: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwhy", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People who go around a ring of ten items, one after the other."""
    folder = tmp_path_factory.mktemp("markov")
    starts, splits = np.random.default_rng(0).integers(0, 10, 30), [*["train"] * 4, "valid", "test"]
    rows = [
        (f"u{user}", f"i{(start + step) % 10}", step, splits[step])
        for user, start in enumerate(starts.tolist())
        for step in range(6)
    ]
    table = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "split"], orient="row")
    make_dataset("ring", {"interactions": table}).save(folder / "ring")
    (folder / "markov.toml").write_text(RECIPE.format(data=folder / "ring"))
    return folder / "markov.toml"


@pytest.mark.slow
def test_the_example_runs_from_recipe_to_report(recipe: Path, tmp_path: Path) -> None:
    environment = installed(tmp_path, "markov = forwhy_markov:Markov")
    run, report = tmp_path / "run", tmp_path / "report.html"
    done = forwhy(environment, "run", recipe, "--out", run, "--json")
    assert done.returncode == 0, done.stderr
    ranking = json.loads((run / "evaluation.json").read_text())["ranking"]
    assert ranking["recall@1"] == 1.0  # what follows on a ring is certain
    listed = forwhy(environment, "recommend", run, "--history", "i3,i4", "-k", "1", "--json")
    assert json.loads(listed.stdout)["items"][0]["item_id"] == "i5"
    told = forwhy(environment, "evaluate", run, "--report", report)
    assert told.returncode == 0, told.stderr
    assert "markov" in report.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("markov = forwhy_markov:Missing", "forwhy_markov:Missing cannot be loaded"),
        ("markov = forwhy_markov:MarkovOptions", "is no forwhy.systems.System"),
        ("marcov = forwhy_markov:Markov", "did you mean 'marcov'?"),
    ],
)
def test_a_package_that_is_wrong_is_named(recipe: Path, tmp_path: Path, entry: str, said: str) -> None:
    refused = forwhy(installed(tmp_path, entry), "run", recipe, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert said in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
