"""The explainer laws hold for a well-behaved explainer and catch wrong ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from forwhy.artifact import Content, load, save
from forwhy.errors import UserError
from forwhy.testing import explainer_laws

Pair = tuple[str, str]
PAIRS: list[Pair] = [("ann", "i0"), ("ben", "i3"), ("cleo", "i1")]


@dataclass
class Said:
    text: str


class Templates:
    """Names the pair; may offend in one way."""

    def __init__(self, offence: str = "") -> None:
        self.offence = offence

    def explain(self, pairs: Pair | list[Pair]) -> Said | list[Said]:
        if isinstance(pairs, tuple):
            return Said(self._text(pairs, 0, 1))
        return [Said(self._text(pair, position, len(pairs))) for position, pair in enumerate(pairs)]

    def _text(self, pair: Pair, position: int, size: int) -> str:
        user, item = pair
        if user not in {"ann", "ben", "cleo"} and self.offence != "unknown":
            raise UserError(f"unknown user {user!r}")
        marks = {"batch": "!" * size, "order": f" ({position})", "eight": "?" if size == 8 else ""}
        return "" if self.offence == "silent" else f"{user} likes {item}{marks.get(self.offence, '')}"

    def stream(self, pair: Pair) -> Iterator[str]:
        yield from (f"{word} " if self.offence == "stream" else word for word in self._text(pair, 0, 1))

    def save_pretrained(self, folder: Path) -> None:
        save(folder, "templates", Content({"offence": self.offence}))

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        offence = load(folder, "templates").config["offence"]
        return cls("silent" if offence == "forgets" else offence)


def test_a_good_explainer_obeys() -> None:
    explainer_laws(Templates(), PAIRS)


@pytest.mark.parametrize("offence", ["batch", "order", "eight", "silent", "unknown", "stream", "forgets"])
def test_offenders_are_caught(offence: str) -> None:
    with pytest.raises(AssertionError):
        explainer_laws(Templates(offence), PAIRS)
