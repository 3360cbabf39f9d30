"""Who reads what: of each explainer of a table, what the right user and the right item are worth to its texts.

    python -m benchmarks.who_reads runs/explainers/* --figure who-reads.svg
    python -m benchmarks.who_reads --page docs/systems/explainers.md --figure docs/assets/who-reads.svg
    python -m benchmarks.who_reads --page docs/systems/explainers.md --table 2 --figure docs/assets/who-reads-books.svg

Prints a markdown table: information gain of the user and of the item (nats per token of the model's own vocabulary,
titles kept), both as a share of the NLL that strangers' tokens leave, so that models with other tokens compare, and
seconds of training. A row reads a side where the interval of its gain is above zero.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

SIDES = ("user", "item")
READS = "**"


def read(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Row -> its evaluation, of rows that have a gain; the others are named."""
    found = {}
    for folder in folders:
        path = folder / "evaluation.json"
        document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if document.get("information_gain"):
            found[folder.name] = document
        elif folder.is_dir():
            print(f"<!-- {folder.name}: no gain measured -->")
    return found


def seconds(folder: Path) -> float:
    """Of all stages but the evaluation."""
    stages = json.loads((folder / "state.json").read_text(encoding="utf-8"))["stages"]
    return sum(stage["seconds"] for name, stage in stages.items() if name != "evaluation")


def table(rows: dict[str, dict[str, Any]], places: dict[str, Path]) -> str:
    """In markdown; what is read is bold."""
    lines = [
        "| | NLL | gain: user | gain: item | both, of the NLL without | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, document in rows.items():
        gain = document["information_gain"]
        sides = []
        for side in SIDES:
            low, high = gain["intervals"][side]
            mark = READS if low > 0 else ""
            sides.append(f"{mark}{gain[side]:.3f}{mark} [{low:.3f}, {high:.3f}]")
        share = gain["both"] / (document["nll"] + gain["both"])
        cells = [name, f"{document['nll']:.3f}", *sides, f"{share:.1%}", f"{seconds(places[name]):,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Read:
    """What one explainer reads, and what learning it cost."""

    name: str
    gains: dict[str, tuple[float, float, float]]
    """Of each side, the gain and its interval; where no interval is known, the gain three times."""
    seconds: float


def measured(rows: dict[str, dict[str, Any]], places: dict[str, Path]) -> list[Read]:
    """Of evaluations."""
    found = []
    for name, document in rows.items():
        gain = document["information_gain"]
        gains = {side: (gain[side], *gain["intervals"][side]) for side in SIDES}
        found.append(Read(name, gains, seconds(places[name])))
    return found


def told(page: Path, number: int = 1) -> list[Read]:
    """Of a page with tables of names, gains of the user and of the item, and seconds: of that with this number."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    heads = (line for line in lines if line.startswith("| | gain: user | gain: item | seconds"))
    next(islice(heads, number - 1, None), None)
    next(lines, None)
    found = []
    for line in takewhile(lambda it: it.startswith("|"), lines):
        name, *cells = (cell.strip().replace(READS, "").strip("`") for cell in line.strip("|").split("|"))
        gains = {}
        for side, cell in zip(SIDES, cells, strict=False):
            value, *interval = map(float, re.findall(r"-?\d*\.\d+", cell))
            gains[side] = value, *(interval or [value, value])
        found.append(Read(name, gains, float(cells[-1].replace(",", ""))))
    return found


def draw(rows: Sequence[Read], path: Path) -> None:
    """Gain of both sides, on one scale, beside its cost; one row an explainer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 1.1 + 0.3 * len(rows)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 1])
    left.axvline(0, color="#8a8f98", linewidth=1)
    for place, row in enumerate(rows):
        for side, ink, shift in (("user", "#b5651d", -0.16), ("item", "#1b6e53", 0.16)):
            value, low, high = row.gains[side]
            left.plot([low, high], [place + shift] * 2, color=ink, linewidth=2.4)
            label = f"the right {side}" if not place else None
            left.plot([value], [place + shift], "o", color=ink, markersize=4.5, label=label)
    left.legend(fontsize=8, frameon=False, loc="upper right")
    right.barh(range(len(rows)), [row.seconds for row in rows], color="#8a8f98", height=0.55)
    left.set_title("what the right one is worth to the text, nats per token", fontsize=9)
    right.set_title("learning it: seconds of one core", fontsize=9)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    left.set_yticks(range(len(rows)), [row.name for row in rows])
    left.invert_yaxis()
    figure.savefig(path, format=path.suffix.removeprefix("."), metadata={"Date": None})


def main() -> None:
    """Print the table and, where asked for, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--page", type=Path, help="Draw a table of this page instead.")
    parser.add_argument("--table", type=int, default=1, help="Which of the page's tables of gains.")
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    if given.page:
        drawn = told(given.page, given.table)
    else:
        rows, places = read(given.runs), {folder.name: folder for folder in given.runs}
        print(table(rows, places))
        drawn = measured(rows, places)
    if not drawn:
        parser.error("no information gain there; give folders of evaluated runs, or --page with such a table")
    if given.figure:
        draw(drawn, given.figure)


if __name__ == "__main__":
    main()
