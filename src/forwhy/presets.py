"""Options whose defaults a preset can change: the one place where presets meet what is given. No torch here."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["Presets", "WithPresets", "merged"]

Presets = Mapping[str, Mapping[str, Any]]
"""Name -> what it changes against the defaults of a config."""


class WithPresets(BaseModel):
    """A config with a field `preset`; options that are given win over the preset's, section by section."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    presets: ClassVar[Presets] = {}

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
