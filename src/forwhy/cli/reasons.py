"""Reasons beside recommended items: asked for, and shown to a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from forwhy.cli import cut, line_width, plain
from forwhy.data.because import met, tells_in_percent

if TYPE_CHECKING:
    from forwhy.opened import OpenRun

SHARES = 3
"""Shares of a score that are shown."""
_TOLD = 0.01
"""Smaller shares, for or against, are not shown in percent."""
HALF = 60
"""Up to so many columns of a text stand beside another, where words are spared."""
VERBS = {"history": "you took", "leave-one-out": "rests on"}
"""How an item of the history is told by the kind of its share."""
VOICES = {
    "sasrec": "the order of what was taken",
    "item-knn": "what is taken together",
    "content-knn": "what is said of things",
    "llm-bs": "a language model",
}
"""What each expert of a hybrid goes by."""
SAID_IN = {("item", "item"): "catalogue", ("user", "phrase"): "your taste", ("user", "title"): "you took"}
"""How it is told where a statement was said, by its side and source, where the source is no word for it."""


def add_reasons(
    asked: OpenRun,
    document: dict[str, Any],
    about: str | None = None,
    **changes: Any,  # noqa: ANN401 - `without` and `swap`
) -> None:
    """Writes beside each item of a recommendation document its `explanation`, and what this rests on."""
    rows, user = document["items"], document["user"]
    users = None if user is None else [user] * len(rows)
    items = [row["item_id"] for row in rows]
    told = asked.reasons(items, users, history=document.get("history"), about=about, **changes)
    for row, reason in zip(rows, told, strict=True):
        parts = reason.document()
        row["explanation"] = reason.text
        row |= {name: parts[name] for name in ("because", "tokens", "evidence", "claims")}


def items_listed(document: Mapping[str, Any]) -> str:
    """The recommended items for a reader: title, id, score, and below what carried it and the reason."""
    if not document["items"]:
        return "  nothing that they have not taken; --with-seen lists that too"
    return "\n".join(line for row in document["items"] for line in item_lines(row, line_width()))


def item_lines(row: Mapping[str, Any], width: int, was: str = "") -> list[str]:
    """A recommended item, what carried its score, and the reason, in lines of a width; `was`: its rank before."""
    named = plain(f"{row['title']} ({row['item_id']})" if row["title"] else row["item_id"])
    boost = f" ({row['boost']:+g} boost)" if row.get("boost") else ""
    indent = "     " if width > HALF else "  "
    head = f"{row['rank']:>3}. {named}  {row['score']:.3f}{boost}{was}"
    lines = wrap(head, width, subsequent_indent=indent, break_on_hyphens=False)
    if "explanation" in row:
        lines += [indent + line for line in because_lines(row["because"], row["tokens"], width - len(indent))]
        lines += wrap(plain(row["explanation"]), width, initial_indent=indent, subsequent_indent=indent)
        if width > HALF:
            checked = claim_lines(row["explanation"], row["claims"], row["evidence"], width - len(indent) - 2)
            lines += [f"{indent}  {line}" for line in checked]
    return lines


def claim_lines(
    text: str, claims: Sequence[Mapping[str, Any]], evidence: Mapping[str, Any], width: int
) -> list[str]:
    """Each claim beside the statement that supports it best, in lines cut to a width; none for a plain reason."""
    said = [claim["text"] for claim in claims]
    if not said or " ".join(said) == text:
        return []
    known = {one["id"]: one for one in evidence["statements"]}
    most = min(max(map(len, said)), width * 2 // 5)
    lines = []
    for claim in claims:
        start, end = f"{cut(claim['text'], most):<{most}}  <- unsupported", ""
        if claim["evidence"]:
            one = known[claim["evidence"][0]]
            place = SAID_IN.get((one["side"], one["source"]), one["source"])
            start, end = f'{start.removesuffix("unsupported")}{one["id"]} "{one["text"]}', f'" ({place})'
        lines.append(cut(start, width - len(end)) + end)
    return lines


def because_lines(
    because: Mapping[str, Any] | None, tokens: Sequence[Mapping[str, Any]], width: int
) -> list[str]:
    """What carried a score and, where this is more than all of it, what speaks against it most, in lines of a width."""
    if because is None or not because["shares"]:
        return []
    if because["kind"] in ("words", "history") and because["score"] <= 0:
        return [f"nothing speaks for it: its score is {because['score']:.3f}"]
    gloss = {token["token"]: token["gloss"][0] for token in tokens if token["gloss"]}
    ranked = met(because["shares"])
    percents = tells_in_percent([one["share"] for one in ranked])
    shown = [one for one in ranked if one["share"] > (_TOLD if percents else 0)][:SHARES]
    shown += [one for one in ranked[-1:] if one["share"] < -_TOLD and sum(it["share"] for it in shown) > 1]
    lines = [] if percents else [f"score {because['score']:.3f}, the sum of much for it and against it:"]
    for one in shown:
        if because["kind"] == "words":
            meets = " meets " if width > HALF else " "
            what = f"{one['user']}{meets}{one['item']}  {gloss.get(one['item'], '')}"
        else:
            what = f"{VERBS[because['kind']]} {one['title'] or one['item_id']}"
        part = f"{one['share']:>4.0%}" if percents else f"{one['contribution']:+.3f}"
        lines.append(f"{part}  {what}".rstrip() + "  speaks against it" * (one["share"] < 0))
    behind = ", ".join(str(one["title"] or one["item_id"]) for one in because["items"][:2])
    if because["kind"] == "words" and behind:
        lines.append(f"because you took {behind}")
    if because.get("experts"):
        parts = sorted(because["experts"].items(), key=lambda one: -one[1])
        heard = [f"{part:.0%} by {VOICES[name]}" for name, part in parts if round(100 * part)]
        lines += wrap(f"chosen {', '.join(heard)}", width)
    return [cut(line, width) for line in lines]
