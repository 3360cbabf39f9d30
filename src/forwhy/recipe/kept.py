"""What a run's folder says of itself, as it has to be to be read again."""

from typing import Annotated, Any

from pydantic import BaseModel, Field


class Done(BaseModel, strict=True):
    """A finished stage."""

    inputs: str
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    finished: str = ""


class State(BaseModel, strict=True):
    """`state.json`."""

    stages: dict[str, Done]


Part = dict[str, Any] | None


class Evaluation(BaseModel, extra="allow", strict=True):
    """The parts of an evaluation that are read by name."""

    protocol: dict[str, Any]
    ranking: Part = None
    unseen: Part = None
    repeats: Part = None
    text: Part = None
    specificity: Part = None
    grounding: Part = None
    health: dict[str, dict[str, Any]] | None = None
    controls: dict[str, dict[str, Any]] | None = None
    baselines: dict[str, dict[str, Any]] | None = None
    variants: dict[str, dict[str, Any]] | None = None
    order: dict[str, dict[str, Any]] | None = None
    costs: Part = None
