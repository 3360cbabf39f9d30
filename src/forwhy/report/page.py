"""The page: its parts put together, escaped, and written whole or not at all."""

import base64
import hashlib
import json
from collections.abc import Collection, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forwhy.atomic import atomic_file
from forwhy.errors import UserError
from forwhy.evaluate.compare import Comparison
from forwhy.evaluate.reading import Examined
from forwhy.evaluate.report import protocol_in_words
from forwhy.report import figures, findings, protocol, samples, tables
from forwhy.report.figures import RUNS
from forwhy.report.wording import CONTROLS, clean, counted

__all__ = ["write_report"]


def write_report(
    path: Path,
    examined: Sequence[Examined],
    comparisons: Sequence[Comparison],
    bold: Collection[tuple[str, str]],
    title: str = "Explanations, measured",
    command: str | None = None,
) -> None:
    """Write one self-contained HTML page about these runs.

    The page loads nothing (its policy forbids it), reads without JavaScript, and is the same bytes for the
    same input. Parts that were not measured are left out. Of more than 300 pairs so many are shown, evenly
    spaced from best to worst; of a text at most 10,000 characters. Cost: 2 to 5 s, most of it drawing.

    Args:
        path: Where the page goes.
        examined: The runs, in the order of their colours, each its own name.
        comparisons: Of `compare`, shown in full.
        bold: (run, metric) of the cells that may be bold, of `bold_cells`.
        title: Of the page.
        command: What made the page, shown for whoever wants to make it again.

    Raises:
        UserError: nothing to show, two runs of one name, or matplotlib or Jinja2 is not installed.
    """
    names = [run.name for run in examined]
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"{path}: the runs are {', '.join(names) or 'none'}; give one or more, each its own name"
        )
    page = _render(_content(examined, comparisons, bold) | {"title": title, "command": command})
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _content(
    runs: Sequence[Examined], comparisons: Sequence[Comparison], bold: Collection[tuple[str, str]]
) -> dict[str, Any]:
    """What the template reads, by part of the page; an empty part is not shown."""
    _need("matplotlib")
    shown = samples.cards(runs)
    return {
        "runs": [{"name": run.name, "colour": position % RUNS} for position, run in enumerate(runs)],
        "subject": findings.subject(runs),
        "findings": findings.findings(runs, comparisons),
        "text": _text(runs, bold),
        "ranking": _ranking(runs, bold),
        "gain": _gain(runs),
        "grounding": _grounding(runs),
        "comparisons": _comparisons(comparisons),
        "distributions": _distributions(runs),
        "training": _training(runs),
        "usage": _usage(runs),
        "samples": shown,
        "scores": _embedded({"metrics": shown.metrics, "scores": shown.scores}),
        "protocols": [_protocol(run) for run in runs],
        "signatures": protocol.signatures(runs),
        "counted": counted,
    }


def _protocol(run: Examined) -> dict[str, Any]:
    return {
        "name": run.name,
        "sentences": protocol_in_words(run.document.get("protocol") or {}),
        "lines": protocol.protocol_lines(run),
        "parts": protocol.further_lines(run),
    }


def _text(runs: Sequence[Examined], bold: Collection[tuple[str, str]]) -> dict[str, Any] | None:
    shown, folded = tables.text_tables(runs, bold)
    groups = tables.group_table(runs)
    if not shown and not folded:
        return None
    every = [*shown, *folded]
    controls = dict.fromkeys(name for run in runs for name in tables.controls_of(run))
    return {
        "heading": findings.text_heading(runs),
        "panels": figures.interval_panels(runs),
        "tables": shown,
        "folded": folded,
        "groups": groups,
        "legend": tables.legend(every),
        "controls": [(name, CONTROLS[name]) for name in controls if name in CONTROLS],
    }


def _ranking(runs: Sequence[Examined], bold: Collection[tuple[str, str]]) -> dict[str, Any] | None:
    found = tables.ranking_tables(runs, bold)
    retrieval = tables.retrieval_table(runs)
    if not found and not retrieval:
        return None
    first = found[0].columns[0].name if found else ""
    return {
        "heading": findings.ranking_heading(runs, first) if found else "Own text among all held-out texts",
        "note": findings.ranking_note(runs),
        "tables": found[:1],
        "folded": found[1:],
        "order": tables.order_table(runs),
        "retrieval": retrieval,
        "legend": tables.legend(found[:1]),
    }


def _gain(runs: Sequence[Examined]) -> dict[str, Any] | None:
    table = tables.gain_table(runs)
    if not table:
        return None
    return {"heading": findings.gain_heading(runs), "panels": figures.gain_panel(runs), "tables": [table]}


def _grounding(runs: Sequence[Examined]) -> dict[str, Any] | None:
    table = tables.grounding_table(runs)
    if not table:
        return None
    return {
        "heading": findings.grounding_heading(runs),
        "tables": [table],
        "words": findings.grounding_words(runs),
        "legend": tables.legend([table]),
    }


def _comparisons(comparisons: Sequence[Comparison]) -> dict[str, Any] | None:
    table = tables.comparison_table(comparisons)
    if not table:
        return None
    return {
        "heading": findings.comparison_heading(comparisons),
        "tables": [table],
        "legend": tables.legend([table]),
    }


def _distributions(runs: Sequence[Examined]) -> dict[str, Any] | None:
    panels = figures.distribution_panels(runs)
    if not panels:
        return None
    return {"heading": findings.distribution_heading(runs, panels[-1].title), "panels": panels}


def _training(runs: Sequence[Examined]) -> dict[str, Any] | None:
    panels = figures.curve_panels(runs)
    return {"heading": findings.training_heading(runs), "panels": panels} if panels else None


def _usage(runs: Sequence[Examined]) -> dict[str, Any] | None:
    panels = figures.usage_panels(runs)
    words = [(run.name, figures.usage_words(run)) for run in runs if run.usage]
    return {"heading": findings.usage_heading(runs), "panels": panels, "words": words} if panels else None


def _render(content: dict[str, Any]) -> str:
    """The template filled in; every string is cleaned and escaped on its way out."""
    _need("jinja2")
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: object) -> object:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("forwhy.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
        undefined=StrictUndefined,
    )
    style, script = (_part(name) for name in ("page.css", "page.js"))
    template = environment.get_template("page.html")
    return template.render(
        content,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        drawn=Markup,
    )


def _part(name: str) -> str:
    return files("forwhy.report").joinpath(name).read_text(encoding="utf-8")


def _embedded(document: object) -> str:
    """JSON that holds no character by which an HTML parser could leave the script element."""
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _need(module: str) -> None:
    if find_spec(module) is None:
        raise UserError(f"report: {module} is not installed; `pip install 'forwhy[report]'` brings it")
