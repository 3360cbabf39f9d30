"""What of the runs is drawn: small drawings, each with its words for those who cannot see it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from forwhy.evaluate.document import Examined
from forwhy.evaluate.registry import NEUTRAL, is_overlap
from forwhy.report.drawing import INK, PAPER, QUIET, Panel, colour, new_axes, shortened, styled, svg_of
from forwhy.report.tables import SHOWN_TEXT, measured
from forwhy.report.writing import counted, digits, grouped, number, percent, with_interval

LABELS, ROW, LABEL = 118, 17, 18
"""Pixels left of a drawing whose rows are named, and of a row; characters of its name."""
POINTS, PANELS = 64, 6
"""Words of a codebook that a curve goes through, and metrics that are drawn."""
STEPS, FLAT = 3, 0.02
"""Points of a curve, at least, and its least relative change: others say no more than a number does."""
CURVES = {
    ("vocabulary", "train", "loss"): "Vocabulary: training loss",
    ("vocabulary", "valid", "hr@20"): "Vocabulary: HR@20 on validation pairs",
    ("explainer", "train", "nll"): "Explainer: training NLL, nats per token",
    ("explainer", "valid", "nll"): "Explainer: NLL on validation pairs, nats per token",
    ("explainer", "valid", "gain"): "Explainer: information gain on validation pairs, nats per token",
}
"""(stage, part, metric) of metrics.jsonl -> title; with these, each book's perplexity is drawn."""


class Bar(NamedTuple):
    """One row of an interval drawing: a value and its interval; name and position are the run's."""

    label: str
    name: str
    run: int
    value: float
    ends: Sequence[float]


# --- what is drawn


def interval_panels(runs: Sequence[Examined]) -> list[Panel]:
    """Main text metrics of every run and its controls with their 95% intervals."""
    found = [(metric, _bars(runs, metric)) for metric in _main([run.text for run in runs])]
    return [_intervals(metric, bars) for metric, bars in found if len({bar.value for bar in bars}) > 1]


def gain_panel(runs: Sequence[Examined]) -> list[Panel]:
    """Information gain of every run by side, against the line at 0."""
    gains = [(position, run.name, run.part("information_gain")) for position, run in enumerate(runs)]
    sides = [(side, *gain) for gain in gains for side in ("item", "user") if side in gain[-1]]
    bars = [Bar(side, name, at, gain[side], gain["intervals"][side]) for side, at, name, gain in sides]
    return [_intervals("Nats per token, by side", bars, against_zero=True)] if bars else []


def curve_panels(runs: Sequence[Examined]) -> list[Panel]:
    """Losses, validation metrics and codebook perplexities over training, one line a run."""
    lines = [(position, line) for position, run in enumerate(runs) for line in run.history]
    names = [name for _, line in lines for name in line.get("valid") or {} if "perplexity/" in name]
    titles = {name: f"Perplexity of the book {name.partition('/')[2].replace('_', ' ')}" for name in names}
    books = {("vocabulary", "valid", name): title for name, title in titles.items()}
    panels = []
    for (stage, part, metric), title in (CURVES | books).items():
        # Lines without the metric, or with null for it, are passed over.
        drawn = grouped(
            (position, (line["step"], line[part][metric]))
            for position, line in lines
            if line.get("stage") == stage and (line.get(part) or {}).get(metric) is not None
        )
        drawn = {run: line for run, line in drawn.items() if len({step for step, _ in line}) >= STEPS}
        ends = [value for line in drawn.values() for _, value in line]
        if ends and max(ends) - min(ends) > FLAT * max(map(abs, ends)):
            panels.append(_curves(title, [run.name for run in runs], drawn, from_zero="perplexity" in metric))
    return panels


def usage_panels(runs: Sequence[Examined]) -> list[Panel]:
    """How often each word of a book is used, from the fullest to the emptiest, against even use."""
    return [_usage(book, runs) for book in dict.fromkeys(book for run in runs for book in run.usage)]


def _main(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Metrics worth a drawing: the table's own first, none of which more is not better."""
    found = [metric for metric in measured(tables) if metric not in NEUTRAL]
    wanted = [metric for metric in SHOWN_TEXT if metric in found]
    by_model = [metric for metric in found if not is_overlap(metric)]
    return list(dict.fromkeys([*wanted, *by_model]))[:PANELS] or found[:PANELS]


def _bars(runs: Sequence[Examined], metric: str) -> list[Bar]:
    return [
        Bar(label, run.name, position, values[metric], values["intervals"][metric])
        for position, run in enumerate(runs)
        for label, values in {run.name: run.text, **run.controls}.items()
        if (values.get("intervals") or {}).get(metric)
    ]


# --- how


def _intervals(metric: str, bars: Sequence[Bar], against_zero: bool = False) -> Panel:
    """A run filled and thick; its controls open and thin, or its sides, which are named otherwise than it."""
    places = np.arange(len(bars)) + 0.6 * np.array([bar.run for bar in bars])
    controls = [not against_zero and bar.label != bar.name for bar in bars]
    with styled(f"intervals {metric}"):
        axes = new_axes(30 + round(ROW * (places[-1] + 1)), LABELS)
        for place, bar, control in zip(places, bars, controls, strict=True):
            ink = colour(bar.run)
            width, size, fill = (1.2, 5, PAPER) if control else (2.4, 7, ink)
            axes.plot(bar.ends, [place, place], color=ink, linewidth=width, clip_on=False)
            axes.plot([bar.value], [place], "o", color=ink, ms=size, markerfacecolor=fill, clip_on=False)
        if against_zero:
            axes.axvline(0, color=QUIET, linewidth=1)
        axes.set_yticks(places, [shortened(bar.label, LABEL) for bar in bars])
        for tick, control in zip(axes.get_yticklabels(), controls, strict=True):
            tick.set_color(QUIET if control else INK)
        axes.grid(False, axis="y")
        axes.locator_params(axis="x", nbins=5)
        axes.set_ylim(places[-1] + 0.7, -0.7)
        svg = svg_of(axes)
    named = [(", ".join(dict.fromkeys((bar.name, bar.label))), bar) for bar in bars]
    words = [f"{name}: {with_interval(bar.value, bar.ends)}" for name, bar in named]
    return Panel(metric, svg, "; ".join(words))


def _curves(
    title: str, names: Sequence[str], lines: Mapping[int, Sequence[tuple[int, float]]], from_zero: bool
) -> Panel:
    words = []
    with styled(title):
        axes = new_axes(190)
        for run, line in lines.items():
            steps, values = zip(*line, strict=True)
            marker = "o" if len(steps) < 20 else ""
            axes.plot(steps, values, color=colour(run), linewidth=1.8, marker=marker, markersize=4)
            first, last = (number(value, digits(values)) for value in (values[0], values[-1]))
            words.append(f"{names[run]}: from {first} to {last} over {steps[-1]:,} steps")
        if from_zero:
            axes.set_ylim(0, 1.08 * axes.dataLim.y1)
        axes.locator_params(nbins=5)
        axes.locator_params(axis="x", integer=True)
        return Panel(title, svg_of(axes), "; ".join(words))


def _usage(book: str, runs: Sequence[Examined]) -> Panel:
    words = []
    with styled(f"usage {book}"):
        axes = new_axes(190)
        for position, run in enumerate(runs):
            counts = np.sort(np.asarray(run.usage.get(book, ()), dtype=np.float64))[::-1]
            if counts.any():
                at = np.unique(np.linspace(0, len(counts) - 1, POINTS).round().astype(int))
                places = 100 * (at + 0.5) / len(counts)
                axes.plot(places, counts[at] / counts.mean(), color=colour(position), linewidth=1.8)
                used = f"{(counts > 0).sum():,} of {counted(len(counts), 'word')} in use"
                words.append(f"{run.name}: {used}, the fullest fills {percent(counts[0] / counts.sum())}")
        axes.axhline(1, color=QUIET, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.locator_params(nbins=5)
        return Panel(book.replace("_", " "), svg_of(axes), "; ".join(words))
