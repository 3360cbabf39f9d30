"""Systems of the next item as whole runs: stages, commands, tables, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from forwhy.cli import app
from forwhy.data.dataset import Dataset, make_dataset
from forwhy.errors import UserError
from forwhy.recipe import RunFolder, default_recipe, load_grid, load_recipe, run, run_grid
from forwhy.recommend.llmbs.recommender import LlmBsRecommender
from forwhy.systems import next_item

ITEMS = 12
TINY = """
name = "tiny"
system = "llm-bs"
seed = 3

[data]
path = "{data}"

[encoder]
name = "hash"

[behaviour]
dims = 8
epochs = 2
device = "cpu"

[index]
width = 4

[recommender]
epochs = 2
patience = 0
batch_size = 16
learning_rate = 1e-2
beam = 8
window = 4
stride = 4
device = "cpu"
backbone = {{ layers = 1, dims = 32, heads = 2, feedforward = 32, dropout = 0.0, text_tokens = 300 }}
tasks = {{ item_to_index = 1.0 }}
annealing = {{ epochs = 1 }}

[evaluation]
ks = [1, 5, 8]
shuffled_users = 20
"""
KNN = 'name = "knn"\nsystem = "item-knn"\n[data]\npath = "{data}"\n[evaluation]\nks = [1, 5, 8]\n'


def ring(items: int = ITEMS, titles: bool = True, length: int = 7) -> Dataset:
    """Forty people who take item after item around a ring; the last two are left out."""
    starts = np.random.default_rng(0).integers(0, items, 40)
    splits = ["train"] * (length - 2) + ["valid", "test"]
    rows = [
        (f"u{user}", f"i{(int(start) + step) % items:02}", step, splits[step])
        for user, start in enumerate(starts)
        for step in range(length)
    ]
    schema = ["user_id", "item_id", "timestamp", "split"]
    tables = {"interactions": pl.DataFrame(rows, schema=schema, orient="row")}
    if titles:
        names = [f"i{number:02}" for number in range(items)]
        tables["items"] = pl.DataFrame({"item_id": names, "title": [f"thing {name}" for name in names]})
    return make_dataset("ring", tables, duplicates="keep")


def written(folder: Path, text: str, data: Dataset) -> Path:
    data.save(folder / "data")
    path = folder / "recipe.toml"
    path.write_text(text.format(data=folder / "data"))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("next-item"), TINY, ring())


@pytest.fixture(scope="module")
def tiny(recipe: Path) -> Path:
    run(load_recipe(recipe), recipe.parent / "run")
    return recipe.parent / "run"


def told(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, object] = json.loads(result.stdout)
    return document


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(result.exception, UserError), result.output
    return str(result.exception)


def test_stages_are_done_once_and_leave_folders_that_load(tiny: Path) -> None:
    reports = run(load_recipe(tiny / "recipe.toml"), tiny)
    assert [(report.stage, report.action) for report in reports] == [
        (stage, "skipped") for stage in ("behaviour", "index", "recommender", "evaluation")
    ]
    assert isinstance(RunFolder.open(tiny).recommender(), LlmBsRecommender)
    assert {line["stage"] for line in RunFolder.open(tiny).history()} == {"behaviour", "recommender"}


def test_same_recipe_same_numbers(recipe: Path, tiny: Path, tmp_path: Path) -> None:
    run(load_recipe(recipe), tmp_path / "again")
    found, again = RunFolder.open(tiny).evaluation(), RunFolder.open(tmp_path / "again").evaluation()
    for document in (found, again):
        del document["costs"]
    assert found == again


def test_a_stopped_evaluation_goes_on_behind_its_last_lists(
    recipe: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five columns (as it is, seen out, repeats, adapter off, shuffled), forty users in three parts each."""
    monkeypatch.setattr(next_item, "LISTED_TOGETHER", 16)
    write, before, calls = LlmBsRecommender.items_after, RunFolder.open(tiny).evaluation(), 0

    def writing(*arguments: Any) -> np.ndarray:  # noqa: ANN401 - as the method takes them
        nonlocal calls
        calls += 1
        if calls in (3, 8):
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(LlmBsRecommender, "items_after", writing)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(load_recipe(recipe), tiny, again=True)
    run(load_recipe(recipe), tiny, again=True)
    assert calls == 2 + 4 * 3 + 2, "those in the midst of which it was stopped, and every part once"
    assert not (tiny / "work").exists() or not any((tiny / "work").iterdir())
    after = RunFolder.open(tiny).evaluation()
    assert after["costs"]["ranking_seconds_per_user"] > 0
    for document in (before, after):
        del document["costs"]
    assert after == before


def test_another_beam_needs_no_new_training_another_epoch_does(recipe: Path, tiny: Path) -> None:
    wider = load_recipe(recipe, ["recommender.beam=12", "evaluation.ks=[1]"])
    assert [report.action for report in run(wider, tiny)][-2:] == ["skipped", "done"]
    assert RunFolder.open(tiny).recommender().config.beam == 12  # type: ignore[attr-defined]
    assert [report.action for report in run(load_recipe(recipe), tiny)][-2:] == ["skipped", "done"]


def test_the_evaluation_is_the_mean_of_what_is_kept_of_each_user(tiny: Path) -> None:
    folder = RunFolder.open(tiny)
    document, ranks = folder.evaluation(), pl.read_parquet(folder.path / "ranking.parquet")
    assert len(ranks) == 40
    for metric in ("recall@5", "ndcg@8"):
        assert ranks[metric].mean() == pytest.approx(document["ranking"][metric])
    hit = (ranks["rank"] <= 5).cast(pl.Float64)
    assert ranks["recall@5"].to_list() == hit.to_list()
    data = folder.dataset().tables["interactions"].filter(pl.col("split") == "test")
    left_out = dict(zip(data["user_id"], data["item_id"], strict=True))
    assert [left_out[user] for user in ranks["user_id"]] == ranks["item_id"].to_list()
    assert set(document["variants"]) == {"adapter off"}
    assert document["order"]["given"]["users"] == document["order"]["shuffled"]["users"] == 20
    assert document["costs"]["ranking_seconds_per_user"] > 0
    assert set(document["costs"]["training"]) == {"sasrec", "llm-bs", "annealing"}
    assert document["protocol"]["index"]["sources"] == ["semantic"] * 2 + ["behaviour"] * 2


def test_anybody_can_be_recommended_to(tiny: Path) -> None:
    known = told("recommend", tiny, "--user", "u0", "-k", 3)
    assert [row["rank"] for row in known["items"]] == [1, 2, 3]  # type: ignore[attr-defined,index]
    stranger = told("recommend", tiny, "--history", "i03,i04, i05", "-k", 20)
    again = told("recommend", tiny, "--history", "i03", "--history", "i04", "--history", "i05", "-k", 20)
    assert stranger == again
    listed = [row["item_id"] for row in stranger["items"]]  # type: ignore[attr-defined]
    assert sorted([*listed, "i03", "i04", "i05"]) == [f"i{number:02}" for number in range(ITEMS)]
    assert len(told("recommend", tiny, "--history", "", "-k", 4)["items"]) == 4  # type: ignore[arg-type]
    long = ",".join(f"i{number % ITEMS:02}" for number in range(30))
    assert told("recommend", tiny, "--history", long, "-k", 2, "--with-seen")["items"]


def test_what_it_cannot_do_is_said_in_a_line(tiny: Path) -> None:
    assert "unknown item id 'i99'" in refused("recommend", tiny, "--history", "i01,i99")
    assert "no words of people" in refused(
        "explain", tiny, "--user", "u0", "--item", "i01", "--without", "<u.macro_1>"
    )
    with pytest.raises(UserError, match="recommends without explaining"):
        RunFolder.open(tiny).explainer()
    assert "has no behaviour vocabulary" in refused("vocabulary", tiny)


def test_the_reason_is_what_the_score_loses_without_each_item(tiny: Path) -> None:
    for person in (("--user", "u0"), ("--history", "i03,i04")):
        why = told("explain", tiny, *person, "--item", "i05")
        assert why["because"]["kind"] == "leave-one-out"
        assert why["text"].endswith(".")
        assert [claim["text"] for claim in why["claims"]]
        (row,) = told("recommend", tiny, *person, "-k", "1", "--explain")["items"]
        assert told("explain", tiny, *person, "--item", row["item_id"])["text"] == row["explanation"]


def test_a_list_of_nothing_new_says_so(tiny: Path) -> None:
    everything = ",".join(f"i{number:02}" for number in range(ITEMS))
    result = CliRunner().invoke(app, ["recommend", str(tiny), "--history", everything])
    assert "nothing that they have not taken; --with-seen" in result.stdout
    assert told("recommend", tiny, "--history", everything)["items"] == []


def test_a_single_item_is_a_history_as_everywhere(tiny: Path) -> None:
    recommender = RunFolder.open(tiny).recommender()
    assert recommender.recommend(history="i01").equals(recommender.recommend(history=["i01"]))


@pytest.fixture(scope="module")
def knn(recipe: Path) -> Path:
    (recipe.parent / "knn.toml").write_text(KNN.format(data=recipe.parent / "data"))
    run(load_recipe(recipe.parent / "knn.toml"), recipe.parent / "knn")
    return recipe.parent / "knn"


def test_a_page_of_such_runs_shows_variants_and_says_what_was_ranked(
    tiny: Path, knn: Path, tmp_path: Path
) -> None:
    words = ["evaluate", str(tiny), str(knn), "--report", str(tmp_path / "report.html")]
    result = CliRunner().invoke(app, words, obj=words)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<bdi>in random order<") == 2
    assert "ranked for each user, nothing left out, ties" in page
    for row in ("run", "knn", "popularity", "seen items left out", "adapter off"):
        assert re.search(rf'<th scope="row"[^>]*>(<[^>]*>|\s)*{row}\b', page), row


def test_runs_of_different_systems_are_compared_user_by_user(tiny: Path, knn: Path) -> None:
    document = told("evaluate", tiny, knn)
    pairs = {(one["a"], one["b"], one["metric"], one["pairs"]) for one in document["comparisons"]}  # type: ignore[attr-defined]
    metrics = [f"{which}{metric}" for which in ("", "unseen ") for metric in ("ndcg@5", "recall@5")]
    assert pairs == {("run", "knn", metric, 40) for metric in metrics}
    assert not [note for note in document["notes"] if "no texts" in note]  # type: ignore[attr-defined]


def test_a_table_of_systems_trains_what_they_share_once(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        f'name = "s"\nsystem = "popularity"\nseed = 3\n[data]\npath = "{recipe.parent / "data"}"\n'
    )
    network = "{ dims = 8, epochs = 1, device = 'cpu' }"
    small = "{ layers = 1, dims = 16, heads = 2, feedforward = 16 }"
    (tmp_path / "grid.toml").write_text(
        'name = "g"\nbase = "base.toml"\n[set]\nevaluation = { ks = [1, 3], shuffled_users = 0 }\n'
        f'[rows.llm-bs]\nsystem = "llm-bs"\nbehaviour = {network}\n'
        'index = { source = "behaviour", width = 4 }\n'
        f"recommender = {{ epochs = 1, beam = 4, contrast.semantic = 0.0, backbone = {small} }}\n"
        f'[rows.sasrec]\nsystem = "sasrec"\nrecommender = {network}\n'
        '[rows.random]\nsystem = "llm-bs"\nindex = { source = "random", width = 4 }\n'
        "recommender = { epochs = 1, beam = 4, contrast = { semantic = 0.0, behaviour = 0.0 }, "
        f"backbone = {small} }}\n"
    )
    grid = load_grid(tmp_path / "grid.toml")
    assert grid is not None
    reports = run_grid(grid, tmp_path / "out")
    done = {row: {report.stage: report.action for report in found} for row, found in reports.items()}
    assert done["llm-bs"]["behaviour"] == "done"
    assert done["sasrec"] == {"recommender": "copied", "evaluation": "done"}
    assert "behaviour" not in done["random"]
    assert len(grid.budget()) == 2
    assert (
        RunFolder(tmp_path / "out" / "random").evaluation()["protocol"]["index"]["sources"] == ["random"] * 2
    )


def test_items_without_any_text_get_an_index_of_behaviour(tmp_path: Path) -> None:
    path = written(tmp_path, TINY, ring(titles=False))
    run(load_recipe(path, ["recommender.annealing.epochs=0"]), tmp_path / "run")
    protocol = RunFolder(tmp_path / "run").evaluation()["protocol"]
    assert set(protocol["index"]["sources"]) == {"behaviour"}
    assert protocol["encoder"] is None


def test_an_index_of_text_needs_text(tmp_path: Path) -> None:
    path = written(tmp_path, TINY, ring(titles=False))
    with pytest.raises(UserError, match="no item has any text; use behaviour or random indices"):
        run(load_recipe(path, ["index.source=semantic"]), tmp_path / "run", until="index")


def test_nobody_left_out_is_nobody_to_rank(tmp_path: Path) -> None:
    data = ring()
    kept = data.tables["interactions"].filter(pl.col("split") != "test")
    path = written(tmp_path, TINY, make_dataset("kept", {"interactions": kept}, duplicates="keep"))
    changes = ["recommender.epochs=1", "recommender.annealing.epochs=0"]
    run(load_recipe(path, changes), tmp_path / "run")
    assert RunFolder(tmp_path / "run").evaluation()["ranking"] is None
    assert load_recipe(path).user_metrics(RunFolder(tmp_path / "run")) is None
    run(load_recipe(path, [*changes, "evaluation.split=valid"]), tmp_path / "run")
    whole = data.tables["interactions"].with_columns(split=pl.lit("train"))
    (tmp_path / "live").mkdir()
    path = written(tmp_path / "live", TINY, make_dataset("live", {"interactions": whole}, duplicates="keep"))
    run(load_recipe(path, changes), tmp_path / "live" / "run")
    assert told("recommend", tmp_path / "live" / "run", "--history", "i00", "-k", 2)["items"]


@pytest.mark.parametrize("items", [1, 3])
def test_a_catalogue_of_a_few_items_runs_through(items: int, tmp_path: Path) -> None:
    path = written(tmp_path, TINY, ring(items))
    run(load_recipe(path, ["evaluation.ks=[1]"]), tmp_path / "run")
    found = told("recommend", tmp_path / "run", "--history", "i00", "--with-seen", "-k", 9)
    assert len(found["items"]) == items  # type: ignore[arg-type]


def test_tiger_runs_as_llm_bs_does(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'name = "t"\nsystem = "tiger"\n[data]\npath = "{recipe.parent / "data"}"\n[encoder]\nname = "hash"\n'
        "[index]\nwidth = 4\ndepth = 2\nepochs = 2\n[recommender]\nlayers = 1\ndims = 16\nheads = 2\n"
        "head_dims = 8\nfeedforward = 16\nepochs = 1\nbeam = 6\n[evaluation]\nks = [1, 5]\n"
    )
    document = told("run", path, "--out", tmp_path / "run")
    assert list(document["stages"]) == ["index", "recommender", "evaluation"]  # type: ignore[call-overload]
    protocol = RunFolder(tmp_path / "run").evaluation()["protocol"]
    assert "semantic" in protocol["index"]["sources"]
    assert len(told("recommend", tmp_path / "run", "--history", "i03,i04", "-k", 3)["items"]) == 3  # type: ignore[arg-type]


BASELINES = ["sasrec", "gru4rec", "caser", "hgn", "bert4rec", "s3-rec", "popularity", "content-knn"]


@pytest.mark.parametrize("system", BASELINES)
def test_baselines_run_through_the_same_commands(system: str, recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    trained = "" if system in BASELINES[-2:] else "[recommender]\ndims = 8\nepochs = 1\n"
    trained += '[encoder]\nname = "hash"\n' if system == "content-knn" else ""
    path.write_text(
        f'name = "b"\nsystem = "{system}"\n[data]\npath = "{recipe.parent / "data"}"\n{trained}'
        "[evaluation]\nks = [1, 5]\n"
    )
    assert told("run", path, "--out", tmp_path / "run")["system"] == system
    assert RunFolder(tmp_path / "run").evaluation()["ranking"]["users"] == 40
    assert len(told("recommend", tmp_path / "run", "--user", "u0", "-k", 3)["items"]) == 3  # type: ignore[arg-type]


HYBRID = (
    'name = "h"\nsystem = "hybrid"\n[data]\npath = "{data}"\n[encoder]\nname = "hash"\n'
    '[behaviour]\ndims = 8\nepochs = 1\ndevice = "cpu"\n[evaluation]\nks = [1, 5]\n'
)


def test_the_hybrid_says_which_expert_and_which_items(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(HYBRID.format(data=recipe.parent / "data"))
    document = told("run", path, "--out", tmp_path / "run")
    assert list(document["stages"]) == ["behaviour", "mixture", "evaluation"]  # type: ignore[call-overload]
    evaluation = RunFolder(tmp_path / "run").evaluation()
    assert set(evaluation["protocol"]["experts"]) == {"sasrec", "item-knn", "content-knn"}
    assert evaluation["unseen"]["users"] == evaluation["repeats"]["users"] == 40
    (row,) = told("recommend", tmp_path / "run", "--history", "i03,i04", "-k", "1", "--explain")["items"]
    assert sum(row["because"]["experts"].values()) == pytest.approx(1.0)
    assert {one["item_id"] for one in row["because"]["shares"]} == {"i03", "i04"}
    shown = (
        CliRunner()
        .invoke(app, ["recommend", str(tmp_path / "run"), "--history", "i03,i04", "--explain"])
        .stdout
    )
    said = r"chosen \d+% by (the order of what was taken|what is said of things|what is taken together)\b"
    assert re.search(said, " ".join(shown.split()))


def test_an_expert_that_cannot_serve_is_left_out_and_said(
    recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    silent = written(tmp_path, HYBRID, ring(titles=False))
    run(load_recipe(silent), tmp_path / "silent")
    assert "content-knn is left out, its weight goes to the others" in caplog.text
    assert set(RunFolder(tmp_path / "silent").evaluation()["protocol"]["experts"]) == {"sasrec", "item-knn"}
    (tmp_path / "short").mkdir()
    single = written(tmp_path / "short", HYBRID, ring(length=3))
    run(load_recipe(single), tmp_path / "short" / "run")
    said = "has no behaviour: its data set has nobody with two training interactions, so there is no order to learn\n"
    assert (
        f"sasrec is left out, its weight goes to the others: {tmp_path / 'short' / 'run'}: {said}"
        in caplog.text
    )
    assert set(RunFolder(tmp_path / "short" / "run").evaluation()["protocol"]["experts"]) == {
        "item-knn",
        "content-knn",
    }
    with pytest.raises(UserError, match="no expert of content-knn can serve it"):
        run(load_recipe(silent, ['mixture.experts=["content-knn"]']), tmp_path / "none")


def test_llm_bs_is_an_expert_where_it_is_asked_for(recipe: Path, tmp_path: Path) -> None:
    text = TINY.format(data=recipe.parent / "data").replace('"llm-bs"', '"hybrid"')
    path = tmp_path / "recipe.toml"
    path.write_text(text + '[mixture]\nexperts = ["sasrec", "llm-bs"]\n')
    reports = run(load_recipe(path), tmp_path / "run")
    assert [report.stage for report in reports] == [
        "behaviour",
        "index",
        "recommender",
        "mixture",
        "evaluation",
    ]
    assert set(RunFolder(tmp_path / "run").evaluation()["protocol"]["experts"]) == {"sasrec", "llm-bs"}


def test_fit_recommender_trains_without_a_recipe_and_evaluate_measures_it(
    recipe: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    told(
        "fit", "recommender", "gru4rec", recipe.parent / "data", "--out", out, "--set", "recommender.epochs=1"
    )
    assert not (out / "evaluation.json").exists()
    assert told("evaluate", out)["ranking"]["users"] == 40  # type: ignore[index]


def test_a_run_that_is_not_trained_is_not_evaluated(recipe: Path, tmp_path: Path) -> None:
    run(load_recipe(recipe), tmp_path / "run", until="index")
    assert "stage 'recommender' is not finished" in refused("evaluate", tmp_path / "run")


def test_data_without_order_is_refused(tmp_path: Path) -> None:
    data = ring()
    tables = {**data.tables, "interactions": data.tables["interactions"].drop("timestamp")}
    path = written(tmp_path, TINY, make_dataset("unordered", tables, duplicates="keep"))
    with pytest.raises(UserError, match="interactions have no timestamp"):
        run(load_recipe(path), tmp_path / "run")


def test_keys_of_a_section_of_several_kinds_are_checked_by_kind(recipe: Path) -> None:
    with pytest.raises(UserError, match=r"unknown key 'behaviour\.dimz'; did you mean 'behaviour\.dims'"):
        load_recipe(recipe, ["behaviour.dimz=3"])
    with pytest.raises(UserError, match=r"unknown key 'behaviour\.epochs'"):
        load_recipe(recipe, ["behaviour.network=spectral"])
    with pytest.raises(UserError, match="'behaviour'"):
        load_recipe(recipe, ["behaviour.network=sasrek"])
    assert load_recipe(recipe).behaviour.seed == 3  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"'evaluation\.ks': .* at least 1 item"):
        load_recipe(recipe, ["evaluation.ks=[]"])
    with pytest.raises(UserError, match=r"'recommender': stride = 30 leaves gaps"):
        load_recipe(recipe, ["recommender.stride=30"])


def test_files_that_a_recipe_reads_belong_to_its_inputs(recipe: Path, tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.npy"
    np.save(vectors, np.random.default_rng(0).normal(size=(ITEMS, 6)))
    text = recipe.read_text().replace(
        'dims = 8\nepochs = 2\ndevice = "cpu"', f'network = "file"\npath = "{vectors}"'
    )
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    first = run(load_recipe(path), tmp_path / "run", until="index")
    assert [(report.stage, report.action) for report in first] == [("index", "done")]
    assert run(load_recipe(path), tmp_path / "run", until="index")[0].action == "skipped"
    np.save(vectors, np.random.default_rng(1).normal(size=(ITEMS, 6)))
    assert run(load_recipe(path), tmp_path / "run", until="index")[0].action == "done"
    vectors.unlink()
    with pytest.raises(UserError, match=r"vectors\.npy: no such file"):
        run(load_recipe(path), tmp_path / "run", until="index")


def test_beside_another_task_the_next_item_is_asked_as_that_is(
    recipe: Path, knn: Path, tmp_path: Path
) -> None:
    """Popularity is the witness: as a run of the next item it gets what it has as a baseline of the other run."""
    data, small = recipe.parent / "data", ["vocabulary.epochs=1", "vocabulary.codes=4", "encoder.name=hash"]
    for system, options in (("because", [*small, "vocabulary.device=cpu"]), ("popularity", [])):
        run(default_recipe(system, data, options), tmp_path / system)
    document = told("evaluate", tmp_path / "because", tmp_path / "popularity", knn)
    runs = document["runs"]
    expected = runs["because"]["baselines"]["popularity"]
    found = runs["popularity"]["ranking"]
    assert {name: found[name] for name in ("recall@20", "ndcg@20", "users")} == {
        name: expected[name] for name in ("recall@20", "ndcg@20", "users")
    }
    assert not runs["popularity"]["baselines"]
    assert any(note.startswith("popularity: ranked as the others are") for note in document["notes"])
    assert {(one["a"], one["b"]) for one in document["comparisons"]} >= {("because", "popularity")}
    alone = told("evaluate", tmp_path / "popularity", knn)
    assert alone["runs"]["popularity"]["ranking"]["users"] == expected["users"]
    assert alone["runs"]["popularity"]["unseen"], "runs alike stay as they are"


def test_a_validation_item_is_unknown_and_a_repeated_item_does_not_count(tmp_path: Path) -> None:
    rows = [("a", item, time, split) for time, (item, split) in enumerate(
        [("i1", "train"), ("i2", "train"), ("i3", "valid"), ("i4", "test")])]  # fmt: skip
    rows += [("b", item, time, split) for time, (item, split) in enumerate(
        [("i1", "train"), ("i3", "train"), ("i2", "valid"), ("i1", "test")])]  # fmt: skip
    frame = pl.DataFrame(rows, ["user_id", "item_id", "timestamp", "split"], orient="row")
    make_dataset("four", {"interactions": frame}, duplicates="keep").save(tmp_path / "data")
    run(default_recipe("popularity", tmp_path / "data"), tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    result = folder.recipe.rank_after_training(folder)
    assert result is not None
    assert result.users.tolist() == [0], "b takes i1 again"
    assert result.ranks.tolist() == [2], "behind i3, which nobody told of; i1 and i2 are not offered"
