"""People of finished runs: their lists are the run's own, and each item has a reason, whatever is left of the run."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from forwhy.recipe import RunFolder, load_recipe, run
from forwhy.recipe.evaluated import Request
from forwhy.recipe.examine import examine
from forwhy.recipe.people import shown_people
from forwhy.report.people import LISTED, People
from forwhy.report.samples import Passage
from forwhy.report.writing import clean


def shown(*runs: Path) -> People:
    found = shown_people(examine(Request(runs=runs, encoder="none")))
    assert found is not None
    return found


def text(reason: Passage) -> str:
    return "".join(part for part, _ in (*reason.view, *reason.fold))


@pytest.fixture(scope="module")
def people(tiny_run: Path) -> People:
    return shown(tiny_run)


def test_lists_and_reasons_are_the_runs_own(people: People, tiny_run: Path) -> None:
    folder = RunFolder.open(tiny_run)
    recommender, explainer = folder.recommender(), folder.reasons()
    told = {user for user, _ in folder.outputs().pairs}  # type: ignore[union-attr]
    for one in people.people:
        assert one.name in told, "of people with texts"
        rows = recommender.recommend(one.name, k=LISTED)
        assert [it.title for it in one.offered] == rows["title"].to_list()
        first = one.offered[0]
        assert text(first.reason) == clean(explainer.explain((one.name, rows["item_id"][0])).text).strip()
        assert first.carried.startswith("their “")
    assert people.looked is not None
    assert people.people[0].name in people.looked.title
    assert people.people[0].offered[0].title in people.looked.title
    assert people.looked.words.startswith("Attention while writing, mean over all layers and heads: ")


def test_words_have_owners_who_have_them(people: People, tiny_run: Path) -> None:
    vocabulary = RunFolder.open(tiny_run).vocabulary()
    users = vocabulary.catalogue.users
    assert set(people.words) == {"user", "item"}
    for word in people.words["user"]:
        assert word.gloss
        assert word.used >= len(word.owners) > 0
        assert all(word.token in vocabulary.token_names("user", users.index(name)) for name in word.owners)
        assert word.takes
    titles = vocabulary.catalogue.titles
    for word in people.words["item"]:
        assert all(
            word.token in vocabulary.token_names("item", list(titles).index(name)) for name in word.owners
        )


def test_an_explainer_that_cannot_be_loaded_is_replaced_by_plain_reasons(
    tiny_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_run, broken)
    (broken / "explainer" / "config.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        found = shown(broken)
    assert "plain reasons" in caplog.text
    claims = [claim for one in found.people for it in one.offered for claim in it.claims]
    assert claims
    assert all(support for _, support in claims), "plain reasons are true by construction"


def test_a_run_without_a_vocabulary_lists_and_says_why(tiny_run: Path, tmp_path: Path) -> None:
    data = RunFolder.open(tiny_run).recipe.data.path
    lists = tmp_path / "mf.toml"
    sections = '[collaborative]\nepochs = 1\n[encoder]\nname = "hash"\n'
    lists.write_text(f'name = "mf"\nsystem = "xrec"\n[data]\npath = "{data}"\n{sections}')
    run(load_recipe(lists), tmp_path / "mf", until="collaborative")
    both = shown(tmp_path / "mf", tiny_run)
    assert both.run == "run", "the one with texts and words"
    assert all(len(one.others["mf"]) == LISTED for one in both.people)
    alone = shown(tmp_path / "mf")
    assert alone.looked is None, "nothing is written, so nothing is looked at"
    assert not alone.words
    assert all(text(it.reason) for one in alone.people for it in one.offered)
