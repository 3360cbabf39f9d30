"""Runs and files have names of their own, and what cannot be done is refused before anything is read."""

from pathlib import Path

import pytest

from forwhy.errors import UserError
from forwhy.recipe.evaluated import Request, named


def test_names_are_the_shortest_that_differ(tmp_path: Path) -> None:
    files = [tmp_path / place / "outputs.parquet" for place in ("a", "b")]
    runs, named_files = named(Request(runs=[tmp_path / "run"], outputs=[*map(str, files), "mine=x.csv"]))
    assert runs == {"run": tmp_path / "run"}
    assert named_files == {"a/outputs": files[0], "b/outputs": files[1], "mine": Path("x.csv")}
    for given in (["=x.csv"], ["x="], ["a=x", "a=y"], ["x.csv", "x.csv"]):
        with pytest.raises(UserError, match="NAME=FILE"):
            named(Request(outputs=given))


def test_metrics_are_a_list_or_words_with_commas() -> None:
    for given in ("bleu1, length,", ["bleu1", "length"]):
        assert Request.model_validate({"outputs": ["a"], "metrics": given}).metrics == ("bleu1", "length")
    with pytest.raises(UserError, match="did you mean 'bleu1'"):
        Request(outputs=("a",), metrics=("blue1",))
