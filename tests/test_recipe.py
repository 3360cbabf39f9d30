"""Recipes: what is refused and how, what is skipped, and that a killed run reaches the same result."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from forwhy.bridge.engines import has
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.evaluate.document import protocol_in_words
from forwhy.evaluate.text import score_texts
from forwhy.recipe import RunFolder, load_recipe, run, runner
from forwhy.recipe.schema import dump_model
from forwhy.systems import find_system, names

SMALLEST = 'name = "x"\ndata.path = "out/x"\n'


def recipe_file(folder: Path, text: str = SMALLEST) -> Path:
    file = folder / "recipe.toml"
    file.write_text(text)
    return file


# --- reading


def test_overrides_win_in_order_and_need_no_quotes(tmp_path: Path) -> None:
    given = ["data.path=out/yelp", "vocabulary.epochs=3", "vocabulary.epochs=4", "evaluation.ks=[5, 20]"]
    recipe = load_recipe(recipe_file(tmp_path), [*given, "vocabulary.restart_dead=false"])
    assert recipe.data.path == "out/yelp"
    assert (recipe.vocabulary.epochs, recipe.vocabulary.restart_dead) == (4, False)
    assert recipe.evaluation.ks == (5, 20)


def test_seed_goes_down_to_sections_that_set_none(tmp_path: Path) -> None:
    text = "seed = 7\n" + SMALLEST + "[explainer]\nseed = 1\n"
    recipe = load_recipe(recipe_file(tmp_path, text))
    assert (recipe.vocabulary.seed, recipe.explainer.seed, recipe.evaluation.seed) == (7, 1, 7)


def test_the_former_name_of_the_protocol_is_read(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path), ["data.graph=as-published"])
    assert (recipe.data.protocol, recipe.data.graph) == ("as-published", "as-published")
    assert "graph" not in dump_model(recipe, "x")
    with pytest.raises(UserError, match=r"unknown key 'data\.graph'"):
        load_recipe(recipe_file(tmp_path), ["data.graph=leak-free", "data.protocol=leak-free"])


def test_options_of_older_runs_are_left_out_where_they_said_what_is_so_now(tmp_path: Path) -> None:
    older = ["vocabulary.text_guess=0.7", "explainer.projector.distinct_start=false"]
    assert load_recipe(recipe_file(tmp_path), older) == load_recipe(recipe_file(tmp_path))
    with pytest.raises(
        UserError, match=r"'vocabulary\.text_guess' is no option any more, it is always 0\.7; leave"
    ):
        load_recipe(recipe_file(tmp_path), ["vocabulary.text_guess=0.5"])
    with pytest.raises(UserError, match=r"unknown key 'vocabulary\.text_gues'"):
        load_recipe(recipe_file(tmp_path), ["vocabulary.text_gues=0.5"])


def test_preset_is_a_start_and_a_given_value_wins(tmp_path: Path) -> None:
    recipe = load_recipe(recipe_file(tmp_path), ["vocabulary.preset=paper", "vocabulary.batch_size=7"])
    assert (recipe.vocabulary.start, recipe.vocabulary.batch_size) == ("xavier", 7)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("vocabulary.epoch=3", "unknown key 'vocabulary.epoch'; did you mean 'vocabulary.epochs'?"),
        ("evalution.pairs=3", "unknown key 'evalution'; did you mean 'evaluation'?"),
        ("explainer.sar.gama=1", "unknown key 'explainer.sar.gama'; did you mean 'explainer.sar.gamma'?"),
        ("vocabulary.epochs=ten", "'vocabulary.epochs': input should be a valid integer"),
        ("data.protocol=zeroshot", "'leak-free', 'as-published' or 'zero-shot'; did you mean 'zero-shot'?"),
        ("data.protocol=published", "did you mean 'as-published'?"),
        ("data.protocol=3", "'data.protocol': input should be 'leak-free', 'as-published' or 'zero-shot'"),
        ("data.zero_shot_users=2", "'data.zero_shot_users': input should be less than or equal to 1"),
        (
            "explainer.generation.end_bias=nan",
            "'explainer.generation.end_bias': input should be a finite number",
        ),
        ("explainer.generation.end_bias=-inf", "end_bias': input should be a finite number"),
        (
            "explainer.engine=int4",
            "'explainer.engine': input should be 'torch', 'auto', 'bf16', 'int8', 'vllm' or",
        ),
        ("evaluation.pairs=1", "'evaluation.pairs': input should be greater than or equal to 2"),
        ("explainer.lr=inf", "'explainer.lr': input should be a finite number"),
        ("vocabulary.epochs", "--set vocabulary.epochs: expected key=value"),
        ("name.first=x", "--set name.first=x: 'name' is a value, not a section"),
        ("data=3", "'data':"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        load_recipe(recipe_file(tmp_path), [override])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("text", "said"), [("name = ", "not TOML"), ('name = "x"', "'data' is missing")])
def test_broken_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    file = recipe_file(tmp_path, text)
    with pytest.raises(UserError, match=said) as refused:
        load_recipe(file)
    assert str(file) in str(refused.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(UserError, match=str(place)):
            load_recipe(place)


def test_resolved_recipe_reads_back_equal(tmp_path: Path) -> None:
    overrides = [
        "vocabulary.preset=official",
        "explainer.preset=paper",
        "explainer.lr=1e-5",
        'name=a "b" \\ c\x7f',
    ]
    recipe = load_recipe(recipe_file(tmp_path), overrides)
    assert load_recipe(recipe_file(tmp_path, dump_model(recipe, "x"))) == recipe


class _Any(BaseModel):
    text: str
    number: float
    numbers: list[int]
    table: dict[str, str]


@settings(max_examples=40, deadline=None)
@given(
    st.builds(_Any, number=st.floats(allow_nan=False), text=st.text(st.characters(exclude_categories=["Cs"])))
)
def test_any_values_survive_toml(value: _Any) -> None:
    import tomllib

    value = value.model_copy(update={"table": {k: v for k, v in value.table.items() if _is_text(k + v)}})
    assert _Any.model_validate(tomllib.loads(dump_model(value, "x"))) == value


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- running

WHOLE = {"vocabulary", "explainer", "evaluation"}


def outputs(folder: Path) -> dict[str, bytes]:
    """What a run leaves, but for the clock."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    kept = {
        str(path.relative_to(folder)): path.read_bytes() for path in files if path.suffix == ".safetensors"
    }
    return kept | {"evaluation.json": (folder / "evaluation.json").read_bytes()}


def test_run_leaves_what_the_runner_says(tiny_run: Path) -> None:
    names = {path.name for path in tiny_run.iterdir()}
    assert names == {
        "recipe.toml", "state.json", "vocabulary", "explainer", "evaluation.json", "outputs.parquet",
        "metrics.jsonl", "work",
    }  # fmt: skip
    assert list((tiny_run / "work").iterdir()) == []
    stages = {json.loads(line)["stage"] for line in (tiny_run / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"vocabulary", "explainer"}
    assert all(0 <= stage["seconds"] < 600 for stage in RunFolder(tiny_run).state().values())


def test_the_texts_behind_the_numbers_are_kept(tiny_run: Path) -> None:
    folder = RunFolder.open(tiny_run)
    written, pairs = folder.outputs(), folder.dataset().pairs("test")
    assert written is not None
    assert len(written) == folder.evaluation()["text"]["pairs"]
    true = dict(zip(folder.dataset().external(pairs), pairs.texts, strict=True))
    assert [true[pair] for pair in written.pairs] == list(written.references)
    scores = score_texts(written.predictions, written.references).corpus
    assert scores["bleu1"] == pytest.approx(folder.evaluation()["text"]["bleu1"], rel=1e-9)


def test_resolved_recipe_continues_the_run(tiny_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = outputs(tiny_run)
    with caplog.at_level(logging.INFO, "forwhy"):
        reports = run(load_recipe(tiny_run / "recipe.toml"), tiny_run)
    stages = RunFolder(tiny_run).state()
    assert [(it.action, it.seconds) for it in reports] == [
        ("skipped", stages[it.stage]["seconds"]) for it in reports
    ]
    assert len(reports) == 3
    assert sum("skipped" in message for message in caplog.messages) == 3
    assert outputs(tiny_run) == before


def test_same_recipe_same_bytes(tiny_run: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    run(load_recipe(tiny_recipe), tmp_path / "again")
    again, before = outputs(tmp_path / "again"), outputs(tiny_run)
    assert [name for name in before if again.get(name) != before[name]] == []
    assert again.keys() == before.keys()


@pytest.mark.parametrize(
    ("override", "done"),
    [
        ("name=other", set()),
        ("explainer.checkpoint_seconds=1", set()),
        ("evaluation.pairs=3", {"evaluation"}),
        ("explainer.generation.max_words=7", {"evaluation"}),
        ("explainer.engine=int8", {"evaluation"}),
        ("explainer.engine=vllm", set()),
        ("explainer.lr=1e-4", {"explainer", "evaluation"}),
        ("intents.limit=3", WHOLE),
        ("data.protocol=as-published", WHOLE),
        ("data.protocol=zero-shot", WHOLE),
        ("data.zero_shot_users=0.3", set()),
    ],
)
def test_only_what_changed_is_done(
    monkeypatch: pytest.MonkeyPatch,
    tiny_run: Path,
    tiny_recipe: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    override: str,
    done: set[str],
) -> None:
    """And that held-out pairs are learned from is said once, before any stage, where it is so."""
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    monkeypatch.setattr(runner, "_do", lambda home, stage, *rest: None)
    caplog.set_level(logging.INFO, "forwhy")
    reports = run(load_recipe(tiny_recipe, [override]), folder)
    assert {report.stage for report in reports if report.action == "done"} == done
    warned = [
        place for place, said in enumerate(caplog.messages) if "held-out pairs are training edges" in said
    ]
    assert len(warned) == (override == "data.protocol=as-published")
    began = [place for place, said in enumerate(caplog.messages) if said.startswith("vocabulary: begins")]
    assert warned in ([], [began[0] + 1] if began else [])


def test_how_texts_are_written_is_what_the_recipe_says_now(
    tiny_run: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    run(load_recipe(tiny_recipe, ["explainer.generation.max_words=1"]), folder)
    assert RunFolder.open(folder).explainer().config.generation.max_words == 1
    assert (
        RunFolder.open(folder).evaluation()["text"]["length"]
        <= 2
        < RunFolder.open(tiny_run).evaluation()["text"]["length"]
    )


def test_an_evaluation_names_the_engine_that_rounds(
    tiny_run: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    if not has("int8"):
        pytest.skip("this processor has no int8")
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    reports = run(load_recipe(tiny_recipe, ["explainer.engine=int8"]), folder)
    assert [report.action for report in reports][-1] == "done"
    before, after = (RunFolder.open(it).evaluation() for it in (tiny_run, folder))
    assert "engine" not in before["protocol"]
    assert after["protocol"]["engine"] == "int8"
    assert after["nll"] == before["nll"]
    assert any(
        line.startswith("Texts by ") and " in int8" in line for line in protocol_in_words(after["protocol"])
    )


def test_until_stops_early_and_says_how_to_go_on(tiny_recipe: Path, tmp_path: Path) -> None:
    reports = run(load_recipe(tiny_recipe), tmp_path / "run", until="vocabulary")
    assert [report.stage for report in reports] == ["vocabulary"]
    with pytest.raises(UserError, match="stage 'explainer' is not finished; go on with: forwhy run"):
        RunFolder.open(tmp_path / "run").explainer()


def test_later_stages_are_forgotten_when_an_earlier_one_is_done_again(tiny_run: Path, tmp_path: Path) -> None:
    folder = RunFolder(shutil.copytree(tiny_run, tmp_path / "run"))
    folder.mark("vocabulary", "other", 1.0)
    assert folder.has("vocabulary")
    assert not folder.has("explainer")
    assert not folder.has("evaluation")


def test_without_explanations_only_the_vocabulary_is_learned(
    tiny_town: Dataset, tiny_recipe: Path, tmp_path: Path
) -> None:
    tables = {name: table for name, table in tiny_town.tables.items() if name != "explanations"}
    town = make_dataset("silent", tables, {})
    reports = run(load_recipe(tiny_recipe), tmp_path / "run", dataset=town)
    assert [report.action for report in reports] == ["done", "left out", "done"]
    assert [report.seconds > 0 for report in reports] == [True, False, True]
    evaluation = RunFolder(tmp_path / "run").evaluation()
    assert evaluation["ranking"]["recall@20"] > 0
    assert (evaluation["text"], evaluation["nll"], evaluation["text_retrieval"]) == (None, None, None)
    assert RunFolder(tmp_path / "run").outputs() is None


def test_a_run_with_text_first_words_is_made_read_and_measured(tiny_recipe: Path, tmp_path: Path) -> None:
    changed = ["vocabulary.text_first=2", "vocabulary.micro_slots=3"]
    run(load_recipe(tiny_recipe, changed), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    explained = folder.evaluation()["words"]["explained_variance"]
    assert {"item", "user", "both", "controls", "pairs", "intervals"} == set(explained)
    assert {"title", "shuffled"} <= set(explained["controls"])
    told = folder.explainer().explain(folder.dataset().pairs("test").select([0]))[0]
    assert [token.token.rpartition("_")[0] for token in told.tokens[:3]] == [
        "<u.macro",
        "<u.text2",
        "<u.micro",
    ]


def test_foreign_folder_is_refused_and_untouched(
    tiny_recipe: Path, tiny_town: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is not a run"):
        run(load_recipe(tiny_recipe), tmp_path, dataset=tiny_town)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_unreadable_state_is_named(tiny_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    (folder / "state.json").write_text("{")
    with pytest.raises(UserError, match="state.json: .*delete it to do every stage again"):
        RunFolder(folder).state()


def kill_at(mark: str, recipe: Path, folder: Path, overrides: Sequence[str] = ()) -> bool:
    """Run until a file is there, then kill -9; whether it was still going."""
    command = [sys.executable, "-m", "forwhy", "-q", "run", str(recipe), "--out", str(folder)]
    command += [part for override in overrides for part in ("--set", override)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and not any(folder.glob(mark)):
        time.sleep(0.01)
    going = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return going


def test_killed_run_reaches_the_same_result(tiny_run: Path, tiny_recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for mark in ("work", "vocabulary", "explainer"):
        kill_at(mark, tiny_recipe, folder)
    run(load_recipe(tiny_recipe), folder)
    assert outputs(folder) == outputs(tiny_run)


def test_because_killed_while_it_learns_and_while_it_writes_reaches_the_same_result(
    tiny_recipe: Path, tmp_path: Path
) -> None:
    changes = [
        "system=because", "vocabulary.text_first=1", "explainer.describe=8", "explainer.evaluate_every=1",
        "explainer.validation_pairs=2", "explainer.checkpoint_seconds=0", "evaluation.generate=4",
    ]  # fmt: skip
    run(load_recipe(tiny_recipe, changes), tmp_path / "whole")
    folder = tmp_path / "run"
    assert kill_at("work/explainer-*/checkpoint.safetensors", tiny_recipe, folder, changes)
    assert kill_at("explainer", tiny_recipe, folder, changes)
    run(load_recipe(tiny_recipe, changes), folder)
    assert outputs(folder) == outputs(tmp_path / "whole")


def test_a_kill_between_the_mark_and_the_clearing_leaves_nothing_behind(
    tiny_run: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    home = RunFolder(folder)
    left = home.enter("vocabulary", home.state()["vocabulary"]["inputs"])
    (left / "checkpoint.safetensors").write_bytes(b"left")
    run(load_recipe(tiny_recipe), folder)
    assert outputs(folder) == outputs(tiny_run)
    assert not left.exists()


def test_every_section_refuses_unknown_keys() -> None:
    def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
        inner = [field.annotation for field in model.model_fields.values()]
        found = [kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)]
        return [model, *(deeper for kind in found for deeper in sections(kind))]

    for section in [section for kind in map(find_system, names()) for section in sections(kind)]:
        assert section.model_config.get("extra") == "forbid", section
        assert section.model_config.get("frozen") is True, section
