"""Several runs and files at once: equal numbers for equal texts, one document, one line for a mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from forwhy.cli import main
from forwhy.data.dataset import Dataset
from forwhy.evaluate.reading import Outputs
from forwhy.recipe.evaluated import Request
from forwhy.recipe.examine import examine

Capture = pytest.CaptureFixture[str]
TEXTS = ("bleu1", "bleu4", "rougeL", "similarity")


def call(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout, stderr of `forwhy evaluate`."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as leaving:
        main(["evaluate", *map(str, arguments)])
    printed = capsys.readouterr()
    return int(leaving.value.code or 0), printed.out, printed.err


def document(capsys: Capture, *arguments: object) -> Any:  # noqa: ANN401 - JSON is any of its types
    """The one JSON document of a command that succeeds."""
    status, out, err = call(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def refusal(capsys: Capture, *arguments: object) -> str:
    """The one line of a command that is refused."""
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("forwhy: ")
    assert len(err.splitlines()) == 1
    return err


@pytest.fixture(scope="module")
def town(tiny_recipe: Path) -> Path:
    """The saved little town."""
    return tiny_recipe.parent / "town"


@pytest.fixture(scope="module")
def good_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tiny run that wrote the references."""
    folder = shutil.copytree(tiny_run, tmp_path_factory.mktemp("good") / "good")
    outputs = Outputs.load(folder / "outputs.parquet")
    Outputs.of(outputs.pairs, outputs.references, outputs.references).save(folder / "outputs.parquet")
    return folder


@pytest.fixture(scope="module")
def lists(tiny_town: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """All held-out texts of the town: right ones, poor ones, and the references."""
    folder = tmp_path_factory.mktemp("lists")
    texts = [*tiny_town.pairs("test").texts, *tiny_town.pairs("valid").texts]
    poor = [" ".join(text.split()[:4]) for text in texts]
    given = {"right": texts, "poor": poor, "references": texts}
    for name, lines in given.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "right.txt", folder / "poor.txt", folder / "references.txt"


# --- laws


def test_a_run_and_its_own_outputs_have_equal_numbers(capsys: Capture, tiny_run: Path, town: Path) -> None:
    alone = document(capsys, tiny_run)
    options = ("--encoder", "hash", "--seed", alone["protocol"]["evaluation_seed"])
    file = tiny_run / "outputs.parquet"
    read = document(capsys, "--outputs", file, "--data", town, *options)["runs"]["outputs"]
    both = document(capsys, tiny_run, "--outputs", f"file={file}", *options)
    for part in ("text", "controls"):
        assert alone[part] == read[part] == both["runs"]["run"][part] == both["runs"]["file"][part]
    assert both["runs"]["run"]["ranking"] == alone["ranking"]
    assert both["runs"]["file"]["ranking"] is None
    assert both["bold"] == []
    assert all(one["difference"] == 0 and one["p"] == 1 for one in both["comparisons"])


def test_the_order_of_rows_changes_no_number(
    capsys: Capture, tiny_run: Path, tmp_path: Path, town: Path
) -> None:
    frame = pl.read_parquet(tiny_run / "outputs.parquet")
    frame.write_csv(tmp_path / "one.csv")
    frame.reverse().write_ndjson(tmp_path / "two.jsonl")
    options = ("--data", town, "--encoder", "hash")
    one = document(capsys, "--outputs", f"x={tmp_path / 'one.csv'}", *options)
    two = document(capsys, "--outputs", f"x={tmp_path / 'two.jsonl'}", *options)
    assert one == two


def test_lists_and_a_table_of_the_same_texts_agree(
    capsys: Capture, tiny_run: Path, tmp_path: Path, town: Path
) -> None:
    outputs = Outputs.load(tiny_run / "outputs.parquet")
    for name, texts in (("p", outputs.predictions), ("r", outputs.references)):
        (tmp_path / f"{name}.json").write_text(json.dumps(texts))
    options = ("--data", town, "--encoder", "hash")
    table = document(capsys, "--outputs", f"x={tiny_run / 'outputs.parquet'}", *options)["runs"]["x"]
    listed = document(
        capsys, "--outputs", f"x={tmp_path / 'p.json'}", "--references", tmp_path / "r.json", *options
    )["runs"]["x"]
    assert listed["matched"] == {"train": 0, "valid": 0, "test": 4, "ambiguous": 0, "unknown": 0}
    for part in ("text", "controls", "grounding"):
        assert table[part] == listed[part]


def test_controls_come_from_training_texts_only(tiny_run: Path, tiny_town: Dataset) -> None:
    (found,) = examine(Request(runs=[tiny_run], metrics=["bleu1"])).examined
    training, profiles = set(tiny_town.pairs("train").texts), set(tiny_town.profiles("item").values())
    assert len(found.samples) == 4
    for sample in found.samples:
        picked = {
            sample.controls[name] for name in ("constant", "constant_similar", "nearest_item", "nearest_user")
        }
        assert picked <= training
        assert sample.controls["profile"] in {*profiles, *tiny_town.item_texts(), *training}
        assert sample.reference not in sample.controls.values()


# --- what is found


def test_a_better_run_is_bold_where_the_difference_survives(
    capsys: Capture, town: Path, lists: tuple[Path, Path, Path]
) -> None:
    right, poor, references = lists
    options = ("--data", town, "--references", references, "--encoder", "none", "--metrics", "bleu1,length")
    found = document(capsys, "--outputs", right, "--outputs", poor, *options)
    assert found["bold"] == [["right", "bleu1"]]
    assert {(one["a"], one["b"], one["metric"]) for one in found["comparisons"]} == {
        ("right", "poor", "bleu1"),
        ("right", "poor", "length"),
    }
    assert all(one["pairs"] == 16 for one in found["comparisons"])
    assert any("2 comparisons" in note for note in found["notes"])
    status, out, _ = call(capsys, "--outputs", right, "--outputs", poor, *options)
    assert status == 0
    assert "bleu1: right is above poor" in out
    assert "length: right is above poor" in out


def test_two_runs_are_compared_by_texts_and_rankings(capsys: Capture, tiny_run: Path, good_run: Path) -> None:
    found = document(capsys, tiny_run, good_run, "--metrics", "bleu1")
    assert {one["metric"] for one in found["comparisons"]} == {"bleu1", "recall@20", "ndcg@20"}
    p = sorted(one["p"] for one in found["comparisons"])
    assert min(one["p_holm"] for one in found["comparisons"]) == pytest.approx(3 * p[0]), "one family"
    assert set(found["runs"]) == {"run", "good"}
    assert found["runs"]["good"]["text"]["bleu1"] == 1
    assert {"recall", "precision"} <= set(found["runs"]["good"]["grounding"]["method"])


def test_common_pairs_are_those_of_all(
    capsys: Capture, tiny_run: Path, lists: tuple[Path, Path, Path]
) -> None:
    right, _, references = lists
    options = ("--outputs", right, "--references", references, "--encoder", "hash", "--no-grounding")
    every = document(capsys, tiny_run, *options)
    assert [every["runs"][name]["text"]["pairs"] for name in ("run", "right")] == [4, 16]
    assert any("run and right share 4 pairs" in note for note in every["notes"])
    common = document(capsys, tiny_run, *options, "--common")
    assert [common["runs"][name]["text"]["pairs"] for name in ("run", "right")] == [4, 4]
    assert common["runs"]["right"]["grounding"] is None


def test_without_a_data_set_constants_are_picked_crosswise(
    capsys: Capture, lists: tuple[Path, Path, Path]
) -> None:
    right, _, references = lists
    found = document(capsys, "--outputs", right, "--references", references, "--encoder", "hash")
    assert set(found["runs"]["right"]["controls"]) == {"constant_halves", "dealt"}
    assert any("constant_halves" in note and "--data FOLDER" in note for note in found["notes"])
    assert any("no titles are known" in note and "--data FOLDER" in note for note in found["notes"])
    assert any("grounding" in note for note in found["notes"])


def test_what_is_left_out_is_counted_and_said(
    capsys: Capture, tiny_run: Path, tmp_path: Path, town: Path
) -> None:
    rows = pl.read_parquet(tiny_run / "outputs.parquet")
    user, item = rows.row(0)[:2]
    dirt = [(user, item, None, "x"), ("nobody", item, "a", "b"), (user, "nothing", "a", "b"), rows.row(1)]
    frame = pl.concat([rows, pl.DataFrame(dirt, schema=rows.schema, orient="row")])
    frame.write_parquet(tmp_path / "dirty.parquet")
    found = document(capsys, "--outputs", tmp_path / "dirty.parquet", "--data", town, "--encoder", "hash")
    assert found["runs"]["dirty"]["exclusions"] == {
        "no_prediction": 1, "no_reference": 0, "duplicates": 1, "unknown_user": 1, "unknown_item": 1,
        "not_held_out": 0,
    }  # fmt: skip
    assert found["runs"]["dirty"]["text"]["pairs"] == 4
    assert "dirty: left out: 1 rows of users the data set does not know." in found["notes"]


def test_features_of_a_file_are_measured(capsys: Capture, tmp_path: Path) -> None:
    columns = {"prediction": ["good tea", "a bar"], "reference": ["tea", "bar"], "features": ["tea", "cake"]}
    pl.DataFrame(columns).write_csv(tmp_path / "a.csv")
    found = document(capsys, "--outputs", tmp_path / "a.csv", "--encoder", "none", "--metrics", "fmr,fcr")
    assert found["runs"]["a"]["text"]["fmr"] == 0.5
    assert found["runs"]["a"]["text"]["fcr"] == 0.5


def test_examined_holds_all_that_a_report_draws(good_run: Path) -> None:
    (found,) = examine(Request(runs=[good_run], metrics=["bleu1"])).examined
    assert {line["stage"] for line in found.history} == {"vocabulary", "explainer"}
    assert set(found.usage) == {"user_macro", "user_micro", "item_macro", "item_micro"}
    assert sum(found.usage["user_macro"]) == 40
    assert sum(found.usage["user_micro"]) == 200
    assert all(sample.scores["bleu1"] == 1 for sample in found.samples)
    assert any(sample.unsupported for sample in found.samples) == (
        found.document["grounding"]["method"]["precision"] < 1
    )


def test_a_report_shows_what_was_examined(
    capsys: Capture, tiny_run: Path, good_run: Path, tmp_path: Path
) -> None:
    found = document(capsys, tiny_run, good_run, "--metrics", "bleu1", "--report", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "run, good" in page
    for name, it in found["runs"].items():
        assert name in page
        assert all(
            sentence["sentence"] in page for sentence in it["controls"].values() if "sentence" in sentence
        )


def test_names_from_strangers_reach_a_terminal_as_text(
    capsys: Capture, lists: tuple[Path, Path, Path]
) -> None:
    right, _, references = lists
    name = "[bold]\x1b[2Jx"
    status, out, _ = call(
        capsys, "--outputs", f"{name}={right}", "--references", references, "--encoder", "none"
    )
    assert status == 0
    assert "\x1b" not in out
    assert "[bold]" in out


def test_training_texts_among_the_references_are_said(
    capsys: Capture, tiny_town: Dataset, town: Path, tmp_path: Path
) -> None:
    texts = [*tiny_town.pairs("train").texts[:5], *tiny_town.pairs("test").texts]
    (tmp_path / "a.json").write_text(json.dumps(texts))
    given = ("--outputs", tmp_path / "a.json", "--references", tmp_path / "a.json", "--data", town)
    for option, scored, favoured in ((), 13, True), (("--common",), 8, False):
        found = document(capsys, *given, "--encoder", "none", *option)
        assert found["runs"]["a"]["text"]["pairs"] == scored
        (note,) = (note for note in found["notes"] if "of a training pair" in note)
        assert "8 are the text of a test pair, 0 of a valid one, 5 of a training pair" in note
        assert ("Controls were picked" in note) == favoured


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give a run folder, or --outputs FILE"),
        (["--references", "x.txt"], "no outputs that these belong to"),
        (["--outputs", "no.csv"], "no.csv: no such file"),
        (["--outputs", "no.csv", "--metrics", "blue1"], "did you mean 'bleu1'?"),
        (["nowhere", "--metrics", "bleu1"], "nowhere: not a run folder"),
        (["--outputs", "{right}", "--references", "{right}", "--data", "no"], "no: no such folder"),
        (["--outputs", "{own}", "--references", "{right}"], "every file of outputs has its own"),
        (
            ["--outputs", "{own}", "--metrics", "similarity", "--encoder", "none"],
            "--metrics similarity: none",
        ),
        (["--outputs", "{own}", "--grounding", "--encoder", "none"], "grounding: needs vectors"),
        (["--outputs", "{own}", "--grounding", "--encoder", "hash"], "give --data FOLDER"),
        (
            ["--outputs", "{own}", "--outputs", "x={right}", "--references", "{right}", "--common"],
            "0 pairs in common",
        ),
    ],
)
def test_one_line_for_a_mistake(
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lists: tuple[Path, Path, Path],
    arguments: Sequence[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Outputs.of([(1, 2), (3, 4)], ["a", "b"], ["c", "d"]).save(tmp_path / "own.parquet")
    places = {"right": lists[0], "own": "own.parquet"}
    assert said in refusal(capsys, *(argument.format(**places) for argument in arguments))


def test_runs_that_share_nothing_stand_in_one_table_uncompared(capsys: Capture, tmp_path: Path) -> None:
    for name, user in (("one", 1), ("two", 7)):
        Outputs.of([(user, 2), (user, 4)], ["a", "b"], ["c", "d"]).save(tmp_path / f"{name}.parquet")
    files = [argument for name in ("one", "two") for argument in ("--outputs", tmp_path / f"{name}.parquet")]
    found = document(capsys, *files, "--encoder", "none")
    assert found["comparisons"] == []
    assert any(note.startswith("not compared: runs 'one' and 'two' have 0") for note in found["notes"])
