"""One small drawing as inline SVG: text as text, colours from the page's style, the same bytes every time."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from forwhy.evaluate.reading import Examined
from forwhy.evaluate.registry import NEUTRAL
from forwhy.evaluate.report import SHOWN_TEXT
from forwhy.report.tables import controls_of, measured, text_of
from forwhy.report.wording import counted, digits, number, percent, short, with_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


WIDTH = 360
"""Of a drawing, in CSS pixels: it fits a phone, and on a desktop three stand beside each other."""
RUNS = 6
"""Colours of runs (Okabe and Ito 2008, told apart by the colour-blind); a seventh run has the first again."""

# Stand-ins that matplotlib takes for colours; the style sheet has one set for light and one for dark.
INK, QUIET, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "ink", QUIET: "quiet", LINE: "line", PAPER: "paper"}
_VARIABLES |= {f"#0505{number:02x}": f"run{number}" for number in range(RUNS)}

_COLOUR = re.compile(r"((?:fill|stroke): ?)(#\w{6})\b")
_NUMBERS = re.compile(r'(?<= d=")[^"]*|(?<= [xy]=")[^"]*')
_LONG = re.compile(r"(\.\d\d)\d+")
_UNUSED = re.compile(
    # The style would hold for the whole page; what nothing refers to needs no id.
    r'<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>|(?<=<g) id="[^"]*"|<g id="[^"]*"/>'
    r'| transform="rotate\(-0 [^"]*"',
    re.DOTALL,
)

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LINE,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.formatter.useoffset": False,
}


def colour(run: int) -> str:
    """The colour of a run, the same in every drawing."""
    return f"#0505{run % RUNS:02x}"


class Drawing:
    """Axes to draw on inside `drawing`, and the finished SVG after it."""

    axes: "Axes"
    svg: str = ""


@contextmanager
def drawing(name: str, height: int, left: int = 44) -> Iterator[Drawing]:
    """Axes `WIDTH` wide and `height` high, in CSS pixels, with `left` of it for the labels.

    `name` keeps ids inside the SVG apart from those of the page's other drawings.
    """
    import matplotlib
    from matplotlib.figure import Figure

    made = Drawing()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser draws the text, in its own fonts
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        figure.patch.set_visible(False)
        bottom = 22 / height
        made.axes = figure.add_axes(
            (left / WIDTH, bottom, 1 - (left + 14) / WIDTH, 1 - bottom - 8 / height), facecolor="none"
        )
        yield made
        made.svg = _inline(figure)


def _inline(figure: "Figure") -> str:
    """The figure's `<svg>` element in the page's fonts and colours."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = stream.getvalue()
    text = _UNUSED.sub("", text[text.index("<svg ") :])
    text = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', text)
    text = re.sub(r"\s*\n\s*", " ", text).replace("xlink:href=", "href=")
    text = _NUMBERS.sub(lambda found: _LONG.sub(r"\1", found[0]), text)
    return _COLOUR.sub(lambda found: found[1] + _variable(found[2]), text).strip()


def _variable(colour: str) -> str:
    return f"var(--{_VARIABLES[colour]})" if colour in _VARIABLES else colour


# --- What the page draws; each figure is a few small drawings, and words for those who cannot see them.
#
# Shapes: n pairs; V words of a codebook.


Floats = NDArray[np.float64]

LABELS = 118
"""Pixels left of a drawing whose rows are named."""
LABEL = 18
"""Characters of a row's name."""
ROW, RIDGE = 17, 26
"""Pixels of a row."""
BINS = 32
POINTS = 64
"""Words of a codebook that a curve goes through."""
PANELS = 6
"""Metrics that are drawn."""

CURVES = {
    ("vocabulary", "train", "loss"): "Vocabulary: training loss",
    ("vocabulary", "valid", "hr@20"): "Vocabulary: HR@20 on validation pairs",
    ("explainer", "train", "nll"): "Explainer: training NLL, nats per token",
    ("explainer", "valid", "nll"): "Explainer: NLL on validation pairs, nats per token",
    ("explainer", "valid", "gain"): "Explainer: information gain on validation pairs, nats per token",
}
"""(stage, part, metric) of metrics.jsonl -> title; with these, each book's perplexity is drawn."""


@dataclass(frozen=True)
class Panel:
    """One drawing."""

    title: str
    svg: str
    """Markup, escaped."""
    words: str
    """What it shows, for a screen reader."""


@dataclass(frozen=True)
class Bar:
    """One row of an interval drawing."""

    label: str
    name: str
    """Of the run."""
    run: int
    value: float
    ends: Sequence[float]
    control: bool


def interval_panels(runs: Sequence[Examined]) -> list[Panel]:
    """Main text metrics of every run and its controls with their 95% intervals."""
    metrics = [m for m in _main([text_of(run) for run in runs]) if any(_bar(text_of(r), m) for r in runs)]
    return [_intervals(metric, _bars(runs, metric)) for metric in metrics]


def gain_panel(runs: Sequence[Examined]) -> list[Panel]:
    """Information gain of every run by side, against the line at 0."""
    bars = []
    for position, run in enumerate(runs):
        gain = run.document.get("information_gain") or {}
        bars += [
            Bar(side, run.name, position, gain[side], gain["intervals"][side], False)
            for side in ("item", "user")
            if side in gain
        ]
    return [_intervals("Nats per token, by side", bars, zero=True)] if bars else []


def distribution_panels(runs: Sequence[Examined]) -> list[Panel]:
    """Values over pairs of every run, above those of its controls where the samples hold them."""
    scored = [{name: 0.0 for sample in run.samples for name in sample.scores} for run in runs]
    return [_ridges(metric, _scores(runs, metric)) for metric in _main(scored)]


def curve_panels(runs: Sequence[Examined]) -> list[Panel]:
    """Losses, validation metrics and codebook perplexities over training, one line a run."""
    books = dict.fromkeys(
        name
        for run in runs
        for line in run.history
        for name in line.get("valid") or {}
        if "perplexity/" in name
    )
    wanted = CURVES | {("vocabulary", "valid", name): _book_title(name) for name in books}
    panels = []
    for (stage, part, metric), title in wanted.items():
        lines = {position: _line(run, stage, part, metric) for position, run in enumerate(runs)}
        drawn = {position: line for position, line in lines.items() if len(line[0])}
        if drawn:
            panels.append(_curves(title, [run.name for run in runs], drawn, from_zero="perplexity" in metric))
    return panels


def usage_panels(runs: Sequence[Examined]) -> list[Panel]:
    """Slots that each word of a book fills, from the fullest word to the emptiest."""
    books = dict.fromkeys(book for run in runs for book in run.usage)
    return [_usage(book, runs) for book in books]


def usage_words(run: Examined) -> str:
    """Words in use of every book, and the share of the fullest."""
    return "; ".join(f"{book.replace('_', ' ')}: {_in_use(counts)}" for book, counts in run.usage.items())


def _main(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """Metrics worth a drawing: the table's own first, none of which more is not better."""
    found = [metric for metric in measured(tables) if metric not in NEUTRAL]
    wanted = [metric for metric in SHOWN_TEXT if metric in found]
    by_model = [metric for metric in found if not metric.startswith(("bleu", "rouge", "peter_", "sacre"))]
    return list(dict.fromkeys([*wanted, *by_model]))[:PANELS] or found[:PANELS]


def _bar(values: Mapping[str, Any], metric: str) -> Sequence[float] | None:
    found: Sequence[float] | None = (values.get("intervals") or {}).get(metric)
    return found


def _bars(runs: Sequence[Examined], metric: str) -> list[Bar]:
    bars = []
    for position, run in enumerate(runs):
        for label, values in {run.name: text_of(run), **controls_of(run)}.items():
            ends = _bar(values, metric)
            if ends:
                bars.append(Bar(label, run.name, position, values[metric], ends, values is not text_of(run)))
    return bars


def _intervals(metric: str, bars: Sequence[Bar], zero: bool = False) -> Panel:
    places = np.arange(len(bars)) + 0.6 * np.array([bar.run for bar in bars])
    height = 30 + round(ROW * (places[-1] + 1))
    with drawing(f"intervals {metric}", height, LABELS) as made:
        for place, bar in zip(places, bars, strict=True):
            made.axes.plot(
                bar.ends,
                [place, place],
                color=colour(bar.run),
                linewidth=1.2 if bar.control else 2.4,
                clip_on=False,
            )
            made.axes.plot(
                [bar.value], [place], "o", color=colour(bar.run), markersize=5 if bar.control else 7,
                markerfacecolor=PAPER if bar.control else colour(bar.run), clip_on=False,
            )  # fmt: skip
        if zero:
            made.axes.axvline(0, color=QUIET, linewidth=1)
        _name_rows(made.axes, places, [(bar.label, bar.control) for bar in bars])
        made.axes.set_ylim(places[-1] + 0.7, -0.7)
    words = [
        f"{bar.name}{f', {bar.label}' if bar.label != bar.name else ''}: {with_interval(bar.value, bar.ends)}"
        for bar in bars
    ]
    return Panel(metric, made.svg, "; ".join(words))


def _scores(runs: Sequence[Examined], metric: str) -> list[tuple[str, int, bool, Floats]]:
    """Label, run, whether it is a control, [n] values."""
    rows = []
    for position, run in enumerate(runs):
        scores = {run.name: [sample.scores for sample in run.samples]}
        controls = dict.fromkeys(name for sample in run.samples for name in sample.control_scores)
        for name in controls:
            scores[name] = [sample.control_scores.get(name, {}) for sample in run.samples]
        for label, of_pairs in scores.items():
            values = np.array([pair[metric] for pair in of_pairs if metric in pair], dtype=np.float64)
            values = values[np.isfinite(values)]
            if len(values):
                rows.append((label, position, label != run.name, values))
    return rows


def _ridges(metric: str, rows: Sequence[tuple[str, int, bool, Floats]]) -> Panel:
    everything = np.concatenate([values for *_, values in rows])
    edges = np.histogram_bin_edges(everything, BINS)
    places = np.arange(len(rows)) + 0.4 * np.array([run for _, run, _, _ in rows])
    shares = [np.histogram(values, edges)[0] / len(values) for *_, values in rows]
    most = max(share.max() for share in shares)
    with drawing(f"scores {metric}", 38 + round(RIDGE * (places[-1] + 1)), LABELS) as made:
        for place, share, (_, run, control, values) in zip(places, shares, rows, strict=True):
            made.axes.stairs(
                place - 0.85 * share / most, edges, baseline=place, fill=True, color=colour(run),
                alpha=0.35 if control else 0.9, linewidth=0, clip_on=False,
            )  # fmt: skip
            middle = float(np.median(values))
            made.axes.plot([middle, middle], [place, place - 0.42], color=INK, linewidth=1.4)
        _name_rows(made.axes, places, [(label, control) for label, _, control, _ in rows])
        made.axes.set_ylim(places[-1] + 0.25, -1)
    return Panel(metric, made.svg, "; ".join(f"{label}: {_quarters(values)}" for label, *_, values in rows))


def _quarters(values: Floats) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    decimals = digits([low, high])
    return (
        f"median {number(float(middle), decimals)}, half of the pairs between {number(float(low), decimals)} "
        f"and {number(float(high), decimals)}"
    )


def _name_rows(axes: "Axes", places: Floats, labels: Sequence[tuple[str, bool]]) -> None:
    axes.set_yticks(places, [short(label, LABEL) for label, _ in labels])
    for tick, (_, control) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_color(QUIET if control else INK)
    axes.grid(False, axis="y")
    axes.locator_params(axis="x", nbins=5)


def _line(run: Examined, stage: str, part: str, metric: str) -> tuple[list[float], list[float]]:
    """Steps and values; lines without the metric, or with null for it, are passed over."""
    found = [
        (line["step"], line[part][metric])
        for line in run.history
        if line.get("stage") == stage and (line.get(part) or {}).get(metric) is not None
    ]
    return [step for step, _ in found], [value for _, value in found]


def _curves(
    title: str, names: Sequence[str], lines: Mapping[int, tuple[list[float], list[float]]], from_zero: bool
) -> Panel:
    with drawing(title, 190) as made:
        for run, (steps, values) in lines.items():
            made.axes.plot(
                steps,
                values,
                color=colour(run),
                linewidth=1.8,
                marker="o" if len(steps) < 20 else "",
                markersize=4,
            )
        if from_zero:
            made.axes.set_ylim(0, 1.08 * made.axes.dataLim.y1)
        made.axes.locator_params(nbins=5)
        made.axes.locator_params(axis="x", integer=True)
    words = [
        f"{names[run]}: from {number(values[0], digits(values))} to {number(values[-1], digits(values))} over "
        f"{steps[-1]:,} steps"
        for run, (steps, values) in lines.items()
    ]
    return Panel(title, made.svg, "; ".join(words))


def _usage(book: str, runs: Sequence[Examined]) -> Panel:
    words = []
    with drawing(f"usage {book}", 190) as made:
        for position, run in enumerate(runs):
            counts = np.sort(np.asarray(run.usage.get(book, ()), dtype=np.float64))[::-1]
            if len(counts):
                at = np.unique(np.linspace(0, len(counts) - 1, POINTS).round().astype(int))
                made.axes.plot(at + 1, counts[at], color=colour(position), linewidth=1.8)
                words.append(f"{run.name}: {_in_use(run.usage[book])}")
        made.axes.set_ylim(bottom=0)
        made.axes.locator_params(nbins=5)
    return Panel(book.replace("_", " "), made.svg, "; ".join(words))


def _in_use(counts: Sequence[int]) -> str:
    used, total = sum(count > 0 for count in counts), max(1, sum(counts))
    return (
        f"{used:,} of {counted(len(counts), 'word')} in use, the fullest fills {percent(max(counts) / total)}"
    )


def _book_title(name: str) -> str:
    return f"Perplexity of the book {name.removeprefix('perplexity/').replace('_', ' ')}"
