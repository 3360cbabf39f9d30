"""Options made of a model: one per field; what is not given keeps the default; a mistake names its option."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from forwhy.cli import app_of
from forwhy.cli.options import Given, pairs, prices, takes
from forwhy.data.sources.reviews import ReviewFilters
from forwhy.errors import UserError
from forwhy.options import Options
from forwhy.text.chat.base import ChatConfig
from forwhy.text.mining.stage import MiningConfig
from forwhy.vocabulary.index import IndexConfig


class Brew(Options):
    """How tea is made."""

    presets = {"official": {"minutes": 9}}
    preset: Literal["forwhy", "official"] = "forwhy"
    """Whose."""
    minutes: int = Field(default=3, ge=1)
    """In hot water."""
    milk: bool = False
    """Whether any."""
    leaf: Path | None = None
    """Where it lies."""
    kind: str
    """Which one."""


def brewed(*arguments: str) -> Any:  # noqa: ANN401
    """What a command gets, or its mistake."""
    app, found = app_of(), []

    @app.command()
    @takes(Brew, {"minutes": "for_minutes"}, without={"kind"})
    def brew(kind: Annotated[str, typer.Argument()], options: Given[Brew], cups: int = 1) -> None:
        found.append((options.model(kind=kind, leaf="no"), options.names, cups))

    result = CliRunner().invoke(app, list(arguments))
    return found[0] if found else result


def test_what_is_not_given_is_the_models() -> None:
    made, names, cups = brewed("green")
    assert made == Brew(kind="green", leaf=Path("no"))
    assert (names, cups) == ([], 1)
    assert brewed("green", "--preset", "official")[0].minutes == 9


def test_what_is_given_wins_and_is_named_as_typed() -> None:
    made, names, cups = brewed("oolong", "--for-minutes", "4", "--milk", "--leaf", "tin", "--cups", "2")
    assert made == Brew(kind="oolong", minutes=4, milk=True, leaf=Path("tin"))
    assert (names, cups) == (["--for-minutes", "--milk", "--leaf"], 2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--for-minutes", "0"], "'--for-minutes': input should be greater than or equal to 1"),
        (
            ["--preset", "offical"],
            "'--preset': input should be 'forwhy' or 'official'; did you mean 'official'?",
        ),
    ],
)
def test_a_mistake_names_the_option(arguments: list[str], said: str) -> None:
    error = brewed("green", *arguments).exception
    assert isinstance(error, UserError)
    assert str(error) == said


def test_help_is_the_models() -> None:
    shown = " ".join(brewed("--help").output.split())
    assert "--for-minutes INT In hot water. [default: 3]" in shown
    assert "--preset forwhy|official Whose. [default: forwhy]" in shown
    assert "--kind" not in shown


@pytest.mark.parametrize(
    ("command", "kind", "other"),
    [
        (("data", "import", "yelp"), ReviewFilters, {"share": "sample"}),
        (("mine",), MiningConfig, {"kind": None}),
        (
            ("mine",),
            ChatConfig,
            {"model": "llm", "url": "llm_url", "input_price": "prices", "output_price": None},
        ),
        (("indices", "build"), IndexConfig, {}),
    ],
)
def test_every_field_of_a_commands_models_is_an_option(
    cli: Any,  # noqa: ANN401
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    kind: type[Options],
    other: dict[str, str | None],
) -> None:
    assert cli.call(*command, "--help") == 0
    shown = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = {other.get(name, name) for name in kind.model_fields}
    assert {f"--{name.replace('_', '-')}" for name in named if name} <= shown


def test_prices_and_pairs_are_split_or_refused() -> None:
    assert prices("--prices", None) == {}
    assert prices("--prices", "1,") == {"input_price": "1"}
    assert pairs("--map", ["a.b=c", "d = e"], "x=y") == {"a.b": "c", "d": "e"}
    with pytest.raises(UserError, match="--prices 3: expected IN,OUT"):
        prices("--prices", "3")
    with pytest.raises(UserError, match="--map a: expected OURS=THEIRS, e.g. x=y"):
        pairs("--map", ["a"], "x=y")
