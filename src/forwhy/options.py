"""The base of every option model, and of every training's: frozen, unknown keys refused. No torch here.

`checked` makes a model of what a caller gave, in a recipe, on a command line or in a stored folder. Whatever does not
fit is told in one line, with the nearest known name; so it is where a model is made in Python.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.functional_validators import model_validator
from pydantic_core import ErrorDetails, ValidationError

from forwhy.documents import read_json, refuse_deep
from forwhy.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
MOST = 65_536
"""The largest number of an option, if its name is in neither of the following: it is a size of what is kept or made."""
SQUARED = {
    "attention", "code_dim", "components", "depth", "dims", "experts", "feedforward", "head_dims", "head_width",
    "heads", "hidden", "layers", "patch", "patch_width", "prototypes", "rank", "rating_layers", "slot_dim",
    "task_tokens", "text_dims", "window",
}  # fmt: skip
"""Options that memory grows with as their square, or that multiply another one: at most 8,192."""
COUNTED = {
    "accumulation", "batch_size", "budget_tokens", "catalogue", "core", "epochs", "evaluate_every", "examples",
    "generate", "iterations", "log_every", "pairs", "patience", "plain", "shuffled_users", "text_batch", "train_pairs",
    "tuned_epochs", "users", "validation_pairs", "validation_users", "vocabulary",
}  # fmt: skip
"""Options that count steps or rows of data, of which more than there are cost nothing."""
MOST_OF_LIST = 1_000
Presets = Mapping[str, Mapping[str, Any]]
"""Name -> what it changes against the defaults of an option model."""


class Options(BaseModel):
    """Options of one part, each a field with its unit and reason in the string below it.

    A model with a field `preset` takes the defaults of that preset; what is given wins over them, section by section.
    A field that is declared again to change its default keeps the description of the one it replaces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    presets: ClassVar[Presets] = {}

    def __init__(self, /, **values: Any) -> None:  # noqa: ANN401 - of any field
        """Options by name; a UserError tells everything that does not fit, in one line, with the nearest known name."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(f"{type(self).__name__}: {_refusal(type(self), error)}") from None

    # To pydantic this is still its own: sections inside others are not made through it, so that all is told at once.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        for name, field in cls.model_fields.items():
            if field.description is None:
                above = (base.model_fields.get(name) for base in cls.__mro__[1:] if issubclass(base, Options))
                field.description = next((it.description for it in above if it and it.description), None)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: object) -> object:
        if not isinstance(values, Mapping):
            return values
        return merged(cls.presets.get(str(values.get("preset", "forwhy")), {}), values)

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        """No number may ask for more memory than there is: a slip of the hand would otherwise end in the kernel."""
        for name, value in self:
            numbers = value if isinstance(value, tuple | list) else (value,)
            most = _most(name)
            if any(type(it) is int and abs(it) > most for it in numbers):
                raise ValueError(f"{name}: at most {most:,}; give a smaller number")
            if len(numbers) > MOST_OF_LIST:
                raise ValueError(f"{name}: {len(numbers):,} values, at most {MOST_OF_LIST:,}; give fewer")
        return self


def _most(name: str) -> int:
    """The largest whole number that an option may be, by its name."""
    if name == "seed":
        return 2**32 - 1
    return 8_192 if name in SQUARED else 2**31 - 1 if name in COUNTED else MOST


class TrainingOptions(Options):
    """What a user may say of any training: how long, when to look, when to stop, where it runs.

    A system's options inherit these and declare a field again where its default differs.
    """

    epochs: NonNegativeInt = 10
    """Passes over the training data, at most; 0 trains nothing (the start is evaluated and kept)."""
    evaluate_every: PositiveInt = 1
    """Epochs between two validations; there is always one at the end."""
    patience: NonNegativeInt = 5
    """Validations without a better first metric after which training stops; 0: never."""
    checkpoint_seconds: NonNegativeFloat = 60.0
    """Seconds between two checkpoints; a killed run loses at most this much work."""
    seed: NonNegativeInt = 0
    """Of every random choice; with one seed a CPU run gives the same bytes."""
    device: str = "auto"
    """Where it runs: `auto` (this process's GPU, else the CPU), or a torch device such as `cpu` or `cuda:1`."""

    no_result: ClassVar[frozenset[str]] = frozenset({"preset", "device", "checkpoint_seconds", "log_every"})
    """Options that decide how a result is reached, not which."""

    def identity(self) -> str:
        """The options that decide the result, as JSON; a checkpoint made under others is not continued."""
        return self.model_dump_json(exclude=set(self.no_result))

    def loop(self, validates: bool = True, **more: Any) -> "LoopConfig":  # noqa: ANN401 (fields of LoopConfig)
        """These options as the loop's; `more` wins. With nothing to validate on, the last epoch is kept."""
        own = {name: getattr(self, name) for name in LoopConfig.model_fields if hasattr(self, name)}
        values = own | more
        if not validates:
            values |= {"patience": 0, "evaluate_every": max(values["epochs"], 1)}
        return LoopConfig(**values)


class LoopConfig(TrainingOptions):
    """Everything the loop reads: a stage's `TrainingOptions` and how to step."""

    evaluate_unit: Literal["epochs", "steps"] = "epochs"
    """Whether `evaluate_every` counts epochs (short ones) or optimiser steps (long epochs)."""
    evaluate_first: bool = False
    """Evaluate before the first step: the start may be the best state (spectral start, warm start)."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """What becomes of the optimiser's learning rates over all steps; `cosine` falls to 0, `plateau` to a quarter after
    each validation whose first metric is not the best so far."""
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of all steps in which the learning rate grows linearly from 0."""
    accumulation: int = Field(default=1, ge=1)
    """Batches whose gradients make one optimiser step; as if they had been one batch (memory for time)."""
    gradient_clip: float = Field(default=0.0, ge=0.0)
    """Largest L2 norm of all gradients together; 0 = no clipping."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast precision of the forward pass; the trained weights stay float32. fp16 needs a GPU."""
    log_every: int = Field(default=10, ge=1)
    """Optimiser steps per training line in metrics.jsonl."""

    def rate(self, step: int, total: int, misses: int = 0) -> float:
        """Factor on the learning rates for step ``step`` (from 0) of ``total``, after ``misses`` validations."""
        warm = math.ceil(self.warmup * total)
        if step < warm:
            return (step + 1) / warm
        if self.schedule != "cosine":
            return 0.25 ** (misses * (self.schedule == "plateau"))
        share = min((step - warm) / max(total - warm, 1), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * share))


# --- values as a model


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, section by section."""
    found = dict(below)
    for key, value in above.items():
        under = found.get(key)
        deeper = isinstance(under, Mapping) and isinstance(value, Mapping)
        found[key] = merged(under or {}, value) if deeper else value
    return found


def checked(
    kind: type[Model],
    values: object,
    place: str,
    spelled: Callable[[str], str] = "'{}'".format,
    remedy: str = "",
) -> Model:
    """The values (field -> value, sections inside sections) as a model.

    `place`: where the values came from; begins the message, may be empty. `spelled`: a dotted field as the caller
    knows it, such as `--min-rating`. `remedy`: ends the message.

    Raises:
        UserError: Everything that does not fit, in one line, unknown names first since they often cause the rest.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        begin, end = f"{place}: " if place else "", f"; {remedy}" if remedy else ""
        raise UserError(f"{begin}{_refusal(kind, error, spelled)}{end}") from None


def stored(kind: type[Model], path: Path, remedy: str) -> Model:
    """A JSON file as a model; a UserError names the file, the field that does not fit, and the remedy."""
    document = read_json(path, remedy)
    refuse_deep(document, path)
    return checked(kind, document, str(path), remedy=remedy)


def _refusal(
    kind: type[BaseModel], error: ValidationError, spelled: Callable[[str], str] = "'{}'".format
) -> str:
    told: dict[str, list[str]] = {}
    for finding in sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden"):
        name, message = _told(kind, finding, spelled)
        told.setdefault(name, []).append(message)
    return "; ".join(name + ", or ".join(messages) for name, messages in told.items())


def _told(kind: type[BaseModel], finding: ErrorDetails, spelled: Callable[[str], str]) -> tuple[str, str]:
    """What does not fit, and why: one finding of pydantic in words, with the nearest key or choice."""
    message = finding["msg"].removeprefix("Value error, ")
    if not finding["loc"]:
        return "", message
    keys, section = _place(kind, finding["loc"])
    name = spelled(".".join(keys))
    if finding["type"] == "extra_forbidden":
        near = _nearest(keys[-1], section.model_fields if section else ())
        return f"unknown key {name}; did you mean {spelled('.'.join([*keys[:-1], near]))}?", ""
    if finding["type"] == "missing":
        return f"{name} is missing; add it", ""
    message = f"{message[:1].lower()}{message[1:]}"
    if finding["type"] == "literal_error" and isinstance(finding["input"], str):
        choices = re.findall(r"'([^']+)'", finding["ctx"]["expected"])
        message += f"; did you mean '{_nearest(finding['input'], choices)}'?"
    return f"{name}: ", message


def _nearest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)), "")


def _place(kind: type[BaseModel], location: Iterable[int | str]) -> tuple[list[str], type[BaseModel] | None]:
    """The keys of a location, without names of kinds, and the section of the last; None where it leads nowhere."""
    keys: list[str] = []
    section: type[BaseModel] | None = None
    inner: type[BaseModel] | None = kind
    annotation: object = None
    for part in location:
        of_kind = inner_model(annotation, {"network": part})
        if of_kind is not None and of_kind.model_fields.get("network", Field()).default == part:
            inner = of_kind
        elif inner is not None or isinstance(part, int):
            keys.append(str(part))
            section = inner
            field = None if inner is None else inner.model_fields.get(str(part))
            annotation = None if field is None else field.annotation
            inner = inner_model(annotation)
    return keys, section


def inner_model(annotation: object, given: object = None) -> type[BaseModel] | None:
    """The section in an annotation, also inside `X | None`; of several, the one whose `network` is given."""
    kinds = (annotation, *get_args(annotation))
    choices = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    named = given.get("network") if isinstance(given, Mapping) else None
    fitting = [it for it in choices if named and it.model_fields.get("network", Field()).default == named]
    return next(iter(fitting or choices), None)
