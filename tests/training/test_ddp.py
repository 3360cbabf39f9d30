"""`torchrun --nproc_per_node 2` on CPUs: losses and codes of both stages and of LLM-BS are those of one process.

This file is also the command that is started: `forwhy run` with a line of metrics for every step and a checkpoint after
each. Dropout is off: each process has its own draws.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwhy.recipe import RunFolder
from forwhy.vocabulary.index import ItemIndex

pytestmark = pytest.mark.slow
DIE = "FORWHY_TEST_RANK_1_DIES"
TOWN = {"vocabulary.epochs": 2, "vocabulary.batch_size": 64, "explainer.epochs": 3, "explainer.batch_size": 4}
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
RING = {"behaviour.dropout": 0.0, "recommender.annealing.dropout": 0.0}


def trained(
    recipe: Path, out: Path, until: str, options: dict[str, Any], *launcher: str, die: str = ""
) -> Path:
    """A run up to a stage, by one process or by what a launcher starts; `die`: not to its end."""
    sets = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    command = [
        sys.executable,
        *launcher,
        __file__,
        "run",
        str(recipe),
        "--out",
        str(out),
        "--until",
        until,
        *sets,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", DIE: die}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert bool(ended.returncode) == bool(die), ended.stderr[-2000:]
    return out


def curves(run: Path) -> Iterator[tuple[tuple[Any, ...], float]]:
    """Every figure of every line, by what it is of."""
    for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        for kind in ("train", "valid"):
            for name, value in line.get(kind, {}).items():
                yield (line["stage"], line["task"], line["step"], kind, name), value


@pytest.fixture(scope="module")
def alone(tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town's run by one process."""
    return trained(tiny_recipe, tmp_path_factory.mktemp("alone") / "run", "explainer", TOWN)


@pytest.mark.parametrize("die", [False, True])
def test_the_vocabulary_and_the_explainer_of_two_are_those_of_one(
    tiny_recipe: Path, alone: Path, tmp_path: Path, die: bool
) -> None:
    """Also where a process is killed in the middle of stage 2, and the command is given again."""
    given = tiny_recipe, tmp_path / "run", "explainer", TOWN
    if die:
        trained(*given, *TWO, die=f"{tmp_path / 'died'}")
        assert (tmp_path / "died").exists()
    run = trained(*given, *TWO)
    assert dict(curves(run)) == pytest.approx(dict(curves(alone)), rel=1e-5, abs=1e-6)
    one, two = (RunFolder(folder).vocabulary() for folder in (alone, run))
    for side in ("user", "item"):
        assert np.array_equal(one.codes[side], two.codes[side])


def test_llm_bs_of_two_is_that_of_one(tmp_path: Path) -> None:
    from test_next_item_run import TINY, ring, written

    recipe = written(tmp_path, TINY, ring())
    one = trained(recipe, tmp_path / "one", "recommender", RING)
    two = trained(recipe, tmp_path / "two", "recommender", RING, *TWO)
    assert dict(curves(two)) == pytest.approx(dict(curves(one)), rel=1e-5, abs=1e-6)
    codes = [ItemIndex.from_pretrained(folder / "index").codes for folder in (one, two)]
    assert np.array_equal(*codes)


def main() -> int:
    """The command; a process of rank 1 kills itself where it is told to."""
    from forwhy.cli import main as forwhy
    from forwhy.options import LoopConfig
    from forwhy.training import loop

    LoopConfig.model_fields["log_every"].default = 1
    LoopConfig.model_fields["checkpoint_seconds"].default = 0.0
    LoopConfig.model_rebuild(force=True)
    after, mark = loop._Training._after_step, os.environ[DIE]

    def dying(self: loop._Training) -> None:
        after(self)
        if mark and self.name == "explainer" and self.state.step == 3 and os.environ["RANK"] == "1":
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    loop._Training._after_step = dying  # type: ignore[method-assign]
    return forwhy(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
