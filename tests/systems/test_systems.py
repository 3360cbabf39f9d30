"""Every system is one that the registry finds, whose stages can be made and whose options are checked without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from forwhy.errors import UserError
from forwhy.systems import MEASURE, find_system, names

SOURCE = Path(__file__).parents[2] / "src" / "forwhy" / "systems"
PUBLISHED = {
    "beat",
    "because",
    "xrec",
    "llm-bs",
    "tiger",
    "letter",
    "lc-rec",
    "p5-cid",
    "sasrec",
    "gru4rec",
    "din",
    "caser",
    "hgn",
    "bert4rec",
    "fdsa",
    "s3-rec",
    "item-knn",
    "parallel",
    "popularity",
    "pepler",
    "xrec-profile",
    "graphgpt",
    "tea-glm",
    "time-llm",
}


def test_the_published_systems_are_there() -> None:
    assert set(names()) >= PUBLISHED


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_system_keeps_what_it_declares(name: str) -> None:
    kind = find_system(name)
    recipe = kind.model_validate({"name": "x", "data": {"path": "y"}})
    assert recipe.system == name
    assert kind.stages[-1].name == MEASURE.name
    assert len({stage.name for stage in kind.stages}) == len(kind.stages)
    for stage in kind.stages:
        assert callable(recipe.maker(stage))
        assert set(stage.reads) <= kind.model_fields.keys()
        for option in stage.later:
            assert any(option in type(getattr(recipe, section)).model_fields for section in stage.reads)
    assert recipe.budget()
    assert recipe.plan(kind.stages[0].known_as or kind.stages[-1].name)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_stage_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UserError, match=f"stage 'sleep': system '{name}' has .*evaluation; name one of them"):
        find_system(name).model_validate({"name": "x", "data": {"path": "y"}}).plan("sleep")


def test_a_trained_network_is_a_recommender_and_answers_to_its_name_elsewhere() -> None:
    for name in ("sasrec", "gru4rec", "din", "caser", "hgn", "bert4rec", "fdsa", "s3-rec"):
        recipe = find_system(name).model_validate({"name": "x", "data": {"path": "y"}})
        assert [stage.name for stage in recipe.plan("recommender")] == ["recommender"]
        assert recipe.plan("behaviour") == recipe.plan("recommender")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_options_are_checked_without_torch(name: str) -> None:
    code = (
        "import sys; from forwhy.systems import find_system; "
        f"find_system('{name}').model_validate({{'name': 'x', 'data': {{'path': 'y'}}}}); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_system_has_its_usual_sections_below_what_is_said() -> None:
    def made(name: str, **sections: object) -> Any:  # noqa: ANN401
        return find_system(name).model_validate({"name": "x", "seed": 4, "data": {"path": "y"}, **sections})

    usual = made("lc-rec", recommender={"tasks": {"fused": 1.0}})
    assert (usual.index.method, usual.index.source, usual.index.seed) == ("uniform", "semantic", 4)
    assert usual.recommender.tasks.model_dump(include={"item_to_index", "fused"}) == {
        "item_to_index": 1,
        "fused": 1,
    }
    assert usual.sources == {"semantic"}, "no contrast, so no behaviour"
    assert [stage.name for stage in usual.needed()] == ["index", "recommender", "evaluation"]
    assert made("letter").sources == {"semantic", "behaviour"}
    assert not made("p5-cid").sources
    for name in ("letter", "lc-rec", "p5-cid", "tiger"):
        published = made(name, index={"source": "file", "file": "x.index.json"})
        assert (published.index.source, published.index.method) == ("file", "kmeans")
        assert made(name, index={"depth": 2}).index.method == made(name).index.method != "kmeans"


def test_no_system_is_named_outside_its_file() -> None:
    elsewhere = [
        file
        for folder in ("recipe", "evaluate", "report", "training")
        for file in (SOURCE.parent / folder).rglob("*.py")
    ]
    asked = [
        file
        for file in elsewhere
        if "recipe.system ==" in file.read_text() or ".system in" in file.read_text()
    ]
    assert asked == []


def test_a_system_is_one_short_file() -> None:
    for name in PUBLISHED:
        assert len((SOURCE / f"{name.replace('-', '_')}.py").read_text().splitlines()) <= 200


@pytest.mark.parametrize(
    ("name", "values", "stages", "keys"),
    [
        ("because", {}, ("vocabulary", "explainer"), {"encoder.name", "explainer.model"}),
        ("because", {}, ("vocabulary", "evaluation"), {"encoder.name"}),
        ("xrec", {}, ("collaborative", "explainer"), {"encoder.name", "explainer.model"}),
        ("beat", {"explainer": {"reader": "words"}}, ("explainer",), {"encoder.name", "explainer.model"}),
        (
            "beat",
            {"explainer": {"reader": "words", "words": {"chat": {"model": "m"}}}},
            ("explainer",),
            {"encoder.name", "explainer.words.chat"},
        ),
        ("llm-bs", {}, ("index", "recommender"), {"encoder.name"}),
        (
            "llm-bs",
            {"recommender": {"backbone": {"name": "x"}}},
            ("recommender",),
            {"recommender.backbone.name"},
        ),
        ("sasrec", {}, ("recommender",), set()),
    ],
)
def test_the_models_that_stages_load_are_known_by_their_keys(
    name: str, values: dict[str, object], stages: tuple[str, ...], keys: set[str]
) -> None:
    recipe = find_system(name).model_validate({"name": "x", "data": {"path": "x"}, **values})
    assert set(recipe.models(stages)) == keys
