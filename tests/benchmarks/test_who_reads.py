"""Who reads what: the table and the drawing of a run of several explainers."""

import json
from pathlib import Path
from typing import Any

from benchmarks.who_reads import draw, measured, read, table, told


def written(folder: Path, gain: dict[str, Any] | None) -> Path:
    folder.mkdir()
    (folder / "evaluation.json").write_text(json.dumps({"nll": 3.0, "information_gain": gain}))
    stages = {"explainer": {"seconds": 40.0}, "evaluation": {"seconds": 900.0}}
    (folder / "state.json").write_text(json.dumps({"stages": stages}))
    return folder


def test_what_is_read_is_bold_and_what_is_not_measured_is_said(tmp_path: Path, capsys: Any) -> None:  # noqa: ANN401
    gain = {"user": 0.01, "item": 0.2, "both": 1.0, "intervals": {"user": [-0.01, 0.03], "item": [0.1, 0.3]}}
    folders = [written(tmp_path / "beat", gain), written(tmp_path / "chat", None)]
    rows = read(folders)
    assert list(rows) == ["beat"]
    assert "chat: no gain measured" in capsys.readouterr().out
    places = {it.name: it for it in folders}
    line = table(rows, places).splitlines()[-1]
    assert line == "| beat | 3.000 | 0.010 [-0.010, 0.030] | **0.200** [0.100, 0.300] | 25.0% | 40 |"
    (beat,) = measured(rows, places)
    assert (beat.gains["item"], beat.seconds) == ((0.2, 0.1, 0.3), 40)
    draw([beat], tmp_path / "who.svg")
    assert (tmp_path / "who.svg").read_text().count("<path") > 4


def test_a_table_of_a_page_is_read_as_it_stands(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n| | gain: user | gain: item | seconds: explainer |\n|---|---|---|---|\n| A, b | -.002 "
        "| **.020** [.005, .038] | 1,298 |\n| `because` | .001 | .1 | 9 |\n\n| other | 1 | 2 | 3 |\n"
        "\n| | gain: user | gain: item | seconds: explainer |\n|---|---|---|---|\n| C | .3 | .4 | 7 |\n"
    )
    first, second = told(page)
    assert (first.name, first.gains["item"], first.seconds) == ("A, b", (0.02, 0.005, 0.038), 1298)
    assert (second.name, second.gains["user"], second.seconds) == ("because", (0.001, 0.001, 0.001), 9)
    (third,) = told(page, 2)
    assert (third.name, third.gains["item"]) == ("C", (0.4, 0.4, 0.4))
    assert told(page, 3) == []
    page.write_text("nothing")
    assert told(page) == []
