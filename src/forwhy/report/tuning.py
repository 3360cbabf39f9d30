"""The page of a tuning: every trial by when it was made and by each option, and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from forwhy.atomic import write_text
from forwhy.report.drawing import QUIET, Panel, colour, new_axes, styled, svg_of
from forwhy.report.page import filled


class Tried(NamedTuple):
    """One trial; its value is None where it failed, and `why` says why."""

    folder: str
    options: dict[str, Any]
    value: float | None
    why: str

    def __str__(self) -> str:
        return ", ".join(f"{key}={shown(value)}" for key, value in self.options.items())


@dataclass(frozen=True)
class Tuned:
    """All trials of a study: the metric of which stage, on validation, and whether less of it is better.

    `scales`: option -> `linear`, `log`, or `choices` that stand side by side.
    """

    name: str
    metric: str
    lower: bool
    tried: Sequence[Tried]
    scales: Mapping[str, str]

    @property
    def ranked(self) -> list[Tried]:
        """Best first; failed ones last."""
        sign = 1 if self.lower else -1
        return sorted(self.tried, key=lambda it: float("inf") if it.value is None else sign * it.value)

    @property
    def best(self) -> Tried | None:
        """The best trial, if one succeeded."""
        return next((it for it in self.ranked if it.value is not None), None)


def shown(value: object) -> str:
    """A value of an option."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_tuning(path: Path, found: Tuned) -> None:
    """Write one self-contained page, whole or not at all; it loads nothing and has no script."""
    good = [it for it in found.tried if it.value is not None]
    drawings = [_panel("trial", "linear", [int(it.folder) for it in good], good, found.best)]
    for key, scale in found.scales.items():
        drawings.append(_panel(key, scale, [it.options[key] for it in good], good, found.best))
    write_text(path, filled("tuning.html", found=found, drawings=drawings, shown=shown))


def _panel(title: str, scale: str, given: Sequence[Any], good: Sequence[Tried], best: Tried | None) -> Panel:
    choices = sorted(set(given), key=lambda value: (str(type(value)), value))
    with styled(title):
        axes = new_axes(190)
        for it, value in zip(good, given, strict=True):
            ink, size = (colour(0), 8) if it == best else (QUIET, 4)
            place = choices.index(value) if scale == "choices" else value
            axes.plot([place], [it.value or 0.0], "o", color=ink, markersize=size, clip_on=False)
        if scale == "choices":
            axes.set_xticks(range(len(choices)), map(str, choices))
        elif scale == "log":
            axes.set_xscale("log")
            ticks = np.geomspace(min(given), max(given), 4)
            labels = [f"{tick:.2g}" if tick < 10 else f"{tick:,.0f}" for tick in ticks]
            axes.set_xticks(ticks, labels, minor=False)
            axes.minorticks_off()
        else:
            axes.locator_params(axis="x", nbins=5, integer=isinstance(given[0], int))
        values = [it.value or 0.0 for it in good]
        return Panel(title, svg_of(axes), f"{len(good)} trials from {min(values):.4f} to {max(values):.4f}")
