"""Options of a command out of an option model, which names, describes and checks them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from types import NoneType
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forwhy.errors import UserError
from forwhy.options import checked

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Given(Generic[Model]):
    """What a command line gave of a model's options."""

    kind: type[Model]
    options: Mapping[str, str]
    """Field -> parameter."""
    values: Mapping[str, object]
    """Field -> what was given."""

    @property
    def names(self) -> list[str]:
        """What was given, as it was typed."""
        return [_option(self.options[field]) for field in self.values]

    def model(self, **more: object) -> Model:
        """The options as a model, or all that does not fit; `more` are fields that the command line does not give."""
        given = {**more, **self.values}
        return checked(self.kind, given, "", lambda field: f"'{_option(self.options.get(field, field))}'")


def takes(
    kind: type[BaseModel], renamed: Mapping[str, str] | None = None, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option per field of a model, in the place of its parameter of type `Given[kind]`.

    `renamed`: field -> parameter of another name. `without`: fields that the command line does not give.
    """
    options = {name: (renamed or {}).get(name, name) for name in kind.model_fields if name not in without}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        place = ""
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.annotation == Given[kind]:  # type: ignore[valid-type]
                place = parameter.name
                parameters += [_parameter(options[name], kind.model_fields[name]) for name in options]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

        @wraps(command)
        def wrapper(**given: Any) -> None:  # noqa: ANN401 - whatever the command takes
            typed = {field: given.pop(option) for field, option in options.items()}
            values = {field: value for field, value in typed.items() if value is not None}
            command(**given, **{place: Given(kind, options, values)})

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper

    return decorate


def _option(parameter: str) -> str:
    return f"--{parameter.replace('_', '-')}"


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """An option that stays None where it is not given; its text is read by the model."""
    about = " ".join((field.description or "").split())
    if not (field.is_required() or field.default in (None, False, ())):
        about += f" [default: {field.default}]"
    if field.annotation in (bool, bool | None):
        annotation: object = Annotated[bool | None, typer.Option(help=about)]
    else:
        annotation = Annotated[str | None, typer.Option(help=about, metavar=_metavar(field.annotation))]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(annotation: object) -> str:
    """`int | None` as INT, a choice as its words."""
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return f"{_metavar(get_args(annotation)[0])},\u2026"
    inner = [kind for kind in get_args(annotation) if kind is not NoneType]
    return "|".join(map(_metavar, inner)) if inner else getattr(annotation, "__name__", "TEXT").upper()


def prices(option: str, text: str | None) -> dict[str, str]:
    """`IN,OUT` of a million tokens, refused without its comma, as fields of a model that asks."""
    if text is None:
        return {}
    read, comma, written = text.partition(",")
    if not comma:
        raise UserError(f"{option} {text}: expected IN,OUT per million tokens, e.g. 0.15,0.60")
    return {name: price for name, price in (("input_price", read), ("output_price", written)) if price}


def pairs(option: str, entries: Collection[str], example: str) -> dict[str, str]:
    """`OURS=THEIRS` of an option that may be repeated; an entry that is not so is refused."""
    found: dict[str, str] = {}
    for entry in entries:
        ours, _, theirs = (part.strip() for part in entry.partition("="))
        if not (ours and theirs):
            raise UserError(f"{option} {entry}: expected OURS=THEIRS, e.g. {example}")
        found[ours] = theirs
    return found
