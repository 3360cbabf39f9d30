"""What is pushed: what was learned and a card, nothing else; fetched again it answers alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import polars as pl
import pytest
import yaml

import forwhy
from forwhy import Vocabulary, hub
from forwhy.cli import main
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.recipe import RunFolder
from forwhy.recipe.pushing import write_push


def files(folder: Path) -> set[str]:
    return {str(it.relative_to(folder)) for it in folder.rglob("*") if it.is_file()}


@pytest.fixture(scope="module")
def pushed(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push") / "it"
    write_push(RunFolder.open(tiny_run), folder, "me/model")
    return folder


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-token")
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)


class Api:
    """A hub that keeps what it is given."""

    def __init__(self, token: str) -> None:
        assert token == "secret-token"
        self.calls: list[tuple[Any, ...]] = []
        self.public = False
        self.error: Exception | None = None

    def __call__(self, token: str) -> Api:
        assert token == "secret-token"
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        if self.error:
            raise self.error
        self.calls.append(("create", name, private, exist_ok))

    def repo_info(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(private=not self.public)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.calls.append(("upload", repo_id, files(Path(folder_path))))


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api("secret-token")
    monkeypatch.setattr(huggingface_hub, "HfApi", made)
    return made


def push(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["push", *map(str, arguments)])
    return int(leaving.value.code or 0)


def test_only_what_was_learned_is_in_it(tiny_run: Path, pushed: Path, tiny_town: Dataset) -> None:
    top = {name.partition("/")[0] for name in files(pushed)}
    assert top == {"README.md", "recipe.toml", "state.json", "metrics.jsonl", "vocabulary", "explainer"}
    written = (pushed / "recipe.toml").read_text()
    assert str(tiny_run.parent / "town") not in written
    told = {*tiny_town.tables["explanations"]["text"], *tiny_town.tables["reviews"]["text"]}
    for table in pushed.rglob("*.parquet"):
        for column in pl.read_parquet(table).select(pl.col(pl.String)):
            assert not told & set(column)


def test_the_card(tiny_run: Path, pushed: Path, tiny_town: Dataset) -> None:
    _, front, text = (pushed / "README.md").read_text().split("---\n", 2)
    head = yaml.safe_load(front)
    ranking = RunFolder.open(tiny_run).evaluation()["ranking"]
    (found,) = head["model-index"][0]["results"]
    assert {it["type"]: it["value"] for it in found["metrics"]}["ndcg@20"] == round(ranking["ndcg@20"], 4)
    assert head["tags"] == ["recommendation", "beat"]
    assert head["datasets"] == ["little-town"]
    assert "base_model" not in head  # a folder of this machine is on no hub
    assert tiny_town.fingerprint in text
    samples = text.partition("## Samples\n")[2].partition("## Limits")[0].strip().splitlines()
    assert len(samples) == 3
    held = {line.split("`")[1] for line in text.splitlines() if line.startswith("- `")}
    texts = {"vocabulary/items.parquet", "vocabulary/users.parquet", "vocabulary/words.parquet"}
    assert held == texts | {f"explainer/{name}" for name in texts}


def test_what_was_fetched_answers_as_the_run(
    tiny_run: Path, pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(name: str, *, revision: str | None, allow_patterns: list[str], token: object) -> str:
        asked.append((name, revision, token))
        shutil.copytree(pushed, tmp_path / "kept", dirs_exist_ok=True)
        return str(tmp_path / "kept")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    words = Vocabulary.from_pretrained("me/model", revision="abc")
    assert asked == [("me/model", "abc", "secret-token")]
    user = words.catalogue.users.values[0]
    here, there = RunFolder.open(tiny_run), RunFolder.open("me/model")
    both = [run.recommender().recommend(user, filter_seen=False) for run in (here, there)]
    assert both[0].equals(both[1]), "what is left out besides needs the data set"
    assert forwhy.open("me/model").folder.path == tmp_path / "kept"


def test_a_base_model_of_the_hub_stands_in_the_front(tiny_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((copy / "explainer" / "config.json").read_text())
    config["config"]["base_model"]["id"] = "org/base-1B"
    (copy / "explainer" / "config.json").write_text(json.dumps(config))
    write_push(RunFolder.open(copy), tmp_path / "it", "me/model")
    head = yaml.safe_load((tmp_path / "it" / "README.md").read_text().split("---\n")[1])
    assert (head["base_model"], head["base_model_relation"]) == (["org/base-1B"], "adapter")


def test_upload(
    tiny_run: Path,
    pushed: Path,
    api: Api,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert push(tiny_run, "me/model", "--private") == 0
    assert api.calls == [("create", "me/model", True, True), ("upload", "me/model", files(pushed))]
    printed = capsys.readouterr()
    assert f"pushing to me/model at {hub.host()} (private)" in printed.err
    assert "secret-token" not in printed.err + printed.out
    api.calls.clear()
    api.public = True
    assert push(tiny_run, "me/model", "--private") == 2
    assert [call[0] for call in api.calls] == ["create"]
    assert "is there already and public" in capsys.readouterr().err
    api.error = ConnectionError("Name or service not known\nsecond line")
    assert push(tiny_run, "me/model") == 2
    told = capsys.readouterr().err.splitlines()
    assert len([line for line in told if "not pushed to" in line]) == 1
    assert "second line" not in told[-1]
    monkeypatch.delenv("HF_TOKEN")
    assert push(tiny_run, "me/model") == 2
    assert "export HF_TOKEN=" in capsys.readouterr().err


def test_a_dry_run_asks_nobody(tiny_run: Path, pushed: Path, tmp_path: Path) -> None:
    assert push(tiny_run, "me/model", "--dry-run", tmp_path / "it") == 0
    assert files(tmp_path / "it") == files(pushed)
    assert push(tiny_run, "me/model", "--dry-run", tmp_path / "it") == 0  # again, in its place


def test_refusals(tiny_run: Path, tmp_path: Path) -> None:
    some = RunFolder.open(tiny_run)
    with pytest.raises(UserError, match="write it as me/model"):
        write_push(some, tmp_path / "it", "model")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        write_push(some, tmp_path, "me/model")
    (tmp_path / "pop.toml").write_text('name = "pop"\nsystem = "popularity"\n[data]\npath = "x"\n')
    (tmp_path / "run").mkdir()
    shutil.copyfile(tmp_path / "pop.toml", tmp_path / "run" / "recipe.toml")
    with pytest.raises(UserError, match="holds nothing that was learned"):
        write_push(RunFolder.open(tmp_path / "run"), tmp_path / "it", "me/model")


def test_a_folder_is_never_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`snapshot_download` is None here: a call would fail."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for name in ("runs/typo", "./runs", "/somewhere/else", "one", "a/b/c"):
        assert hub.local(name) == Path(name)
    with pytest.raises(UserError, match="runs/typo"):
        RunFolder.open("runs/typo")


def test_without_network_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(
        UserError, match=r"'me/model' is no folder, .* \(LocalEntryNotFoundError: no connection\)"
    ):
        Vocabulary.from_pretrained("me/model")
