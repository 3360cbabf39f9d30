"""Options: what does not fit is one line with the nearest known name."""

from typing import Literal

import pytest
from pydantic import Field

from forwhy.errors import UserError, need
from forwhy.options import LoopConfig, Options, checked


class Inner(Options):
    """A section."""

    epochs: int = Field(default=3, ge=1)
    """Passes."""


class Outer(Options):
    """An option model with a section."""

    split: Literal["time", "random"] = "time"
    """How."""
    name: str
    """Of it."""
    inner: Inner = Inner()
    """A section."""
    width: int | Literal["auto"] = 3
    """Of it."""


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"name": "a", "inner": {"epoch": 3}},
            "a.toml: unknown key 'inner.epoch'; did you mean 'inner.epochs'?",
        ),
        (
            {"name": "a", "split": "tim"},
            "a.toml: 'split': input should be 'time' or 'random'; did you mean 'time'?",
        ),
        ({}, "a.toml: 'name' is missing; add it"),
        (
            {"name": "a", "width": "wide"},
            "a.toml: 'width': input should be a valid integer, unable to parse string as an integer, "
            "or input should be 'auto'; did you mean 'auto'?",
        ),
        (
            {"nam": "a", "inner": {"epochs": 0}},
            "a.toml: unknown key 'nam'; did you mean 'name'?; 'name' is missing; add it; "
            "'inner.epochs': input should be greater than or equal to 1",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(values: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as caught:
        checked(Outer, values, "a.toml")
    told = str(caught.value).split("; ")
    assert (told[0], sorted(told)) == (said.split("; ")[0], sorted(said.split("; ")))


def test_fields_are_spelled_as_the_caller_knows_them() -> None:
    with pytest.raises(UserError, match=r"^--epochs: input should be .*; fit it again$"):
        checked(Inner, {"epochs": 0}, "", "--{}".format, "fit it again")
    assert checked(Inner, {"epochs": "7"}, "").epochs == 7


def test_what_is_absent_names_the_extra_that_brings_it() -> None:
    need("json", "llm")
    with pytest.raises(UserError, match=r"^no-such-library is not installed; `pip install 'forwhy\[chat\]'`"):
        need("no_such_library", "chat")


def test_cosine_with_warmup_has_the_hand_computed_rates() -> None:
    schedule = LoopConfig(schedule="cosine", warmup=0.2)
    rates = [schedule.rate(step, 10) for step in (0, 1, 2, 6, 10, 99)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0, 0.0])
    assert LoopConfig(warmup=0.5).rate(0, 4) == 0.5
    assert LoopConfig().rate(3, 4) == 1.0


def test_a_model_made_in_python_is_refused_in_one_line() -> None:
    """All of it, sections inside included, as a recipe would be."""
    with pytest.raises(UserError) as caught:
        Outer(nam="a", inner={"epoch": 0})  # type: ignore[call-arg, arg-type]
    told = str(caught.value)
    assert told.startswith("Outer: unknown key '")
    assert "unknown key 'nam'; did you mean 'name'?" in told
    assert "unknown key 'inner.epoch'; did you mean 'inner.epochs'?" in told
    assert "\n" not in told
    assert Outer(name="a", inner=Inner(epochs=5)).inner.epochs == 5
    assert Outer.model_validate({"name": "a", "inner": {"epochs": 5}}) == Outer(
        name="a", inner=Inner(epochs=5)
    )
