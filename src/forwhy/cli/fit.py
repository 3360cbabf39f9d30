"""`forwhy fit explainer SYSTEM DATASET`: learn without a recipe of one's own; the result is a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from forwhy.cli.console import JsonFlag, emit, show
from forwhy.cli.run import run_line, stage_documents

fit_app = typer.Typer(
    help="Learn from a dataset with a system's defaults.", no_args_is_help=True, rich_markup_mode=None
)

SystemName = Annotated[Literal["beat", "xrec"], typer.Argument(help="Which system.")]
RecommenderName = Annotated[
    Literal["llm-bs", "tiger", "sasrec", "gru4rec"], typer.Argument(help="Which system.")
]
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
    """What stands for users and items: BEAT's vocabulary or XRec's graph vectors."""
    _fit(system, dataset, out, overrides, as_json, 0)


@fit_app.command("explainer")
def fit_explainer(
    system: SystemName,
    dataset: DatasetFolder,
    out: RunOut,
    overrides: Overrides = None,
    as_json: JsonFlag = False,
) -> None:
    """The same, and a frozen language model that learns to read it; `forwhy evaluate` measures it."""
    _fit(system, dataset, out, overrides, as_json, -2)


@fit_app.command("recommender")
def fit_recommender(
    system: RecommenderName,
    dataset: DatasetFolder,
    out: RunOut,
    overrides: Overrides = None,
    as_json: JsonFlag = False,
) -> None:
    """What predicts the next item of a history; `forwhy recommend` asks it, `forwhy evaluate` measures it."""
    _fit(system, dataset, out, overrides, as_json, -2)


def _fit(
    system: str, dataset: Path, out: Path, overrides: list[str] | None, as_json: bool, last: int
) -> None:
    """Stages up to the one at `last` of the plan."""
    from forwhy.recipe import default_recipe, plan, run

    recipe = default_recipe(system, dataset, overrides or ())
    until = plan(recipe)[last].stage
    reports = run(recipe, out, until)
    if as_json:
        emit({"run": str(out), "stages": stage_documents(reports)})
    else:
        show(run_line(out, reports))
