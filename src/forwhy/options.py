"""The base of every option model: frozen, unknown keys refused, defaults that a preset may change. No torch here.

`checked` makes a model of what a caller gave, in a recipe, on a command line or in a stored folder; whatever does not
fit is told in one line, with the nearest known name.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeGuard, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from forwhy.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
Presets = Mapping[str, Mapping[str, Any]]
"""Name -> what it changes against the defaults of an option model."""


class Options(BaseModel):
    """Options of one part, each a field with its unit and reason in the string below it.

    A model with a field `preset` takes the defaults of that preset; what is given wins over them, section by section.
    A field that is declared again to change its default keeps the description of the one it replaces.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    presets: ClassVar[Presets] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        for name, field in cls.model_fields.items():
            if field.description is None:
                above = (base.model_fields.get(name) for base in cls.__mro__[1:] if issubclass(base, Options))
                field.description = next((it.description for it in above if it and it.description), None)

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: object) -> object:
        """Puts the preset's values where none are given."""
        if not isinstance(values, Mapping):
            return values
        return merged(cls.presets.get(str(values.get("preset", "forwhy")), {}), values)


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
    """The values as a model.

    Args:
        kind: The model.
        values: Field -> value, sections inside sections.
        place: Where the values came from; begins the message. May be empty.
        spelled: A dotted field as the caller knows it, such as `--min-rating`.
        remedy: Ends the message.

    Raises:
        UserError: Everything that does not fit, in one line, unknown names first since they often cause the rest.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
        found = "; ".join(_told(kind, finding, spelled) for finding in findings)
        raise UserError(f"{place}{': ' if place else ''}{found}{'; ' if remedy else ''}{remedy}") from None


def _told(kind: type[BaseModel], finding: ErrorDetails, spelled: Callable[[str], str]) -> str:
    """One finding of pydantic in words, with the nearest key or choice."""
    location, message = finding["loc"], finding["msg"].removeprefix("Value error, ")
    if not location:
        return message
    above, section = _section(kind, location[:-1])
    name = spelled(".".join([*above, str(location[-1])]))
    if finding["type"] == "extra_forbidden":
        near = _nearest(str(location[-1]), section.model_fields if section else ())
        return f"unknown key {name}; did you mean {spelled('.'.join([*above, near]))}?"
    if finding["type"] == "missing":
        return f"{name} is missing; add it"
    told = f"{name}: {message[:1].lower()}{message[1:]}"
    if finding["type"] == "literal_error" and isinstance(finding["input"], str):
        choices = re.findall(r"'([^']+)'", finding["ctx"]["expected"])
        told += f"; did you mean '{_nearest(finding['input'], choices)}'?"
    return told


def _nearest(name: str, known: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)), "")


def _section(
    kind: type[BaseModel], location: Iterable[int | str]
) -> tuple[list[str], type[BaseModel] | None]:
    """The keys of a location, and the section it leads to; None where it leads nowhere.

    Of a section of several kinds the location also names the kind, which is no key.
    """
    keys: list[str] = []
    section: type[BaseModel] | None = kind
    annotation: object = None
    for part in map(str, location):
        of_kind = inner_model(annotation, {"network": part})
        if of_kind is not None and of_kind.model_fields.get("network", Field()).default == part:
            section = of_kind
            continue
        keys.append(part)
        field = None if section is None else section.model_fields.get(part)
        annotation = None if field is None else field.annotation
        section = inner_model(annotation)
    return keys, section


def inner_model(annotation: object, given: object = None) -> type[BaseModel] | None:
    """The section in an annotation, also inside `X | None`; of several, the one whose `network` is given."""
    choices = [choice for choice in (annotation, *get_args(annotation)) if _is_model(choice)]
    named = given.get("network") if isinstance(given, Mapping) else None
    fitting = [it for it in choices if named and it.model_fields.get("network", Field()).default == named]
    return next(iter(fitting or choices), None)


def _is_model(annotation: object) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
