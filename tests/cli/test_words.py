"""`forwhy attention` and `forwhy profile`: a picture, a document that adds up, and runs that cannot answer."""

# ruff: noqa: ANN401 - `cli` is the fixture of conftest.py

from pathlib import Path
from typing import Any

import pytest

from forwhy.data.dataset import Dataset


def test_what_is_looked_at(
    cli: Any, tiny_run: Path, tiny_town: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user, item = tiny_town.external(tiny_town.pairs("test"))[0]
    asked = ["attention", tiny_run, "--user", user, "--item", item]
    view = cli.document(*asked, "--out", tmp_path / "heat.png")
    assert (tmp_path / "heat.png").read_bytes().startswith(b"\x89PNG")
    told = cli.document("explain", tiny_run, "--user", user, "--item", item)
    assert view["words"] == told["text"].split()
    assert [token["token"] for token in view["tokens"]] == [token["token"] for token in told["tokens"]]
    assert all(sum(shares) == pytest.approx(1, abs=1e-6) for shares in view["shares"])
    assert cli.call(*asked) == 0
    shown = capsys.readouterr().out
    assert "mean over all layers and heads" in shown
    assert all(token["token"] in shown for token in view["tokens"])


def test_a_wrong_ending_is_refused_before_anything_is_read(cli: Any, tmp_path: Path) -> None:
    refused = cli.refusal(
        "attention", tmp_path / "no-run", "--user", "u", "--item", "i", "--out", tmp_path / "heat.gif"
    )
    assert "heat.gif: no such kind of picture; end it in .png, .svg, .pdf" in refused


def test_who_a_user_is_asks_for_a_run_that_can_say_it(cli: Any, tiny_run: Path, tiny_town: Dataset) -> None:
    told = cli.refusal("profile", tiny_run, "--user", tiny_town.users.values[0])
    assert "only a run of system because" in told
