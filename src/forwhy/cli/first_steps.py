"""`forwhy doctor`: what this machine has; `forwhy demo`: the whole way on a generated little town, no data needed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import forwhy.doctor
from forwhy.cli import JsonFlag, emit, log, show, show_evaluation
from forwhy.cli.ask import add_reasons, described, items_listed, recommendation
from forwhy.data.sample import little_town
from forwhy.recipe import RunFolder, load_recipe, packaged_recipe
from forwhy.recipe import run as run_stages

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset

PEOPLE, ITEMS = 3, 3


def doctor(as_json: JsonFlag = False) -> None:
    """Versions, cores, memory, devices, models at hand: the first thing to put into a report."""
    findings = forwhy.doctor.examine()
    emit(findings) if as_json else show(forwhy.doctor.render(findings))


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the town and its run.")] = Path("demo"),
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
        seconds = round(time.perf_counter() - started, 1)
        emit({"run": str(folder.path), "people": people, "evaluation": evaluation, "seconds": seconds})
        return
    for person in people:
        show(f"\n{person['user']}: who they are", described(person["tokens"]))
        show("what they might like, and why", items_listed(person))
    show_evaluation(evaluation)
    show(f"\nThe run is in {folder.path}. Look further:")
    user, item = people[0]["user"], people[0]["items"][0]["item_id"]
    typer.echo(f"  forwhy explain {folder.path} --user {user} --item {item}")  # unwrapped, to be pasted
    typer.echo(f"  forwhy vocabulary {folder.path} --token '{people[0]['tokens'][0]['token']}'")


def _people(folder: RunFolder, town: Dataset) -> list[dict[str, Any]]:
    """A few people of the test split, each with what they are offered and why."""
    explainer = folder.explainer()
    recommender, words = folder.recommender(), folder.vocabulary()
    tested = dict.fromkeys(int(user) for user in town.pairs("test").users if words.has_history["user"][user])
    people = [
        recommendation(recommender, words.catalogue.users.values[user], None, ITEMS)
        for user in list(tested)[:PEOPLE]
    ]
    for person in people:
        add_reasons(explainer, person)
    return people
