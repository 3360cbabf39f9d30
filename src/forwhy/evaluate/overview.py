"""Several runs and files in one table for a terminal, each with its controls below."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from forwhy.evaluate.compare import LEVEL, Comparison
from forwhy.evaluate.reading import Examined
from forwhy.evaluate.report import cell, control_wins, number, titled, variants_named

Documents = Sequence[tuple[str, Mapping[str, Any]]]

GROUNDED = ("precision", "precision_item", "precision_user", "recall", "claims")


def render_examined(
    examined: Sequence[Examined],
    comparisons: Sequence[Comparison],
    bold: Collection[tuple[str, str]],
    metrics: Sequence[str],
    ranking: Sequence[str],
    notes: Sequence[str],
) -> list[RenderableType]:
    """Tables of texts, rankings and grounding, then what survives and the notes.

    Bold are the cells of `bold` only; a star marks a control that is at least as good, and the metric it
    wins. Names and sentences are strangers' words: they come out as they are, never as markup.
    """
    documents = [(one.name, one.document) for one in examined]
    parts = (
        _text_table(documents, bold, metrics),
        _ranking_table(documents, bold, ranking),
        _gain_table(documents),
        _grounding_table(documents),
        _constants(documents),
        _survivors(comparisons),
        Text("\n".join(notes), style="dim") if notes else None,
    )
    return [part for part in parts if part is not None]


def _text_table(
    documents: Documents, bold: Collection[tuple[str, str]], metrics: Sequence[str]
) -> RenderableType | None:
    told = [(name, it) for name, it in documents if it.get("text")]
    if not told:
        return None
    table = titled("Explanations and, below each, its controls", "pairs", *metrics)
    for name, document in told:
        method, controls = document["text"], document["controls"]
        cells = [_own_cell(name, method, controls, metric, bold) for metric in metrics]
        table.add_row(Text(name), Text(f"{method['pairs']:,}"), *cells)
        for control, values in controls.items():
            cells = [_control_cell(method, values, metric) for metric in metrics]
            table.add_row(_dim(Text(f"  {control}")), _dim(_own_pairs(values)), *cells)
        table.add_section()
    said = (
        "* the control is at least as good; one with a text for fewer pairs gives the constant to the others"
    )
    return Group(table, Text(said, style="dim"))


def _own_pairs(control: Mapping[str, Any]) -> Text:
    """For how many pairs a control has a text of its own, where it may lack one."""
    return Text(f"{control['pairs'] - control['fallbacks']:,}" if "fallbacks" in control else "")


def _own_cell(
    name: str,
    method: Mapping[str, Any],
    controls: Mapping[str, Any],
    metric: str,
    bold: Collection[tuple[str, str]],
) -> Text:
    if metric not in method:
        return Text("")
    beaten = any(control_wins(method, values, metric) for values in controls.values())
    return _bold(cell(method, metric, "*" * beaten), (name, metric) in bold)


def _control_cell(method: Mapping[str, Any], values: Mapping[str, Any], metric: str) -> Text:
    if metric not in method:
        return Text("")
    return _dim(cell(values, metric, "*" * control_wins(method, values, metric)))


def _ranking_table(
    documents: Documents, bold: Collection[tuple[str, str]], metrics: Sequence[str]
) -> Table | None:
    ranked = [(name, it) for name, it in documents if it.get("ranking")]
    if not ranked:
        return None
    splits = {document.get("protocol", {}).get("evaluated", "test") for _, document in ranked}
    table = titled(f"Full ranking on {' and '.join(sorted(splits))}", "users", *metrics)
    for name, document in ranked:
        rows = {name: document["ranking"], **variants_named(document), **document.get("baselines", {})}
        for label, values in rows.items():
            cells = [_ranking_cell(label, values, it, bold) for it in metrics]
            table.add_row(Text(label), Text(f"{values['users']:,}"), *cells)
        table.add_section()
    return table


def _ranking_cell(
    name: str, values: Mapping[str, Any], metric: str, bold: Collection[tuple[str, str]]
) -> Text:
    return _bold(cell(values, metric), (name, metric) in bold) if metric in values else Text("")


def _gain_table(documents: Documents) -> RenderableType | None:
    told = [(name, it) for name, it in documents if it.get("information_gain")]
    if not told:
        return None
    sides = ("item", "user", "both")
    title = "Language model: NLL, and what the right tokens are worth, in nats per token"
    table = titled(title, "pairs", "NLL", *(f"gain: {side}" for side in sides))
    for name, document in told:
        gain, nll = document["information_gain"], document["nll"]
        own = {"nll": nll, "intervals": {"nll": document["nll_interval"]}}
        table.add_row(
            Text(name), Text(f"{gain['pairs']:,}"), cell(own, "nll"), *(cell(gain, it) for it in sides)
        )
    models = {document["protocol"].get("model") for _, document in told}
    if len(models) < 2:
        return table
    return Group(table, Text("different models count different tokens: compare gains, not NLLs", style="dim"))


def _grounding_table(documents: Documents) -> RenderableType | None:
    grounded = [(name, it["grounding"]) for name, it in documents if it.get("grounding")]
    if not grounded:
        return None
    table = titled("Grounding: share of claims that something known supports", *GROUNDED)
    for name, document in grounded:
        rows = {name: document["method"], **{f"  {it}": row for it, row in document["controls"].items()}}
        for label, values in rows.items():
            table.add_row(Text(label), *(cell(values, it) if it in values else "" for it in GROUNDED))
        table.add_section()
    calibration = grounded[0][1]["calibration"]
    missed, accepted = calibration["missed"]["either"], calibration["accepted"]["either"]
    said = f"the matcher misses {missed:.0%} of right claims and accepts {accepted:.0%} of another pair's"
    return Group(table, Text(said, style="dim"))


def _constants(documents: Documents) -> Text | None:
    """Each constant once."""
    said = {
        (control, values["sentence"]): None
        for _, document in documents
        for control, values in (document.get("controls") or {}).items()
        if "sentence" in values
    }
    lines = [f"{control}: {sentence}" for control, sentence in said]
    return Text("\n".join(lines), style="dim") if lines else None


def _survivors(comparisons: Sequence[Comparison]) -> Text | None:
    if not comparisons:
        return None
    lines = [_in_words(one) for one in comparisons if one.p_holm <= LEVEL]
    return Text(
        "\n".join(["Beyond chance:", *lines] if lines else ["No difference survives the correction."])
    )


def _in_words(one: Comparison) -> str:
    first, second = (one.a, one.b) if one.difference.mean > 0 else (one.b, one.a)
    mean, low, high = one.difference
    low, high = (low, high) if mean > 0 else (-high, -low)
    return (
        f"  {one.metric}: {first} is above {second} by {number(abs(mean))} [{number(low)}, {number(high)}] on "
        f"{one.pairs:,} (p {one.p_holm:.2g}, effect {abs(one.effect):.2f})"
    )


def _bold(text: Text, is_bold: bool) -> Text:
    if is_bold:
        text.stylize("bold")
    return text


def _dim(text: Text) -> Text:
    text.stylize("dim")
    return text
