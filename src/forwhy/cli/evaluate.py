"""`forwhy evaluate RUN… --outputs FILE`: numbers beside their controls, and which differences survive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwhy.cli.console import JsonFlag, emit, show_evaluation, show_examination

if TYPE_CHECKING:
    from forwhy.evaluate.judge import Judge

Model = Annotated[str | None, typer.Option(metavar="MODEL", help="Model of this metric: Hub id or folder.")]


def evaluate(
    context: typer.Context,
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
        str,
        typer.Option(
            "--metrics", help="Text metrics to show and compare, with commas; fewer can survive more."
        ),
    ] = "",
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="For similarity and grounding: as in recipes, or none.")
    ] = None,
    grounding: Annotated[
        bool | None,
        typer.Option("--grounding/--no-grounding", help="What of the texts is supported; where possible."),
    ] = None,
    common: Annotated[bool, typer.Option("--common", help="Only pairs that all of them have.")] = False,
    bertscore: Model = None,
    bartscore: Model = None,
    bleurt: Model = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="MODEL", help="GPTScore; key in FORWHY_JUDGE_KEY.")
    ] = None,
    judge_url: Annotated[
        str | None, typer.Option("--judge-url", help="OpenAI-compatible server, or FORWHY_JUDGE_URL.")
    ] = None,
    judge_votes: Annotated[
        Path | None, typer.Option("--judge-votes", help="File that keeps each vote; a killed run goes on.")
    ] = None,
    judge_budget: Annotated[
        float | None, typer.Option("--judge-budget", help="Most it may cost; without prices, calls.")
    ] = None,
    judge_prices: Annotated[
        str | None, typer.Option("--judge-prices", metavar="IN,OUT", help="Of a million tokens.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of dealing, constants and tests.")] = 0,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with everything.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure runs anew even if it was done.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show evaluations of runs and of texts from elsewhere; measure what is missing.

    One RUN without further options shows what it has recorded of itself.
    """
    from forwhy.recipe import RunFolder
    from forwhy.recipe.evaluated import Request, recorded
    from forwhy.recipe.examine import examine

    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name != "DEFAULT"}
    if runs is not None and len(runs) == 1 and given <= {"runs", "again", "as_json"}:
        document = recorded(RunFolder.open(runs[0]), again)
        emit(document) if as_json else show_evaluation(document)
        return
    request = Request(
        runs=runs or [],
        outputs=outputs or [],
        references=references,
        data=data,
        metrics=[name.strip() for name in metrics.split(",") if name.strip()],
        encoder=encoder,
        grounding=grounding,
        bertscore=bertscore,
        bartscore=bartscore,
        bleurt=bleurt,
        judge=_judge(judge, judge_url, judge_votes, judge_budget, judge_prices),
        common=common,
        seed=seed,
        again=again,
    )
    found = examine(request)
    if report is not None:
        import shlex

        from forwhy.report import write_report

        title, command = ", ".join(one.name for one in found.examined), shlex.join(["forwhy", *context.obj])
        write_report(report, found.examined, found.comparisons, found.bold, title, command)
    emit(found.document()) if as_json else show_examination(found)


def _judge(
    model: str | None, url: str | None, votes: Path | None, budget: float | None, prices: str | None
) -> Judge | None:
    from forwhy.errors import UserError

    if model is None:
        if (url, votes, budget, prices) != (None, None, None, None):
            raise UserError("--judge-url, -votes, -budget and -prices need --judge MODEL")
        return None
    from forwhy.evaluate.judge import Judge, JudgeConfig

    read, comma, written = (prices or "").partition(",")
    if prices and not comma:
        raise UserError(f"--judge-prices {prices}: expected IN,OUT per million tokens, e.g. 0.15,0.60")
    given = {"url": url, "budget": budget, "input_price": read, "output_price": written}
    options = {name: value for name, value in given.items() if value not in (None, "")}
    return Judge(JudgeConfig.of(model=model, **options), votes)
