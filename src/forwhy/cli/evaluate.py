"""`forwhy evaluate RUN… --outputs FILE`: numbers beside their controls, and which differences survive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwhy.cli.console import JsonFlag, emit, show_evaluation, show_examination

if TYPE_CHECKING:
    from forwhy.recipe.examine import Examination


def evaluate(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN…", help="Run folders.")] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            "--outputs",
            metavar="[NAME=]FILE",
            help="Texts from elsewhere: a table with prediction, reference[, user_id, item_id, features], "
            "or a list of predictions; repeatable.",
        ),
    ] = None,
    references: Annotated[
        Path | None, typer.Option("--references", help="References of outputs that have none, row by row.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Data set that the outputs are about; by default that of the runs."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", help="Text metrics to show and compare, with commas; fewer can survive more."
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="For similarity and grounding: as in recipes, or none.")
    ] = None,
    grounding: Annotated[
        bool | None,
        typer.Option("--grounding/--no-grounding", help="What of the texts is supported; where possible."),
    ] = None,
    common: Annotated[bool, typer.Option("--common", help="Only pairs that all of them have.")] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Of dealing, constants and tests; 0 if not given.")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with everything.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure runs anew even if it was done.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show evaluations of runs and of texts from elsewhere; measure what is missing.

    One RUN without further options shows what it has recorded of itself.
    """
    from forwhy.recipe import RunFolder
    from forwhy.recipe.examine import Request, examine, recorded

    options = (outputs, references, data, metrics, encoder, grounding, common or None, seed, report)
    if runs is not None and len(runs) == 1 and all(option is None for option in options):
        document = recorded(RunFolder.open(runs[0]), again)
        emit(document) if as_json else show_evaluation(document)
        return
    chosen = [name.strip() for name in (metrics or "").split(",") if name.strip()]
    found = examine(
        Request(
            runs or [], outputs or [], references, data, chosen, encoder, grounding, common, seed or 0, again
        )
    )
    if report is not None:
        _write(report, found)
    emit(found.document()) if as_json else show_examination(found)


def _write(path: Path, found: Examination) -> None:
    from forwhy.report import write_report

    title = ", ".join(one.name for one in found.examined)
    write_report(path, found.examined, found.comparisons, found.bold, title=title)
