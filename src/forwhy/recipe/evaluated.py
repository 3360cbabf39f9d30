"""What is evaluated together: runs and files of texts, each with its pairs, its data set and what is recorded."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import NonNegativeInt, field_validator, model_validator

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.evaluate.controls import TextTable
from forwhy.evaluate.grounding import GroundingTable
from forwhy.evaluate.reading import Outputs, held_out_keys, match, read_outputs
from forwhy.evaluate.registry import METRICS
from forwhy.options import Options
from forwhy.recipe.runner import RunFolder
from forwhy.recipe.runner import run as run_stages

log = logging.getLogger(__name__)


class Request(Options):
    """Runs and files to evaluate together, and how."""

    runs: tuple[Path, ...] = ()
    """Run folders."""
    outputs: tuple[str, ...] = ()
    """Files of texts from elsewhere, each `NAME=FILE` or `FILE`."""
    references: Path | None = None
    """References of outputs that have none, row by row."""
    data: Path | None = None
    """Data set that the outputs are about; by default that of the runs."""
    metrics: tuple[str, ...] = ()
    """Text metrics to show and compare, with commas; fewer can survive more."""
    encoder: str | None = None
    """For similarity and grounding: as in recipes, or none; by default that of the first run, else minilm."""
    grounding: bool | None = None
    """What of the texts is supported by what is known; where possible."""
    bertscore: str | None = None
    """Encoder of BERTScore: Hub id or folder."""
    bartscore: str | None = None
    """Language model of BARTScore: Hub id or folder."""
    bleurt: str | None = None
    """Checkpoint of BLEURT: Hub id or folder."""
    common: bool = False
    """Only pairs that all of them have, and that are held-out pairs of the data set where one was given."""
    seed: NonNegativeInt = 0
    """Which pairs are dealt, which constants are tried, which permutations are drawn."""
    again: bool = False
    """Measure runs anew even if it was done."""

    @field_validator("metrics", mode="before")
    @classmethod
    def _by_commas(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return [name.strip() for name in given.split(",") if name.strip()]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.references is not None and not self.outputs:
            raise UserError("--references: no outputs that these belong to; give --outputs FILE too")
        if not self.runs and not self.outputs:
            raise UserError("nothing to evaluate: give a run folder, or --outputs FILE")
        for metric in self.metrics:
            if metric not in METRICS:
                near = difflib.get_close_matches(metric, METRICS, n=1, cutoff=0.0)
                raise UserError(f"--metrics: no text metric {metric!r}; did you mean {near[0]!r}?")
        return self


@dataclass
class Evaluated:
    """A run or a file: its texts, and what is known and measured of them."""

    name: str
    texts: Outputs
    """Empty for a run without an explainer."""
    dataset: Dataset | None
    """None for a file that was given none."""
    run: RunFolder | None = None
    document: dict[str, Any] = field(default_factory=dict)
    """What the run has recorded of itself."""
    table: TextTable | None = None
    """The texts scored beside their controls."""
    grounding: GroundingTable | None = None


def read_all(request: Request) -> list[Evaluated]:
    """Runs, then files of outputs, each matched with its data set and not yet scored."""
    runs, files = named(request)
    found = [_read_run(name, RunFolder.open(path), request.again) for name, path in runs.items()]
    sets = {run.dataset.fingerprint: run.dataset for run in found if run.dataset is not None}
    dataset = next(iter(sets.values())) if len(sets) == 1 else None
    if request.data is not None:
        dataset = Dataset.load(request.data)
    read = {name: read_outputs(path, request.references) for name, path in files.items()}
    if request.references is not None and all(reading.has_references for reading in read.values()):
        raise UserError("--references: every file of outputs has its own; leave the option out")
    for name, reading in read.items():
        texts = reading if dataset is None else match(name, reading, dataset)
        found.append(Evaluated(name, texts, dataset))
    if request.common:
        _keep_common(found, dataset if request.data is not None else None)
    return found


def recorded(folder: RunFolder, again: bool) -> dict[str, Any]:
    """The recorded evaluation, one made now, or that of what is learned so far; a UserError if a stage is not made."""
    if folder.has("evaluation") and not again:
        return folder.evaluation()
    recipe, dataset = folder.recipe, folder.dataset()
    early = recipe.measure_early(folder)
    if early is not None:
        log.info("%s: the explainer is not trained yet: only stage 1 is measured", folder.path)
        return early
    for step in recipe.plan()[:-1]:
        if not recipe.left_out(step, dataset):
            folder.output(step.name)  # refuses what is not trained
    run_stages(recipe, folder.path, dataset=dataset, again=again)
    return folder.evaluation()


def named(request: Request) -> tuple[dict[str, Path], dict[str, Path]]:
    """Runs and files by name: what is given before `=`, else the folder's name or file's stem, longer where equal."""
    chosen, files = {}, []
    for given in request.outputs:
        name, equals, file = given.partition("=")
        if not equals or Path(given).is_file():
            files.append(Path(given))
        elif not name.strip() or not file or name in chosen:
            raise UserError(f"--outputs {given}: give each file a name of its own, as NAME=FILE")
        else:
            chosen[name] = Path(file)
    tails = {path: Path(os.path.realpath(path)).parts for path in request.runs}
    tails |= {path: Path(os.path.realpath(path)).with_suffix("").parts for path in files}
    if len(tails) < len(request.runs) + len(files):
        raise UserError("one run or file is given twice; give each once, or a file a name with NAME=FILE")
    names = {path: _shortest(parts, list(tails.values()), set(chosen)) for path, parts in tails.items()}
    return {names[path]: path for path in request.runs}, {names[path]: path for path in files} | chosen


def _shortest(own: tuple[str, ...], all_parts: Sequence[tuple[str, ...]], taken: set[str]) -> str:
    """The fewest last parts of a path that no other one ends with."""
    for length in range(1, len(own) + 1):
        name = "/".join(own[-length:])
        if name not in taken and sum(parts[-length:] == own[-length:] for parts in all_parts) == 1:
            return name
    raise UserError(f"{'/'.join(own)}: stands for two of the runs and files; name one with NAME=FILE")


def _read_run(name: str, folder: RunFolder, again: bool) -> Evaluated:
    document, dataset = recorded(folder, again), folder.dataset()
    outputs = folder.outputs() if folder.has("evaluation") else None
    texts = Outputs.of((), (), ()) if outputs is None else match(name, outputs, dataset)
    return Evaluated(name, texts, dataset, folder, document)


def _keep_common(found: Sequence[Evaluated], dataset: Dataset | None) -> None:
    keys = [set(one.texts.keys) for one in found if len(one.texts)]
    if dataset is not None:
        keys.append(held_out_keys(dataset))
    common = set.intersection(*keys) if keys else set()
    if len(common) < 2:
        raise UserError(
            f"--common: {len(common)} pairs in common; give outputs of the same pairs, and lists a --data FOLDER "
            "that knows their references"
        )
    for one in found:
        one.texts = one.texts.take([row for row, key in enumerate(one.texts.keys) if key in common])
