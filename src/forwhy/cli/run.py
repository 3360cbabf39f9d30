"""`forwhy run RECIPE --out RUN`: every stage in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from forwhy.cli.console import JsonFlag, emit, show, show_evaluation


def run(
    recipe: Annotated[Path, typer.Argument(help="A TOML recipe, e.g. recipes/xrec-yelp.toml.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder, new or begun.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="E.g. data.path=out/yelp.")] = None,
    until: Annotated[
        Literal["vocabulary", "explainer", "evaluation"], typer.Option(help="Last stage.")
    ] = "evaluation",
    as_json: JsonFlag = False,
) -> None:
    """Bring a run up to date: unchanged stages are skipped, a killed run goes on."""
    from forwhy.recipe import RunFolder, load_recipe
    from forwhy.recipe import run as run_stages

    reports = run_stages(load_recipe(recipe, overrides or ()), out, until)
    evaluation = RunFolder(out).evaluation() if until == "evaluation" else None
    if as_json:
        stages = {report.stage: {"action": report.action, "seconds": report.seconds} for report in reports}
        emit({"run": str(out), "stages": stages, "evaluation": evaluation})
    elif evaluation is not None:
        show_evaluation(evaluation)
    else:
        show(f"{out}: {', '.join(f'{report.stage} {report.action}' for report in reports)}")
