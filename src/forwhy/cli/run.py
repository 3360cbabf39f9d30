"""`forwhy run RECIPE --out RUN`: every stage in order; of a table of runs, every row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwhy.cli.console import JsonFlag, emit, show, show_evaluation, show_examination

if TYPE_CHECKING:
    from forwhy.recipe import Grid, StageReport


def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/xrec-yelp.toml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder, new or begun.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="E.g. data.path=out/yelp.")] = None,
    until: Annotated[
        str, typer.Option(help="Last stage, such as vocabulary, explainer or recommender.")
    ] = "evaluation",
    as_json: JsonFlag = False,
) -> None:
    """Bring a run, or a table of runs, up to date: unchanged stages are skipped, a killed run goes on."""
    from forwhy.recipe import RunFolder, load_grid, load_recipe
    from forwhy.recipe import run as run_stages

    grid = load_grid(recipe, overrides or ())
    if grid is not None:
        _run_grid(grid, out, until, as_json)
        return
    reports = run_stages(load_recipe(recipe, overrides or ()), out, until)
    evaluation = RunFolder(out).evaluation() if until == "evaluation" else None
    if as_json:
        emit({"run": str(out), "stages": stage_documents(reports), "evaluation": evaluation})
    elif evaluation is not None:
        show_evaluation(evaluation)
    else:
        show(run_line(out, reports))


def _run_grid(grid: Grid, out: Path, until: str, as_json: bool) -> None:
    """The rows one by one, then all of them in one table, as `forwhy evaluate` shows them."""
    from forwhy.recipe import run_grid
    from forwhy.recipe.evaluated import Request
    from forwhy.recipe.examine import examine

    reports = run_grid(grid, out, until)
    runs = [out / row for row in reports]
    found = examine(Request(runs=runs)) if until == "evaluation" else None
    if as_json:
        rows = {row: stage_documents(reports[row]) for row in reports}
        table = None if found is None else found.document()
        emit({"name": grid.name, "budget": grid.budget(), "stages": rows, "evaluation": table})
    elif found is not None:
        show_examination(found)
        show(*grid.budget())
    else:
        show(*(run_line(out / row, reports[row]) for row in reports), *grid.budget())


def stage_documents(reports: Sequence[StageReport]) -> Mapping[str, object]:
    """Stage -> what happened to it, for JSON."""
    return {report.stage: {"action": report.action, "seconds": report.seconds} for report in reports}


def run_line(out: Path, reports: Sequence[StageReport]) -> str:
    """The same for a reader, on one line."""
    return f"{out}: {', '.join(f'{report.stage} {report.action}' for report in reports)}"
