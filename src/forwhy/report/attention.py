"""What a model looks at while it writes why, as a picture: tokens against words, and what each token is worth.

Shapes: r rows (tokens, then what stands in words), w words of the text.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forwhy.atomic import atomic_file, refuse_other
from forwhy.errors import UserError, need
from forwhy.report.drawing import QUIET, Panel, colour, shortened, styled, svg_of
from forwhy.report.writing import grouped, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg", "pdf")
_LEFT, _CELL, _BARS, _ROW, _BELOW, _LINE = 230, 14, 110, 18, 120, 15
"""Pixels: left of the cells, of a cell, of the bars, of a row, below, and of a line of the caption."""
_LABEL, _WORD = 36, 18
"""Characters of a token with its gloss, and of a word of the text."""
_INKS = {"user": "#0072b2", "item": "#d55e00", "": "#555555"}


def check_picture(path: Path) -> None:
    """A UserError for a file that `write_attention` cannot write: another ending than `KINDS`, or no matplotlib."""
    if path.suffix[1:].lower() not in KINDS:
        raise UserError(f"--out {path}: no such kind of picture; end it in .{', .'.join(KINDS)}")
    need("matplotlib", "report")


def write_attention(path: Path, view: Mapping[str, Any]) -> None:
    """Write `Attention.document()` as a picture with its caption, whole or not at all."""
    check_picture(path)
    refuse_other(path, lambda begin: b"atplotlib" in begin)
    lines = textwrap.wrap(said(view), (_LEFT + _CELL * len(view["words"]) + _BARS) // 6)
    with styled("attention"), atomic_file(path) as temporary:
        figure = _drawn(view, _LINE * len(lines))
        figure.text(0.01, 0.99, "\n".join(lines), va="top", fontsize=10, color=_INKS[""])
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=144, facecolor="white")


def attention_panel(view: Mapping[str, Any], title: str) -> Panel:
    """The picture for a page, in its colours; its words are the caption."""
    need("matplotlib", "report")
    with styled("attention"):
        figure = _drawn(view, 0, {"user": colour(0), "item": colour(1), "": QUIET})
        for patch in (figure.patch, *(axes.patch for axes in figure.axes)):
            patch.set_visible(False)
        return Panel(title, svg_of(figure.axes[0]), said(view))


def said(view: Mapping[str, Any]) -> str:
    """The caption: where the attention of all words goes, and what the picture's shades and bars are."""
    mean = np.mean(view["shares"], axis=0).tolist()
    names = [*(f"the {token['side']}'s tokens" for token in view["tokens"]), *view["others"]]
    found = grouped(zip(names, mean, strict=True))
    parts = [f"{percent(sum(shares))} on {name}" for name, shares in found.items() if name != "rest"]
    return (
        f"Attention while writing, mean over all layers and heads: {', '.join(parts)}; the rest on the instruction and "
        f"the words before. Darkest: {' and '.join(percent(most) for most in _most(view) if most)} of a word's "
        "attention on a token, and on what stands in words. Bars: nats that the text loses without the token."
    )


def _most(view: Mapping[str, Any]) -> list[float]:
    """The largest share of a token, and of what stands in words: each has its own scale."""
    shares_wr, tokens = np.array(view["shares"])[:, :-1], len(view["tokens"])
    return [float(part.max(initial=0)) for part in (shares_wr[:, :tokens], shares_wr[:, tokens:])]


def _drawn(view: Mapping[str, Any], above: int, ink_of: Mapping[str, str] = _INKS) -> "Figure":
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    tokens, others = view["tokens"], view["others"][:-1]
    sides = [*(token["side"] for token in tokens), *("" for _ in others)]
    labels = [" ".join([token["token"], *token["gloss"][:1]]) for token in tokens] + others
    scale_r = np.repeat(np.maximum(_most(view), 1e-12), [len(tokens), len(others)])
    strength_rw = np.array(view["shares"])[:, :-1].T / scale_r[:, None]
    inks = [ink_of[side] for side in sides]
    rows, words = strength_rw.shape
    high, wide = _ROW * rows, _CELL * words
    width, height = _LEFT + wide + _BARS, above + 8 + high + _BELOW
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    heat = figure.add_axes((_LEFT / width, _BELOW / height, wide / width, high / height))
    shaded = zip(inks, strength_rw, strict=True)
    heat.pcolormesh([[to_rgba(ink, share) for share in row] for ink, row in shaded])
    heat.set_xticks(np.arange(words) + 0.5, [shortened(word, _WORD) for word in view["words"]], rotation=90)
    heat.set_yticks(np.arange(rows) + 0.5, [shortened(label, _LABEL) for label in labels])
    place = (_LEFT + wide + 12) / width, _BELOW / height, (_BARS - 24) / width, high / height
    beside = figure.add_axes(place, sharey=heat)
    worth = [token["contribution"] or 0 for token in tokens] + [0] * len(others)
    beside.barh(np.arange(rows) + 0.5, worth, color=inks)
    beside.tick_params(labelleft=False)
    beside.locator_params(axis="x", nbins=2)
    beside.set_xlabel("worth (nats)")
    for axes in (heat, beside):
        axes.grid(visible=False)
    for tick, ink in zip(heat.get_yticklabels(), inks, strict=True):
        tick.set_color(ink)
    heat.set_ylim(rows, 0)
    return figure
