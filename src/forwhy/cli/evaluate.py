"""`forwhy evaluate RUN… --outputs FILE`: numbers beside their controls, and which differences survive."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from forwhy.cli import JsonFlag, emit, show_evaluation, show_examination
from forwhy.cli.options import Given, prices, takes
from forwhy.errors import UserError
from forwhy.evaluate.judge import Judge, JudgeConfig
from forwhy.recipe import RunFolder
from forwhy.recipe.evaluated import Request, recorded
from forwhy.recipe.examine import examine
from forwhy.recipe.people import shown_people
from forwhy.report import check_page, write_report

JUDGE = {name: f"judge_{name}" for name in JudgeConfig.model_fields} | {"model": "judge"}
JudgeVotes = Annotated[Path | None, Option(metavar="FILE", help="Keeps each vote; a killed run goes on.")]
JudgePrices = Annotated[str | None, Option(metavar="IN,OUT", help="Of a million tokens, read and written.")]


@takes(Request, without={"runs", "outputs"})
@takes(JudgeConfig, JUDGE, without={"input_price", "output_price"})
def evaluate(
    context: typer.Context,
    request: Given[Request],
    judge: Given[JudgeConfig],
    runs: Annotated[list[Path] | None, Argument(metavar="RUN…", help="Run folders.")] = None,
    outputs: Annotated[
        list[str] | None,
        Option(
            metavar="[NAME=]FILE",
            help="Texts from elsewhere: a table with prediction, reference[, user_id, item_id, features], "
            "or a list of predictions; repeatable.",
        ),
    ] = None,
    judge_votes: JudgeVotes = None,
    judge_prices: JudgePrices = None,
    report: Annotated[Path | None, Option(metavar="FILE", help="Write a page with everything.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show evaluations of runs and of texts from elsewhere; measure what is missing.

    One RUN without further options shows what it has recorded of itself. With --judge MODEL a language model grades
    the texts (GPTScore): on the server of --judge-url or FORWHY_JUDGE_URL, with the key in FORWHY_JUDGE_KEY.
    """
    asked = request.model(runs=runs or (), outputs=outputs or ())
    learned = _judge(judge, judge_votes, judge_prices)
    more = [outputs, set(request.names) - {"--again"}, learned, report]
    if len(asked.runs) == 1 and not any(more):
        document = recorded(RunFolder.open(asked.runs[0]), asked.again)
        emit(document) if as_json else show_evaluation(document)
        return
    if report is not None:
        check_page(report)  # before what takes long
    found = examine(asked, learned)
    if report is not None:
        title, command = ", ".join(one.name for one in found.examined), shlex.join(["forwhy", *context.obj])
        people = shown_people(found)
        write_report(report, found.examined, found.comparisons, found.bold, title, command, people)
    emit(found.document()) if as_json else show_examination(found)


def _judge(given: Given[JudgeConfig], votes: Path | None, paid: str | None) -> Judge | None:
    if "--judge" in given.names:
        return Judge(given.model(**prices("--judge-prices", paid)).typed(), votes)
    names = [*given.names, *["--judge-votes"] * bool(votes), *["--judge-prices"] * bool(paid)]
    if names:
        raise UserError(f"{', '.join(names)}: need --judge MODEL")
    return None
