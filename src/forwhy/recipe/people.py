"""Three people for a report: what a run lists for them, and reasons that are written now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from forwhy.errors import UserError
from forwhy.explain.base import Explainer
from forwhy.explain.evidence import Explanation
from forwhy.recipe.examine import Examination
from forwhy.recipe.runner import RunFolder
from forwhy.recommend.base import Recommender
from forwhy.report import people
from forwhy.report.attention import attention_panel
from forwhy.report.drawing import Panel
from forwhy.report.people import Id, People, Person, Word
from forwhy.vocabulary.vocabulary import Vocabulary

log = logging.getLogger(__name__)


def shown_people(examination: Examination) -> People | None:
    """People of a run that can be asked, one with texts, words and good lists before others; None without any.

    Cost: loads what each run recommends by, and one run's language model, which writes nine texts.
    """
    asked = [one for one in examination.examined if one.name in examination.runs]
    asked.sort(key=lambda one: (not one.samples, not one.usage, -one.ranking.get("recall@20", 0.0)))
    for one in asked:
        try:
            return _people(one.name, examination.runs, [sample.pair[0] for sample in one.samples])
        except UserError as error:
            log.warning("%s: shows no people: %s", one.name, error)
    return None


def _people(run: str, runs: Mapping[str, RunFolder], wanted: Sequence[Id]) -> People:
    recommender = runs[run].recommender()
    catalogue, known = recommender.catalogue, getattr(recommender, "behaviour", None)
    users = people.drawn(catalogue, wanted)
    names = [catalogue.users.values[user] for user in users]
    lists = _lists(recommender, names)
    reasons, looked = _reasons(
        runs[run], recommender, [(name, item) for name in names for item, _ in lists[name]]
    )
    others = {name: _titles(folder, names) for name, folder in runs.items() if name != run}
    words, things = list[list[Word]]([] for _ in users), list[list[Word]]()
    if isinstance(known, Vocabulary):
        words = [people.words_of(known, "user", user) for user in users]
        first = [catalogue.items.index(item) for name in names for item, _ in lists[name][:1]]
        things = [people.words_of(known, "item", item) for item in first]
    shown = [
        Person(
            str(name),
            [people.offer(title, reasons[name, item]) for item, title in lists[name]],
            *people.taken(catalogue, user),
            own,
            {other: titles[name] for other, titles in others.items() if name in titles},
        )
        for user, name, own in zip(users, names, words, strict=True)
    ]
    if not things:
        return People(run, shown, {}, looked)
    return People(run, shown, {"user": people.explained(words), "item": people.explained(things)}, looked)


def _lists(recommender: Recommender, names: Sequence[Id]) -> dict[Id, list[tuple[Id, str]]]:
    found: dict[Id, list[tuple[Id, str]]] = {name: [] for name in names}
    catalogue = recommender.catalogue
    for user, item in recommender.recommend(names, k=people.LISTED).select("user_id", "item_id").rows():
        found[user].append((item, people.title_of(catalogue, catalogue.items.index(item))))
    return found


def _titles(folder: RunFolder, names: Sequence[Id]) -> dict[Id, list[str]]:
    try:
        lists = _lists(folder.recommender(), names)
    except UserError as error:
        log.warning("%s: lists nothing here: %s", folder.path, error)
        return {}
    return {name: [title for _, title in items] for name, items in lists.items()}


def _reasons(
    folder: RunFolder, recommender: Recommender, pairs: Sequence[tuple[Id, Id]]
) -> tuple[dict[tuple[Id, Id], Explanation], Panel | None]:
    """By the explainer where it can be loaded and knows the item, with what it looked at for the first; else plain."""
    told: dict[tuple[Id, Id], Explanation] = {}
    looked = None
    try:
        if folder.recipe.explains(folder):
            explainer = folder.explainer()
            own = [pair for pair in pairs if explainer.knows(pair[1])]
            told = dict(zip(own, explainer.explain(own), strict=True))
            looked = _looked(explainer, *own[0]) if own else None
    except UserError as error:
        log.warning("%s; plain reasons", error)
    spare = [pair for pair in pairs if pair not in told]
    plain = folder.recipe.plain_reasons(folder, recommender).explain(spare) if spare else []
    return told | dict(zip(spare, plain, strict=True)), looked


def _looked(explainer: Explainer[Any, Any], user: Id, item: Id) -> Panel | None:
    """What it looked at while it wrote; None where it reads words or wrote nothing."""
    catalogue = explainer.known.catalogue
    title = people.title_of(catalogue, catalogue.items.index(item))
    try:
        view = explainer.attention((user, item)).document()
    except UserError as error:
        log.info("%s", error)
        return None
    return attention_panel(view, f"What the model looked at while it wrote to {user} about {title}")
