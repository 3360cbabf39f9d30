"""`forwhy evaluate` of one run."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from forwhy.recipe import RunFolder


def test_evaluate(cli: Any, tiny_run: Path) -> None:
    shown = cli.document("evaluate", tiny_run)
    assert {"recall@20", "ndcg@20", "hr@20"} <= set(shown["ranking"])
    assert set(shown["health"]["user_macro"]) == {"perplexity", "used"}
    assert {"user", "item", "both"} <= set(shown["information_gain"])
    assert {"text", "controls", "nll"} <= set(shown)
    assert shown == RunFolder(tiny_run).evaluation()


def test_evaluate_measures_the_vocabulary_alone(cli: Any, tiny_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    shutil.rmtree(folder / "explainer")
    (folder / "evaluation.json").unlink()
    shown = cli.document("evaluate", folder)
    assert shown["ranking"]["recall@20"] >= 0
    assert shown["nll"] is None
    assert not (folder / "evaluation.json").exists()
