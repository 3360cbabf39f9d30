"""The base of every option model: frozen, unknown keys refused, defaults that a preset may change. No torch here."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

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
