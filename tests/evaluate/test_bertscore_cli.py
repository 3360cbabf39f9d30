"""Learned metrics on the command line: as their classes give them, in the table and the document."""

import json
from pathlib import Path

import polars as pl
import pytest

from forwhy.cli import main
from forwhy.evaluate.bertscore import BertScore


def test_bertscore_is_that_of_the_class(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pl.DataFrame({"prediction": ["tea and cake", "a loud bar"], "reference": ["good tea", "a bar"]})
    frame.write_csv(tmp_path / "outputs.csv")
    asked = [
        "evaluate",
        "--outputs",
        str(tmp_path / "outputs.csv"),
        "--encoder",
        "none",
        "--bertscore",
        str(bert),
    ]
    with pytest.raises(SystemExit) as leaving:
        main([*asked, "--json"])
    assert not leaving.value.code
    document = json.loads(capsys.readouterr().out)["runs"]["outputs"]
    score = BertScore(str(bert))
    wanted = score(frame["prediction"].to_list(), frame["reference"].to_list()).per_pair["bertscore_f"].mean()
    assert document["text"]["bertscore_f"] == pytest.approx(wanted, abs=1e-4)
    assert document["protocol"]["texts"]["measures"] == [score.signature]
    with pytest.raises(SystemExit):
        main(asked)
    assert "bertscore_f" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--bertscore", "--bartscore", "--bleurt"])
def test_a_model_that_is_not_there_is_named(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pl.DataFrame({"prediction": ["a", "b"], "reference": ["a", "c"]}).write_csv(tmp_path / "outputs.csv")
    with pytest.raises(SystemExit) as leaving:
        main(
            [
                "evaluate",
                "--outputs",
                str(tmp_path / "outputs.csv"),
                "--encoder",
                "none",
                option,
                str(tmp_path / "no"),
            ]
        )
    assert leaving.value.code == 2
    assert "no" in capsys.readouterr().err.splitlines()[-1]
