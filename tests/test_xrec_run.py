"""XRec as a whole run: its stages, commands and table, on the little town."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from forwhy.cli import app
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.data.split import apply_protocol
from forwhy.errors import UserError
from forwhy.explain.xrec import XRecExplainer
from forwhy.graph.representations import CollaborativeVectors
from forwhy.recipe import RunFolder, load_grid, load_recipe, run

TINY = """
name = "tiny-xrec"
system = "xrec"
seed = 3

[data]
path = "{data}"

[encoder]
name = "hash"

[collaborative]
dims = 8
epochs = 2

[explainer]
model = "{model}"
epochs = 1
train_pairs = 16
validation_pairs = 4
batch_size = 8
device = "cpu"
prompt = {{ instruction = "Say why.", task_tokens = 2 }}
generation = {{ max_new_tokens = 8, max_words = 8 }}

[evaluation]
pairs = 4
generate = 4
"""


@pytest.fixture(scope="module")
def recipe(tiny_recipe: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("xrec") / "tiny.toml"
    path.write_text(TINY.format(data=tiny_recipe.parent / "town", model=tiny_model))
    return path


@pytest.fixture(scope="module")
def xrec_run(recipe: Path) -> Path:
    folder = recipe.parent / "run"
    run(load_recipe(recipe), folder)
    return folder


def told(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(result.stdout)
    return document


def test_its_stages_leave_their_artifacts_and_are_skipped_afterwards(recipe: Path, xrec_run: Path) -> None:
    folder = RunFolder.open(xrec_run)
    assert isinstance(folder.behaviour(), CollaborativeVectors)
    assert isinstance(folder.explainer(), XRecExplainer)
    stages = {line["stage"] for line in folder.history()}
    assert stages == {"collaborative", "explainer"}
    reports = run(load_recipe(xrec_run / "recipe.toml"), xrec_run)
    assert [(report.stage, report.action) for report in reports] == [
        ("collaborative", "skipped"),
        ("explainer", "skipped"),
        ("evaluation", "skipped"),
    ]


def test_same_recipe_same_numbers(recipe: Path, xrec_run: Path, tmp_path: Path) -> None:
    run(load_recipe(recipe), tmp_path / "again")
    assert RunFolder.open(tmp_path / "again").evaluation() == RunFolder.open(xrec_run).evaluation()


def test_the_evaluation_is_through_the_common_contracts(xrec_run: Path) -> None:
    document = RunFolder.open(xrec_run).evaluation()
    assert document["ranking"]["recall@20"] > 0
    assert document["health"] is None
    assert document["text_retrieval"] is None
    assert set(document["information_gain"]) >= {"user", "item", "both"}
    assert document["controls"]["constant"]["sentence"]
    assert document["protocol"]["system"] == "xrec"
    assert document["protocol"]["profiles_shown"] is True
    assert document["protocol"]["prompt_tokens"] > 4


def test_recommend_and_explain_answer_for_people_known_and_unknown(xrec_run: Path) -> None:
    behaviour = RunFolder.open(xrec_run).behaviour()
    user, first, second = behaviour.catalogue.users.values[0], *behaviour.catalogue.items.values[:2]
    known = told("recommend", xrec_run, "--user", user, "--explain", "-k", 2)
    assert known["tokens"] == []
    assert [row["rank"] for row in known["items"]] == [1, 2]
    assert all("explanation" in row for row in known["items"])
    warm = told("recommend", xrec_run, "--history", first, "-k", 3)
    assert first not in [row["item_id"] for row in warm["items"]]
    explained = told("explain", xrec_run, "--history", first, "--item", second)
    assert [token["token"] for token in explained["tokens"]] == ["<u.vector>", "<i.vector>"]


def test_what_the_system_lacks_is_said(recipe: Path, xrec_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="system 'xrec' has no behaviour vocabulary"):
        RunFolder.open(xrec_run).vocabulary()
    with pytest.raises(UserError, match="stage 'vocabulary': system 'xrec' has collaborative, explainer"):
        run(load_recipe(recipe), tmp_path / "run", until="vocabulary")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="unknown key 'vocabulary'"):
        load_recipe(recipe, ["vocabulary.epochs=1"])
    with pytest.raises(
        UserError, match="'system': 'xrex' is not one of att2seq, beat, .*xrec.*; did you mean 'xrec'"
    ):
        load_recipe(recipe, ["system=xrex"])


def test_its_ablations_are_a_table_of_the_papers_four_rows() -> None:
    grid = load_grid(Path(__file__).parents[1] / "recipes" / "xrec-ablations.toml")
    assert grid is not None
    shown = {
        row: (recipe.explainer.prompt.profiles, recipe.explainer.injection)
        for row, recipe in grid.rows.items()
    }
    assert shown == {
        "full": (True, "projected"),
        "without-profiles": (False, "projected"),
        "without-injection": (True, "none"),
        "without-both": (False, "none"),
    }
    assert len(grid.budget()) == 1


def test_fit_needs_no_recipe(recipe: Path, xrec_run: Path, tmp_path: Path) -> None:
    values = load_recipe(recipe)
    small = [
        "collaborative.dims=8",
        "collaborative.epochs=1",
        "explainer.epochs=0",
        "explainer.train_pairs=4",
    ]
    settings = [*small, f"explainer.model={values.explainer.model}", "explainer.prompt.instruction=Say why."]
    arguments = [part for setting in settings for part in ("--set", setting)]
    out = tmp_path / "run"
    found = told("fit", "behaviour", "xrec", values.data.path, "--out", out, *arguments)
    assert list(found["stages"]) == ["collaborative"]
    found = told("fit", "explainer", "xrec", values.data.path, "--out", out, *arguments)
    assert found["stages"]["collaborative"]["action"] == "skipped"
    assert isinstance(RunFolder.open(out).explainer(), XRecExplainer)


def test_profiles_that_a_protocol_takes_away_are_not_shown(
    recipe: Path, tiny_town: Dataset, tmp_path: Path
) -> None:
    rows = [("user", str(user), "enjoys tea") for user in tiny_town.users.values]
    rows += [("item", str(item), "has jazz") for item in tiny_town.items.values]
    profiles = pl.DataFrame(rows, schema=["side", "entity_id", "text"], orient="row")
    town = make_dataset("town", {**tiny_town.tables, "profiles": profiles}, tiny_town.source)
    settings = ["data.protocol=zero-shot", "data.zero_shot_users=0.5", "explainer.epochs=0"]
    run(load_recipe(recipe, settings), tmp_path / "run", until="explainer", dataset=town)
    seen = apply_protocol(town, load_recipe(recipe, settings).data)
    shown = XRecExplainer.from_pretrained(tmp_path / "run" / "explainer").profiles
    tested = {int(user) for user in seen.pairs("test").users}
    assert tested
    assert not tested & set(shown["user"])
    assert len(shown["user"]) + len(tested) <= len(town.users)
    assert len(shown["item"]) == len(town.items)
