"""Runs and files as one kind of thing: texts of pairs, the data set they are about, what is recorded."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.evaluate.compare import Scored
from forwhy.evaluate.reading import Reading, held_out_keys, match, read_outputs
from forwhy.recipe.examine.request import Request, named
from forwhy.recipe.folder import RunFolder
from forwhy.recipe.runner import run as run_stages

if TYPE_CHECKING:
    from forwhy.graph.representations import Representations
    from forwhy.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """A run or a file."""

    name: str
    texts: Reading | None
    """None for a run without an explainer."""
    dataset: Dataset | None
    """None for a file that was given none."""
    run: RunFolder | None = None
    document: dict[str, Any] = field(default_factory=dict)
    """What the run has recorded of itself."""

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The run's, read once; None for a file, or a system without one."""
        from forwhy.vocabulary.vocabulary import Vocabulary

        return self.behaviour if isinstance(self.behaviour, Vocabulary) else None

    @cached_property
    def behaviour(self) -> Representations | None:
        """What stands for users and items, read once; None for a file, or a system without explanations."""
        if self.run is None:
            return None
        return self.run.behaviour() if hasattr(self.run.recipe, "explainer") else None


def subjects(request: Request) -> list[Subject]:
    """Everything that was asked for, read and matched; runs first.

    Raises:
        UserError: an unreadable run, file or data set; no pairs in common where these were asked for.
    """
    runs, files = named(request)
    found = [_run(name, RunFolder.open(path), request.again) for name, path in runs.items()]
    dataset = Dataset.load(request.data) if request.data is not None else _shared(found)
    read = {name: read_outputs(path, request.references) for name, path in files.items()}
    if request.references is not None and all(reading.has_references for reading in read.values()):
        raise UserError("--references: every file of outputs has its own; leave the option out")
    found += [
        Subject(name, reading if dataset is None else match(name, reading, dataset), dataset)
        for name, reading in read.items()
    ]
    given = dataset if request.data is not None else None
    return _on_common_pairs(found, given) if request.common else found


def recorded(folder: RunFolder, again: bool) -> dict[str, Any]:
    """The recorded evaluation, one made now, or that of stage 1 alone while nothing else is there."""
    if again:
        (folder.path / "evaluation.json").unlink(missing_ok=True)
    if folder.has("evaluation"):
        return folder.evaluation()
    recipe, dataset = folder.recipe, folder.dataset()
    early = recipe.measure_early(folder)
    if early is not None:
        log.info("%s: the explainer is not trained yet: only stage 1 is measured", folder.path)
        return early
    for step in recipe.plan()[:-1]:
        if not recipe.left_out(step, dataset):
            folder.output(step.name)  # refuses what is not trained
    run_stages(recipe, folder.path, dataset=dataset)
    return folder.evaluation()


def ranking(subject: Subject) -> Scored | None:
    """What a run's ranking gave each user; None for a file.

    Kept by systems of the next item; of others, which record their means only, made again.
    """
    found = None if subject.run is None else subject.run.recipe.user_metrics(subject.run)
    return None if found is None else Scored(subject.name, *found)


def _run(name: str, folder: RunFolder, again: bool) -> Subject:
    document, dataset = recorded(folder, again), folder.dataset()
    outputs = folder.outputs() if folder.has("evaluation") else None
    texts = None if outputs is None else match(name, Reading.of(outputs), dataset)
    return Subject(name, texts, dataset, folder, document)


def _shared(runs: list[Subject]) -> Dataset | None:
    """The data set of all runs, when it is one."""
    known = {run.dataset.fingerprint: run.dataset for run in runs if run.dataset is not None}
    return next(iter(known.values())) if len(known) == 1 else None


def _on_common_pairs(found: list[Subject], dataset: Dataset | None) -> list[Subject]:
    """The same subjects on the pairs that all of them have."""
    keys = [set(subject.texts.keys) for subject in found if subject.texts is not None]
    if dataset is not None:
        keys.append(held_out_keys(dataset))
    common = set.intersection(*keys) if keys else set()
    if len(common) < 2:
        raise UserError(
            f"--common: {len(common)} pairs in common; give outputs of the same pairs, and lists a --data FOLDER "
            "that knows their references"
        )
    return [
        replace(subject, texts=subject.texts.take(_rows(subject.texts, common)))
        if subject.texts is not None
        else subject
        for subject in found
    ]


def _rows(texts: Reading, keys: set[Any]) -> list[int]:
    return [row for row, key in enumerate(texts.keys) if key in keys]
