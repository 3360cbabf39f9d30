"""How every drawing looks, and how it gets from matplotlib into a page: one style, colours of runs, inline SVG.

Text stays text, colours come from the page's style, and equal input gives equal bytes.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from forwhy.report.writing import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 360
"""Of a drawing, in CSS pixels: it fits a phone, and on a desktop three stand beside each other."""
RUNS = 6
"""Colours of runs (Okabe and Ito 2008, told apart by the colour-blind); a seventh run has the first again."""

# Stand-ins that matplotlib takes for colours; the style sheet has one set for light and one for dark.
INK, QUIET, LINE, PAPER = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "var(--ink)", QUIET: "var(--quiet)", LINE: "var(--line)", PAPER: "var(--paper)"}
_VARIABLES |= {f"#0505{run:02x}": f"var(--run{run})" for run in range(RUNS)}

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
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.linewidth": 0.6,
    "text.color": INK,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "axes.spines.left"), False),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), LINE),
    **dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), QUIET),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 11),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0),
    "axes.formatter.useoffset": False,
}


class Panel(NamedTuple):
    """One drawing: its title, escaped markup, and what it shows in words, for a screen reader."""

    title: str
    svg: str
    words: str


def colour(run: int) -> str:
    """The colour of a run, the same in every drawing."""
    return f"#0505{run % RUNS:02x}"


@contextmanager
def styled(name: str) -> Iterator[None]:
    """Matplotlib's settings while a drawing is made; its name keeps its ids apart from the other drawings'."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser draws the text, in its own fonts
        yield


def new_axes(height: int, left: int = 44) -> "Axes":
    """Axes `WIDTH` wide and `height` high, in CSS pixels, with `left` of it for the labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    figure.patch.set_visible(False)
    bottom = 22 / height
    place = (left / WIDTH, bottom, 1 - (left + 14) / WIDTH, 1 - bottom - 8 / height)
    return figure.add_axes(place, facecolor="none")


def svg_of(axes: "Axes") -> str:
    """The `<svg>` element in the page's fonts and colours."""
    stream = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    cast("Figure", axes.figure).savefig(stream, format="svg", metadata=no_metadata)
    text = _UNUSED.sub("", stream.getvalue().partition("<svg ")[2])
    text = re.sub(r'^[^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1">', text)
    text = re.sub(r"\s*\n\s*", " ", text).replace("xlink:href=", "href=")
    text = _NUMBERS.sub(lambda found: _LONG.sub(r"\1", found[0]), text)
    return _COLOUR.sub(lambda found: found[1] + _VARIABLES.get(found[2], found[2]), text).strip()


def shortened(label: str, most: int) -> str:
    """A cleaned label on one line of at most so many characters."""
    line = " ".join(clean(label).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "\u2026"
