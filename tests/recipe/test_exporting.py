"""Vectors and codes as files: each row is the id's own, and the codes rebuild what ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from forwhy.errors import UserError
from forwhy.recipe import RunFolder
from forwhy.recipe.exporting import export_run


def test_words(tiny_run: Path, tmp_path: Path) -> None:
    run = RunFolder.open(tiny_run)
    names = export_run(run, tmp_path / "it")
    books = [f"codebook.{side}_{kind}.npy" for side in ("item", "user") for kind in ("macro", "micro")]
    assert names == [*books, "items.npy", "items.parquet", "users.npy", "users.parquet", "words.parquet"]
    words = run.vocabulary()
    for side in ("user", "item"):
        table = pl.read_parquet(tmp_path / "it" / f"{side}s.parquet")
        assert table[f"{side}_id"].to_list() == list(getattr(words.catalogue, f"{side}s").values)
        vectors = np.load(tmp_path / "it" / f"{side}s.npy")
        assert np.array_equal(vectors, words.representation(side))
        assert np.array_equal(np.array(table["vector"].to_list()), vectors)
        slots = table.select(pl.col("^slot_.*$")).to_numpy()
        assert np.array_equal(slots, words.codes[side])
        assert table["tokens"].to_list()[0] == words.token_names(side, 0)
        macro = np.load(tmp_path / "it" / f"codebook.{side}_macro.npy")
        assert np.array_equal(macro, words.codebooks[f"{side}_macro"])
    assert pl.read_parquet(tmp_path / "it" / "words.parquet").equals(words.words)
    assert export_run(run, tmp_path / "it") == names, "an export takes the place of an older one"
    (tmp_path / "it" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something already"):
        export_run(run, tmp_path / "it")


def test_what_has_nothing_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    text = f'name = "pop"\nsystem = "popularity"\n[data]\npath = "{tiny_recipe.parent / "town"}"\n'
    (tmp_path / "run" / "recipe.toml").write_text(text)
    with pytest.raises(UserError, match="'popularity' has neither vectors nor codes"):
        export_run(RunFolder.open(tmp_path / "run"), tmp_path / "it")
    assert not (tmp_path / "it").exists()
