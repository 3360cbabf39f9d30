"""`forwhy mine`: options, estimates, refusals, and what is written; `forwhy answers`: out as JSON lines and in."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.text.chat import client as opening
from forwhy.text.chat.answers import KeptAnswers, export_answers
from forwhy.text.chat.base import Answer, ChatConfig, Question, Tally

Capture = pytest.CaptureFixture[str]


URL = ["--llm-url", "http://127.0.0.1:9/v1"]


class Model:
    """Answers every question about explanations; keeps what it was asked and with which options."""

    model, concurrency = "m", 1

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.configs: list[ChatConfig] = []

    def open(self, config: ChatConfig) -> Model:
        self.configs.append(config)
        return self

    def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        fits = len(self.asked) % 4
        return Answer('{"explanation": "For the tea."}' if fits else "no", used=Tally(1, 50, 8))

    def stop(self) -> None: ...

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    asked = Model()
    monkeypatch.setattr(opening, "open_chat", asked.open)
    return asked


@pytest.fixture
def town(tmp_path: Path) -> Path:
    little_town(users=20, items=20, visits=6, explanations=(12, 4, 4)).save(tmp_path / "town")
    return tmp_path / "town"


def test_extractive_says_that_nobody_was_asked(cli: Any, capsys: Capture, town: Path, tmp_path: Path) -> None:
    before = Dataset.load(town)
    shown = cli.document("mine", "profiles", town, "--extractive", "--out", tmp_path / "mined")
    assert shown["model"] == "extractive"
    assert shown["note"].startswith("No language model was asked")
    assert [stage["about"] for stage in shown["stages"]] == ["items", "users"]
    after = Dataset.load(tmp_path / "mined")
    assert after.fingerprint == shown["fingerprint"] != before.fingerprint
    assert Dataset.load(town).fingerprint == before.fingerprint
    assert cli.call("mine", "profiles", town, "--extractive") == 0
    printed = capsys.readouterr().out
    assert "No language model was asked" in printed
    assert Dataset.load(town).fingerprint == after.fingerprint


def test_a_model_is_asked_once_and_its_answers_are_kept(
    cli: Any, town: Path, tmp_path: Path, model: Model
) -> None:
    ask = ["mine", "explanations", town, "--llm", "m", *URL, "--limit", 9, "--out", tmp_path / "mined"]
    shown = cli.document(*ask, "--concurrency", 3, "--budget-tokens", 9000, "--requests-per-minute", 600)
    (config,) = model.configs
    assert (config.concurrency, config.budget_tokens, config.requests_per_minute) == (3, 9000, 600)
    (stage,) = shown["stages"]
    assert (stage["about"], stage["subjects"], stage["mined"]) == ("pairs", 9, 9)
    first = len(model.asked)
    assert stage["asked"]["asked_again"] == first - 9 > 0
    assert (tmp_path / "mined.replies.db").stat().st_size > 0
    again = cli.document(*ask)
    assert len(model.asked) == first
    assert again["fingerprint"] == shown["fingerprint"]
    assert again["note"] is None


def test_answers_of_an_earlier_version_are_gone_on_with(
    cli: Any, town: Path, tmp_path: Path, model: Model
) -> None:
    ask = ["mine", "explanations", town, "--llm", "m", *URL, "--limit", 5, "--out", tmp_path / "mined"]
    cli.document(*ask)
    first = len(model.asked)
    export_answers(tmp_path / "mined.replies.db", tmp_path / "mined.replies.jsonl")
    (tmp_path / "mined.replies.db").unlink()
    (stage,) = cli.document(*ask, "--dry-run")["stages"]
    assert stage["cached"] == 5
    cli.document(*ask)
    assert len(model.asked) == first


def test_a_dry_run_asks_nothing_and_writes_nothing(
    cli: Any, capsys: Capture, town: Path, model: Model
) -> None:
    before = {path.name for path in town.parent.iterdir()}
    ask = ["mine", "intents", town, "--llm", "m", *URL, "--dry-run", "--prices", "1,2"]
    shown = cli.document(*ask, "--requests-per-minute", 60)
    assert [stage["about"] for stage in shown["stages"]] == ["items", "users"]
    for stage in shown["stages"]:
        assert stage["cost"] == pytest.approx((stage["input_tokens"] + 2 * stage["output_tokens"]) / 1e6)
        assert stage["seconds"] == pytest.approx(stage["questions"])
    assert cli.call(*ask) == 0
    assert "questions of" in capsys.readouterr().out
    assert model.asked == []
    assert {path.name for path in town.parent.iterdir()} == before


def test_a_dry_run_counts_what_is_kept(cli: Any, capsys: Capture, town: Path, model: Model) -> None:
    ask = ["mine", "explanations", town, "--llm", "m", *URL]
    assert cli.call(*ask, "--limit", 3) == 0
    capsys.readouterr()
    (stage,) = cli.document(*ask, "--dry-run")["stages"]
    assert (stage["questions"] - 3, stage["cached"]) == (stage["questions"] - stage["cached"], 3)


def test_a_stage_with_a_prompt_of_ones_own(cli: Any, town: Path, tmp_path: Path, model: Model) -> None:
    own = tmp_path / "own.md"
    own.write_text("In {words} words, as JSON.\n---\nIt says: {reviews}")
    assert cli.call("mine", "explanations", town, "--llm", "m", *URL, "--prompt", own) == 0
    assert model.asked[0].messages[1].content.startswith("It says: <review>")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --llm MODEL to ask a language model, or --extractive"),
        (["--llm", "m", "--extractive"], "one of them"),
        (
            ["--extractive", "--cache", "x", "--budget-tokens", "5"],
            "--budget-tokens, --cache: no model is asked",
        ),
        (["--extractive", "--dry-run"], "--dry-run: no model is asked"),
        (["--llm", "m", *URL, "--prompt", "p.md"], "add --side user or item"),
        (["--llm", "m", *URL, "--side", "item", "--prompt", "none.md"], "none.md: no such file"),
        (["--llm", "m", *URL, "--prices", "3"], "--prices 3: expected IN,OUT"),
        (["--llm", "m", *URL, "--concurrency", "9999"], "concurrency"),
        (["--extractive", "--limit", "0"], "limit"),
    ],
)
def test_mistakes_are_one_line(
    cli: Any, capsys: Capture, town: Path, model: Model, options: list[str], message: str
) -> None:
    before = Dataset.load(town).fingerprint
    status = cli.call("mine", "intents", town, *options)
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert len(printed.err.splitlines()) == 1
    assert message in printed.err
    assert model.asked == []
    assert Dataset.load(town).fingerprint == before


def test_a_place_that_is_not_ours_is_refused_before_anything_is_asked(
    cli: Any, capsys: Capture, town: Path, tmp_path: Path, model: Model
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("mine")
    ask = ["mine", "explanations", town, "--llm", "m", *URL]
    assert cli.call(*ask, "--out", tmp_path / "other") == 2
    assert "did not write" in capsys.readouterr().err
    assert cli.call("mine", "intents", tmp_path / "none", "--extractive") == 2
    assert model.asked == []


def test_answers_go_out_and_in(cli: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with KeptAnswers(tmp_path / "a.db") as kept:
        kept.add("0" * 64, "m", Answer("tea", used=Tally(1, 10, 2)), 0.5)
    assert cli.call("answers", "export", tmp_path / "a.db", tmp_path / "a.jsonl") == 0
    assert capsys.readouterr().out == f"1 answers written to {tmp_path / 'a.jsonl'}.\n"
    for new in (1, 0):
        assert cli.call("answers", "import", tmp_path / "a.jsonl", tmp_path / "b.db") == 0
        assert capsys.readouterr().out == f"{new} new answers in {tmp_path / 'b.db'}.\n"
    with KeptAnswers(tmp_path / "b.db") as kept:
        assert kept.get("0" * 64) == Answer("tea", used=Tally(1, 10, 2))


def test_mistakes_about_answers_are_one_line(
    cli: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").write_text("my notes, longer than a header")
    for command, said in [
        (("export", tmp_path / "none", tmp_path / "a"), "no such file"),
        (("export", tmp_path / "notes", tmp_path / "a"), "give another file"),
        (("import", tmp_path / "notes", tmp_path / "a"), "no file of answers as JSON lines"),
    ]:
        assert cli.call("answers", *command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
