"""`forwhy answers`: out as JSON lines, and in again."""

from pathlib import Path

import pytest

from forwhy.cli import main
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.base import Answer, Tally


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["answers", *map(str, arguments)])
    return int(leaving.value.code or 0)


def test_answers_go_out_and_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with KeptAnswers(tmp_path / "a.db") as kept:
        kept.add("0" * 64, "m", Answer("tea", used=Tally(1, 10, 2)), 0.5)
    assert call("export", tmp_path / "a.db", tmp_path / "a.jsonl") == 0
    assert capsys.readouterr().out == f"1 answers written to {tmp_path / 'a.jsonl'}.\n"
    for new in (1, 0):
        assert call("import", tmp_path / "a.jsonl", tmp_path / "b.db") == 0
        assert capsys.readouterr().out == f"{new} new answers in {tmp_path / 'b.db'}.\n"
    with KeptAnswers(tmp_path / "b.db") as kept:
        assert kept.get("0" * 64) == Answer("tea", used=Tally(1, 10, 2))


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes").write_text("my notes, longer than a header")
    for command, said in [
        (("export", tmp_path / "none", tmp_path / "a"), "no such file"),
        (("export", tmp_path / "notes", tmp_path / "a"), "give another file"),
        (("import", tmp_path / "notes", tmp_path / "a"), "no file of answers as JSON lines"),
    ]:
        assert call(*command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
