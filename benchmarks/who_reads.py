"""Who reads what: of each explainer of a table, what the right user and the right item are worth to its texts.

    python -m benchmarks.who_reads runs/explainers/* --figure docs/assets/who-reads.svg

Prints a markdown table: information gain of the user and of the item (nats per token of the model's own vocabulary,
titles kept), both as a share of the NLL that strangers' tokens leave, so that models with other tokens compare, and
seconds of training. A row reads a side where the interval of its gain is above zero.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
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
        told = []
        for side in SIDES:
            low, high = gain["intervals"][side]
            mark = READS if low > 0 else ""
            told.append(f"{mark}{gain[side]:.3f}{mark} [{low:.3f}, {high:.3f}]")
        share = gain["both"] / (document["nll"] + gain["both"])
        cells = [name, f"{document['nll']:.3f}", *told, f"{share:.1%}", f"{seconds(places[name]):,.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Two panels of intervals, one row an explainer, against the line at zero."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 0.8 + 0.3 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, side in zip(panels, SIDES, strict=True):
        for place, document in enumerate(rows.values()):
            gain = document["information_gain"]
            low, high = gain["intervals"][side]
            ink = "#1b6e53" if low > 0 else "#8a8f98"
            axes.plot([low, high], [place, place], color=ink, linewidth=2.4)
            axes.plot([gain[side]], [place], "o", color=ink, markersize=6)
        axes.axvline(0, color="#8a8f98", linewidth=1)
        axes.set_title(f"what the right {side} is worth, nats per token", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(range(len(rows)), list(rows))
    panels[0].invert_yaxis()
    figure.savefig(path, format=path.suffix.removeprefix("."), metadata={"Date": None})


def main() -> None:
    """Print the table and, where asked for, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    rows = read(given.runs)
    if not rows:
        parser.error("none of these folders holds an evaluation with an information gain")
    print(table(rows, {folder.name: folder for folder in given.runs}))
    if given.figure:
        draw(rows, given.figure)


if __name__ == "__main__":
    main()
