"""What a run's words are and how they are read: `forwhy vocabulary`, `forwhy profile` and `forwhy attention`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
from rich.table import Table
from typer import Option

from forwhy.cli import JsonFlag, emit, plain, show
from forwhy.cli.ask import GLOSSES, Run
from forwhy.recipe import RunFolder

if TYPE_CHECKING:
    from forwhy.vocabulary.vocabulary import Vocabulary

Somebody = Annotated[str, Option("--user", "-u", help="User id, as in your data.")]


def profile(run: Run, user: Somebody, as_json: JsonFlag = False) -> None:
    """What kind of person somebody's tokens are, written from these alone."""
    explainer = RunFolder.open(run).explainer()
    (text,) = explainer.describe([user])
    users = explainer.known.catalogue.users
    number = users.index(user)
    known = number in explainer.described
    if as_json:
        emit({"user": users.values[number], "profile": text, "seen_in_training": known})
    else:
        note = "the model learned from a text about this person" if known else ""
        show(plain(text), *[note] * known)


def attention(
    run: Run,
    item: Annotated[str, Option("--item", "-i", help="Item id, as in your data.")],
    user: Somebody,
    out: Annotated[
        Path | None,
        Option("--out", "-o", metavar="FILE", help="Also a picture, word by word: .png, .svg, .pdf."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """What the model looks at while it writes why this person would want this item, and what each token is worth."""
    from forwhy.report.attention import check_picture, said, write_attention

    if out is not None:
        check_picture(out)
    view = RunFolder.open(run).explainer().attention((user, item)).document()
    if out is not None:
        write_attention(out, view)
    if as_json:
        emit(view)
        return
    table = Table("token", "gloss", "attention", "worth (nats)")
    names = [*((one["token"], one["gloss"], one["contribution"]) for one in view["tokens"])]
    names += [(name, (), None) for name in view["others"]]
    for (name, gloss, worth), share in zip(names, zip(*view["shares"], strict=True), strict=True):
        mean = f"{sum(share) / len(share):.1%}"
        table.add_row(name, _joined(gloss[:GLOSSES]), mean, "" if worth is None else f"{worth:+.2f}")
    show(plain(" ".join(view["words"])), table, said(view))


def vocabulary(
    run: Run,
    token: Annotated[str | None, Option(help="One word, e.g. '<u.macro_17>'.")] = None,
    top: Annotated[int, Option("--top", "-n", min=1, help="Words shown per book (terminal only).")] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Words with their usage, gloss and nearest words."""
    words = RunFolder.open(run).vocabulary()
    if token is not None:
        found = words.word(token)
        emit(found) if as_json else show(
            "\n".join(f"{key}: {_joined(value)}" for key, value in found.items())
        )
    elif as_json:
        emit({"health": words.health(), "words": words.words.to_dicts()})
    else:
        show(_health(words), *(_book(words, book, top) for book in words.codebooks))


def _health(words: Vocabulary) -> Table:
    table = Table("book", "words", "used", "perplexity", title="health")
    for book, state in words.health().items():
        size = len(words.codebooks[book])
        table.add_row(book, str(size), str(state["used"]), f"{state['perplexity']:.0f}")
    return table


def _book(words: Vocabulary, book: str, top: int) -> Table:
    table = Table("token", "used by", "gloss", "fit", "nearest", title=book)
    rows = words.words.filter(pl.col("book") == book).sort("usage", descending=True).head(top)
    for row in rows.iter_rows(named=True):
        fit = "" if row.get("fit") is None else f"{row['fit']:.2f}"  # an older vocabulary has none
        gloss, nearest = _joined(row["gloss"][:4]), _joined(row["nearest"][:3])
        table.add_row(row["token"], str(row["usage"]), gloss, fit, nearest)
    return table


def _joined(value: object) -> str:
    return plain("; ".join(map(str, value)) if isinstance(value, list | tuple) else value)
