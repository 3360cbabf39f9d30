"""The artifact laws hold for what is saved through `artifact`, and catch what is saved otherwise."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest

from forwhy.artifact import Artifact, Content, Saved
from forwhy.testing import artifact_laws


@dataclass
class Scale(Saved):
    """A model of two numbers."""

    values: list[float]
    kind = "scale"

    def content(self) -> Content:
        table = pl.DataFrame({"word": ["a", "b"]})
        return Content({}, {"values": np.array(self.values)}, {"words": table}, "# Scale\n")

    @classmethod
    def restore(cls, stored: Artifact, **where: Any) -> Self:  # noqa: ANN401
        return cls(stored.tensors["values"].tolist())


@dataclass
class Nested(Scale):
    """An artifact within an artifact."""

    kind = "nested"

    def content(self) -> Content:
        return Content(parts={"scale": Scale(self.values)})

    @classmethod
    def restore(cls, stored: Artifact, **where: Any) -> Self:  # noqa: ANN401
        return cls(Scale.from_pretrained(stored.part("scale")).values)


class Bare(Scale):
    """Plain JSON: nothing tells a changed digit."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "values.json").write_text(json.dumps(self.values))

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        return cls(json.loads((folder / "values.json").read_text()))


class Rounded(Scale):
    """Loses digits on every load."""

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        return cls([round(value, 1) for value in super().from_pretrained(folder).values])


class Executable(Scale):
    """Puts a file in that a reader would have to trust."""

    def content(self) -> Content:
        return replace(super().content(), parts={"code.py": Code()})


class Code:
    """Saves itself as a program."""

    def save_pretrained(self, folder: str) -> None:
        Path(folder).write_text("")


@pytest.mark.parametrize("kind", [Scale, Nested])
def test_our_artifacts_obey(kind: type[Scale], tmp_path: Path) -> None:
    artifact_laws(lambda: kind([1.25, 3.0]), tmp_path)


@pytest.mark.parametrize(
    ("kind", "complaint"), [(Bare, None), (Rounded, "same bytes"), (Executable, "execute nothing")]
)
def test_offenders_are_caught(kind: type[Scale], complaint: str | None, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, OSError, ValueError), match=complaint):
        artifact_laws(lambda: kind([1.25, 3.0]), tmp_path)
