"""`forwhy init`: a recipe that fits; `forwhy run`: all its stages; `forwhy fit`: a system with its defaults.

`forwhy demo`: the whole way on a generated little town, no data needed; `forwhy doctor`: what this machine has.
"""

from __future__ import annotations

import shlex
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer import Argument, Option

import forwhy.doctor
from forwhy.atomic import write_text
from forwhy.cli import JsonFlag, app_of, emit, log, one_line, show, show_evaluation, show_examination
from forwhy.cli.ask import described, recommendation
from forwhy.cli.reasons import add_reasons, items_listed
from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.errors import UserError
from forwhy.opened import OpenRun
from forwhy.recipe import schema, suggest
from forwhy.recipe.runner import RunFolder, StageReport, run_grid
from forwhy.recipe.runner import run as run_stages
from forwhy.recipe.schema import Grid, default_recipe, load_grid, load_recipe, make_recipe, packaged_recipe
from forwhy.systems import System, names
from forwhy.training.tracking import TRACKERS, Tracked

fit_app = app_of()

PEOPLE, ITEMS = 3, 3
"""How many the demo shows, and items of each."""
BEST = 5
"""Trials of a tuning that are shown."""

Until = Annotated[str, Option(help="Last stage, such as vocabulary, explainer or recommender.")]
Space = Annotated[Path | None, Option(help="TOML of what is tried; default: a few options of the system.")]
RunOut = Annotated[Path, Option("--out", "-o", help="Run folder, new or begun.")]
Overrides = Annotated[
    list[str] | None, Option("--set", help="KEY=VALUE of the recipe, e.g. data.path=out/yelp; repeatable.")
]


def init(
    data: Annotated[Path, Argument(help="Dataset folder, as `forwhy data import` writes it.")],
    out: Annotated[Path, Option("--out", "-o", help="Recipe to write.")] = Path("recipe.toml"),
    force: Annotated[bool, Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a recipe that fits a dataset, each value with its reason, and say what it takes here and on more data."""
    if out.exists() and not force:
        raise UserError(f"{out}: is there already; give --force to write over it, or another --out")
    dataset = Dataset.load(data)
    traits, measured = suggest.Traits.of(dataset), suggest.speed()
    if not traits.interactions:
        raise UserError(f"{data}: no training interaction, so nothing to learn from; import it with some")
    spent, name = suggest.costs(traits, measured), one_line(dataset.name)
    run = f"forwhy run {out} --out runs/{one_line(data.resolve().name)}"
    lines = [*suggest.holds(traits, data), "", *suggest.cost_lines(spent, measured)]
    text = suggest.as_toml(traits, name, str(data), [f"{name}, by `forwhy init`. {run}", *lines])
    values = tomllib.loads(text)
    make_recipe(values, out)  # what is written can be run
    write_text(out, text)
    why = suggest.chosen(traits)["why"]
    if as_json:
        emit({"recipe": str(out), "why": why, "values": values, "costs": spent, "run": run})
        return
    show(f"{out}: system {traits.system}. {why}.", *lines, "")
    typer.echo(run)  # unwrapped, to be pasted


def run(
    recipe: Annotated[
        Path, Argument(help="A TOML recipe, yours or one of forwhy's, e.g. recipes/xrec-yelp.toml.")
    ],
    out: RunOut,
    overrides: Overrides = None,
    until: Until = "evaluation",
    track: Annotated[str | None, Option(help=f"Also follow it with {', '.join(TRACKERS)}.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring a run, or a table of runs, up to date: unchanged stages are skipped, a killed run goes on."""
    grid = load_grid(recipe := schema.recipe_file(recipe), overrides or ())
    if grid is not None:
        with Tracked(track):
            _run_grid(grid, out, until, as_json)
        return
    chosen, started = load_recipe(recipe, overrides or ()), time.perf_counter()
    with Tracked(track):
        reports = run_stages(chosen, out, until)
    if as_json:
        emit({"name": chosen.name, "system": chosen.system, **_document(out, reports), **_spent(started)})
    elif until == "evaluation":
        show_evaluation(RunFolder(out).evaluation())
    else:
        show(_line(out, reports))


def _run_grid(grid: Grid, out: Path, until: str, as_json: bool) -> None:
    from forwhy.recipe.evaluated import Request
    from forwhy.recipe.examine import examine

    started = time.perf_counter()
    reports = run_grid(grid, out, until)
    if as_json:
        rows = {row: _document(out / row, reports[row]) for row in reports}
        emit({"name": grid.name, "budget": grid.budget(), "rows": rows, **_spent(started)})
    elif until == "evaluation":
        show_examination(examine(Request(runs=tuple(out / row for row in reports))))
        show(*grid.budget())
    else:
        show(*(_line(out / row, reports[row]) for row in reports), *grid.budget())


def tune(
    recipe: Annotated[Path, Argument(help="A TOML recipe of one run.")],
    out: Annotated[Path, Option("--out", "-o", help="Folder of the tuning, new or begun.")],
    trials: Annotated[int, Option(min=1, help="Trials in all; those that are done count.")] = 30,
    space: Space = None,
    overrides: Overrides = None,
    as_json: JsonFlag = False,
) -> None:
    """Try options of a recipe and keep the best by validation, never by test rows; a killed tuning goes on."""
    from forwhy.recipe.tuning import tune as tune_recipe

    found = tune_recipe(recipe, out, trials, overrides or (), space)
    if as_json:
        rows = [it._asdict() for it in found.ranked]
        emit({"metric": found.metric, "trials": rows, "best": str(out / "best.toml")})
        return
    table = Table("trial", found.metric, "options", title=f"best of {len(found.tried)} trials, on validation")
    for it in found.ranked[:BEST]:
        table.add_row(it.folder, "failed" if it.value is None else f"{it.value:.4f}", str(it))
    show(table, f"{out / 'tuning.html'} shows all of them. Measure the best on test rows, once:")
    typer.echo(f"  forwhy run {out / 'best.toml'} --out {out / 'trials' / found.ranked[0].folder}")


def _fit_command(name: str, until: str | None, about: str) -> None:
    """`forwhy fit` of the stages up to `until`; without it of the first."""

    @fit_app.command(name, help=about)
    def command(
        system: Annotated[str, Argument(help=f"Which system: {', '.join(names())}.")],
        dataset: Annotated[Path, Argument(help="Dataset folder.")],
        out: RunOut,
        overrides: Overrides = None,
        as_json: JsonFlag = False,
    ) -> None:
        recipe = default_recipe(system, dataset, overrides or ())
        reports = run_stages(recipe, out, _fitted(recipe, until, out))
        emit(_document(out, reports)) if as_json else show(_line(out, reports))


def _fitted(recipe: System, until: str | None, out: Path) -> str:
    """The stage to fit; what a system does not learn is told with the commands that bring its run."""
    stage, learned = until or recipe.plan()[0].name, [step.name for step in recipe.plan()[:-1]]
    if stage in learned:
        return stage
    run = f"--set data.path={shlex.quote(recipe.data.path)} --out {shlex.quote(str(out))}"
    whole = f"forwhy run recipes/popularity.toml --set system={recipe.system} {run}"
    raise UserError(f"fit: system '{recipe.system}' has no {stage} to fit; use `{whole}`")


for name, last, about in (
    ("behaviour", None, "The system's first stage: of BEAT the vocabulary, of XRec the graph vectors."),
    ("explainer", "explainer", "A frozen language model that explains, and what it reads."),
    ("recommender", "recommender", "What predicts the next item of a history; `forwhy recommend` asks it."),
):
    _fit_command(name, last, about)


def _document(out: Path, reports: Sequence[StageReport]) -> dict[str, object]:
    stages = {report.stage: {"action": report.action, "seconds": report.seconds} for report in reports}
    return {"run": str(out), "stages": stages}


def _spent(started: float) -> dict[str, float]:
    """Seconds of this call; a stage's are those that it took when it was done."""
    return {"seconds": round(time.perf_counter() - started, 1)}


def _line(out: Path, reports: Sequence[StageReport]) -> str:
    return f"{out}: {', '.join(f'{report.stage} {report.action}' for report in reports)}"


def doctor(
    folders: Annotated[list[Path] | None, Argument(metavar="FOLDER…", help="Verified too.")] = None,
    verify: Annotated[
        bool, Option("--verify", help="Compare every file of models with its SHA-256.")
    ] = False,
    bench: Annotated[
        bool, Option("--bench", help="How fast each engine writes here; `auto` then takes the best.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Versions, cores, memory, devices, models at hand: the first thing to put into a report.

    With --verify, or FOLDERs of runs, artifacts or data sets: whether any file was altered; status 2 where one was.
    """
    findings = forwhy.doctor.examine(verify)
    if bench:
        findings["engines"] = forwhy.doctor.measured_engines()
    if folders:
        findings["folders"] = forwhy.doctor.verify(folders)
    emit(findings) if as_json else show(forwhy.doctor.render(findings))
    wrong = [name for name, model in findings["models"].items() if model["state"] == "damaged"]
    wrong = [
        f"{name}: altered in the cache; fetch it again: python -m forwhy.models {name}" for name in wrong
    ]
    wrong += [said for said in findings.get("folders", {}).values() if said != "whole"]
    if wrong:
        raise UserError(f"{wrong[0]}{f' (and {len(wrong) - 1} more)' * (len(wrong) > 1)}")


def demo(
    out: Annotated[Path, Option("--out", "-o", help="Folder for the town and its run.")] = Path("demo"),
    as_json: JsonFlag = False,
) -> None:
    """Make a little town, learn its vocabulary, teach a small model to read it, and show what comes out."""
    started = time.perf_counter()
    log.info("demo: a little town, its people and places, in %s", out)
    town = little_town()
    town.save(out / "town")
    recipe = load_recipe(packaged_recipe("demo.toml"), [f"data.path='{out / 'town'}'"])
    run_stages(recipe, out / "run", dataset=town)
    folder = RunFolder(out / "run")
    people, evaluation = _people(folder, town), folder.evaluation()
    if as_json:
        emit({"run": str(folder.path), "people": people, "evaluation": evaluation, **_spent(started)})
        return
    show_evaluation(evaluation)  # first, so that the last screen is of people
    for person in people:
        show(f"\n{person['user']}: who they are", described(person["tokens"]))
        show("what they might like, and why", items_listed(person))
    show(f"\nThe run is in {folder.path}. Look further:")
    user, item = people[0]["user"], people[0]["items"][0]["item_id"]
    typer.echo(f"  forwhy explain {folder.path} --user {user} --item {item}")  # unwrapped, to be pasted
    typer.echo(f"  forwhy vocabulary {folder.path} --token '{people[0]['tokens'][0]['token']}'")
    typer.echo(f"  forwhy serve {folder.path}")


def _people(folder: RunFolder, town: Dataset) -> list[dict[str, Any]]:
    opened = OpenRun(folder)
    served, tested = set(opened.recommender.served()), town.external(town.pairs("test"))
    users = list(dict.fromkeys(user for user, _ in tested if user in served))[:PEOPLE]
    people = [recommendation(opened.recommender, user, None, k=ITEMS) for user in users]
    for person in people:
        add_reasons(opened, person)
    return people
