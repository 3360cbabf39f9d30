"""`forwhy indices`: built, shown and exported from the command line; mistakes are one line."""

# ruff: noqa: ANN401 - the command line is conftest's, which no test can import
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwhy.data.dataset import Dataset
from forwhy.vocabulary.index import ItemIndex, from_json

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def town(tiny_town: Dataset, tmp_path: Path) -> Path:
    tiny_town.save(tmp_path / "town")
    return tmp_path / "town"


def test_built_shown_exported_and_read_again(cli: Any, town: Path, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "index"
    options = ("--semantic", "hash", "--width", 8, "--json")
    assert cli.call("indices", "build", town, "--out", folder, *options) == 0
    document = json.loads(capsys.readouterr().out)
    index = ItemIndex.from_pretrained(folder)
    assert document["fingerprint"] == index.fingerprint
    assert [level["source"] for level in document["levels"]] == ["semantic"] * 2 + ["behaviour"] * 2
    assert cli.call("indices", "show", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out) == document
    assert cli.call("indices", "show", folder) == 0
    assert "".join(index.names(0)) in capsys.readouterr().out
    assert cli.call("indices", "export", folder, tmp_path / "X.index.json") == 0
    again = from_json(tmp_path / "X.index.json", Dataset.load(town).items, "report")
    assert np.array_equal(again.codes, index.codes)
    assert (
        cli.call(
            "indices", "build", town, "-o", folder, "--source", "file", "--file", tmp_path / "X.index.json"
        )
        == 0
    )
    assert ItemIndex.from_pretrained(folder).sources == ("file",) * 4


def test_vectors_from_files(cli: Any, town: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(Dataset.load(town).items), 5))
    np.save(tmp_path / "v.npy", vectors)
    files = ("--semantic", tmp_path / "v.npy", "--behaviour", tmp_path / "v.npy", "--width", 8)
    assert cli.call("indices", "build", town, "-o", tmp_path / "index", *files) == 0
    index = ItemIndex.from_pretrained(tmp_path / "index")
    assert len(index) == len(vectors)
    assert index.metrics["purity"]["behaviour"]["semantic"]["neighbours"] > 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--source", "both"), "'--source'"),
        (("--width", "wide"), "'--width'"),
        (("--width", "1"), 'width = 1: give "auto" or at least 2'),
        (("--source", "file"), "go together"),
        (("--behaviour", "sasrec", "--source", "behaviour"), "neither a FILE.npy nor spectral"),
        (
            ("--source", "random", "--width", "2", "--depth", "2"),
            "4 codes for 30 items; use depth 5 or width 6",
        ),
    ],
)
def test_mistakes_are_one_line(
    cli: Any, town: Path, tmp_path: Path, capsys: Capture, options: tuple[str, ...], complaint: str
) -> None:
    assert cli.call("indices", "build", town, "-o", tmp_path / "index", *options) == 2
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert complaint in printed
    assert not (tmp_path / "index").exists()
