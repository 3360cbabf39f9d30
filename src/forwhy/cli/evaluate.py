"""`forwhy evaluate RUN`: the numbers of a run, each beside its controls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwhy.cli.console import JsonFlag, emit, log, show_evaluation

if TYPE_CHECKING:
    from forwhy.recipe import RunFolder


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    again: Annotated[bool, typer.Option("--again", help="Measure anew even if it was done.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a run's evaluation; measure what is missing."""
    from forwhy.recipe import RunFolder

    document = _document(RunFolder.open(run), again)
    if as_json:
        emit(document)
    else:
        show_evaluation(document)


def _document(folder: RunFolder, again: bool) -> dict[str, Any]:
    """The recorded evaluation, one made now, or that of the vocabulary alone while nothing else is there."""
    from forwhy.recipe import run as run_stages

    if again:
        (folder.path / "evaluation.json").unlink(missing_ok=True)
    if folder.has("evaluation"):
        return folder.evaluation()
    dataset = folder.dataset()
    if folder.has("explainer") or not len(dataset.pairs("train")):
        run_stages(folder.recipe, folder.path, dataset=dataset)
        return folder.evaluation()
    from forwhy.recipe.stages import evaluate_run

    log.info("the explainer is not trained yet: only the vocabulary is measured")
    return evaluate_run(folder.recipe, dataset, folder.vocabulary(), None).document
