"""The account of the machine is JSON-ready and gives advice only where something is missing."""

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from forwhy.doctor import examine, render


def test_empty_cache_advises_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWHY_CACHE", str(tmp_path / "new" / "cache"))
    findings = json.loads(json.dumps(examine()))
    assert {model["state"] for model in findings["models"].values()} == {"absent"}
    assert findings["cache"]["folder"] == str(tmp_path / "new" / "cache")
    assert findings["cache"]["used_gib"] == 0
    assert findings["packages"]["numpy"]
    assert any(
        "python -m forwhy.models smollm2-135m gemma3-270m minilm" in line for line in findings["advice"]
    )
    assert not (tmp_path / "new").exists()


def test_render_shows_every_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWHY_CACHE", str(tmp_path))
    console = Console(width=200, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    with console.file:
        measured = {"int8": {"alone": 56.6, "of 16": 319.0}, "best": "int8"}
        console.print(render({**examine(), "engines": measured}))
    text = (tmp_path / "out").read_text()
    assert "smollm2-135m" in text
    assert "absent: Gemma 3 270M" in text
    assert re.search(r"int8 +56.6 tokens/s of one text, 319.0 of 16 together", text)
