"""`forwhy fit explainer SYSTEM DATASET`: learn without a recipe of one's own; the result is a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forwhy.cli.console import JsonFlag, emit, show
from forwhy.cli.run import run_line, stage_documents
from forwhy.systems import names

fit_app = typer.Typer(
    help="Learn from a dataset with a system's defaults.", no_args_is_help=True, rich_markup_mode=None
)

SystemName = Annotated[str, typer.Argument(help=f"Which system: {', '.join(names())}.")]
DatasetFolder = Annotated[Path, typer.Argument(help="Dataset folder.")]
RunOut = Annotated[Path, typer.Option("--out", "-o", help="Run folder, new or begun.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="E.g. explainer.train_pairs=640.")]


@fit_app.command("behaviour")
def fit_behaviour(
    system: SystemName,
    dataset: DatasetFolder,
    out: RunOut,
    overrides: Overrides = None,
    as_json: JsonFlag = False,
) -> None:
    """The system's first stage: of BEAT the vocabulary, of XRec the graph vectors."""
    _fit(system, dataset, out, overrides, as_json, None)


@fit_app.command("explainer")
def fit_explainer(
    system: SystemName,
    dataset: DatasetFolder,
    out: RunOut,
    overrides: Overrides = None,
    as_json: JsonFlag = False,
) -> None:
    """A frozen language model that explains, and what it reads; `forwhy evaluate` measures it."""
    _fit(system, dataset, out, overrides, as_json, "explainer")


@fit_app.command("recommender")
def fit_recommender(
    system: SystemName,
    dataset: DatasetFolder,
    out: RunOut,
    overrides: Overrides = None,
    as_json: JsonFlag = False,
) -> None:
    """What predicts the next item of a history; `forwhy recommend` asks it, `forwhy evaluate` measures it."""
    _fit(system, dataset, out, overrides, as_json, "recommender")


def _fit(
    system: str, dataset: Path, out: Path, overrides: list[str] | None, as_json: bool, until: str | None
) -> None:
    """Stages up to `until`; without it the first."""
    from forwhy.recipe import default_recipe, run

    recipe = default_recipe(system, dataset, overrides or ())
    reports = run(recipe, out, until or recipe.plan()[0].name)
    if as_json:
        emit({"run": str(out), "stages": stage_documents(reports)})
    else:
        show(run_line(out, reports))
