"""The protocol of a run and whatever else a document holds, as names and values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forwhy.evaluate.reading import Examined

NAMES = {
    "graph": "protocol",
    "masked": "left out of rankings",
    "model": "language model",
    "encoder": "text encoder",
    "evaluation_seed": "seed of the evaluation",
    "recipe": "recipe",
}
PARTS = ("judge", "notes")
"""Further mappings of a document that are shown as they are."""

Lines = list[tuple[str, str]]


def protocol_lines(run: Examined) -> Lines:
    """Every value of the protocol under a readable name."""
    values = flat(run.document.get("protocol") or {})
    return [(NAMES.get(name, name.replace("_", " ")), value) for name, value in values]


def further_lines(run: Examined) -> dict[str, Lines]:
    """Part -> its names and values: excluded pairs, and `PARTS`."""
    excluded = {reason: n for reason, n in (run.document.get("exclusions") or {}).items() if n}
    parts = {"excluded pairs": excluded, **{part: run.document.get(part) or {} for part in PARTS}}
    found = {
        part: [(name.replace("_", " "), value) for name, value in flat(values)]
        for part, values in parts.items()
    }
    return {part: lines for part, lines in found.items() if lines}


def signatures(runs: Sequence[Examined]) -> Lines:
    """Metric -> the signature that its package would print."""
    return list(
        {
            name: str(signature)
            for run in runs
            for name, signature in ((run.document.get("text") or {}).get("signatures") or {}).items()
        }.items()
    )


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Nested mappings and lists as lines; null is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name} ")
        elif isinstance(value, list | tuple):
            yield f"{before}{name}", ", ".join(map(str, value))
        elif value is not None:
            yield f"{before}{name}", str(value)
