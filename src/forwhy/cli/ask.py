"""What a finished run is asked: `forwhy recommend`, `forwhy explain` and `forwhy vocabulary`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl
import typer
from rich.table import Table

from forwhy.cli import JsonFlag, emit, one_of, plain, show
from forwhy.recipe import RunFolder

if TYPE_CHECKING:
    from forwhy.explain.base import Explainer
    from forwhy.explain.evidence import Explanation
    from forwhy.recommend.base import Recommender
    from forwhy.vocabulary.vocabulary import Vocabulary

Run = Annotated[Path, typer.Argument(help="Run folder.")]
User = Annotated[str | None, typer.Option("--user", "-u", help="User id, as in your data.")]
GLOSSES = 3
"""Phrases of a token that are shown."""


# --- what to offer


def recommend(
    run: Run,
    user: User = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            "--history", help="Instead of a user: items they took, oldest first, with commas; repeatable."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say why, item by item.")] = False,
    with_seen: Annotated[bool, typer.Option("--with-seen", help="Also items the user already took.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """The best items for a person, with the behaviour tokens they were chosen by, where the system has such."""
    one_of({"--user": user, "--history": history})
    folder = RunFolder.open(run)
    recommender = folder.recommender()
    taken = None if history is None else _items_named(recommender, history)
    document = recommendation(recommender, user, taken, k, with_seen)
    if explain:
        add_reasons(folder.explainer(), document, taken)
    if as_json:
        emit(document)
    else:
        tokens = ["behaviour tokens", described(document["tokens"])] if document["tokens"] else []
        show(*tokens, "recommended", items_listed(document))


def _items_named(recommender: Recommender, given: Sequence[str]) -> list[str]:
    """Ids in options: each is one, or several with commas; none where it is blank."""
    whole = recommender.catalogue.items.numbers(given) >= 0
    found = [
        [text] if known else [part.strip() for part in text.split(",")]
        for text, known in zip(given, whole, strict=True)
    ]
    return [item for items in found for item in items if item]


def recommendation(
    recommender: Recommender,
    user: str | int | None,
    history: Sequence[str | int] | None,
    k: int,
    with_seen: bool = False,
) -> dict[str, Any]:
    """A person's tokens (none where the run's system has no vocabulary) and top items as a document."""
    catalogue = recommender.catalogue
    table = recommender.recommend(user, history=history, k=k, filter_seen=not with_seen)
    rows = table.select("item_id", "score", "rank").to_dicts()
    for row in rows:
        row["title"] = catalogue.titles[catalogue.items.index(row["item_id"])]
    person: int | list[int]
    if user is None:
        about: dict[str, Any] = {"user": None, "history": history}
        person = [catalogue.items.index(item) for item in history or ()]
    else:
        person = catalogue.users.index(user)
        about = {"user": catalogue.users.values[person]}
    return {**about, "tokens": _tokens(recommender, person), "items": rows}


def _tokens(recommender: Recommender, person: int | list[int]) -> list[dict[str, Any]]:
    """Tokens and glosses of a user by number, or of a history of items."""
    from forwhy.vocabulary.vocabulary import Vocabulary

    words = getattr(recommender, "behaviour", None)
    if not isinstance(words, Vocabulary):
        return []
    codes = words.codes["user"][person] if isinstance(person, int) else words.codes_for_history(person)
    return [{"token": name, "gloss": words.word(name)["gloss"]} for name in words.names_of("user", codes)]


def add_reasons(
    explainer: Explainer[Any, Any],
    document: dict[str, Any],
    history: Sequence[str | int] | None = None,
) -> None:
    """Writes an `explanation` beside each item of a recommendation document."""
    items = [row["item_id"] for row in document["items"]]
    if document["user"] is None:
        reasons = [explainer.explain(history=history or (), item=item) for item in items]
    else:
        reasons = explainer.explain([(document["user"], item) for item in items])
    for row, reason in zip(document["items"], reasons, strict=True):
        row["explanation"] = reason.text


def described(tokens: list[dict[str, Any]]) -> str:
    """Tokens for a reader: a line each, with its first glosses."""
    width = max(len(token["token"]) for token in tokens)
    return "\n".join(
        f"  {token['token']:<{width}}  {plain(', '.join(token['gloss'][:GLOSSES])) or 'no gloss'}"
        for token in tokens
    )


def items_listed(document: Mapping[str, Any]) -> str:
    """The recommended items for a reader: title, id, score, and the reason below."""
    if not document["items"]:
        return "  nothing that they have not taken; --with-seen lists that too"
    lines = []
    for row in document["items"]:
        named = plain(f"{row['title']} ({row['item_id']})" if row["title"] else row["item_id"])
        lines.append(f"{row['rank']:>3}. {named}  {row['score']:.3f}")
        if "explanation" in row:
            lines.append(f"     {plain(row['explanation'])}")
    return "\n".join(lines)


# --- why


def explain(
    run: Run,
    item: Annotated[str, typer.Option("--item", "-i", help="Item id, as in your data.")],
    user: User = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", help="Instead of a user: an item they like; repeatable.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Why this person would want this item; the words stream into a terminal as they come."""
    one_of({"--user": user, "--history": history})
    explainer = RunFolder.open(run).explainer()
    pair: tuple[Any, ...] = () if user is None else ((user, item),)
    person: dict[str, Any] = {"history": history, "item": item} if user is None else {}
    streamed = sys.stdout.isatty() and not as_json
    if streamed:
        for piece in explainer.stream(*pair, **person):
            sys.stdout.write(plain(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
    explanation = explainer.explain(*pair, **person, contributions=True)
    if as_json:
        known = explainer.known.catalogue
        number = known.items.index(item)
        named = {"user": user, "item": known.items.values[number], "title": known.titles[number]}
        emit(named | explanation.document())
        return
    show(*([] if streamed else [plain(explanation.text)]), *_evidence(explanation))


def _evidence(explanation: Explanation) -> list[Table | str]:
    """The tokens behind a sentence with how much each carried, and the items of the history most like its own."""
    table = Table("token", "gloss", "contribution (nats)")
    for token in explanation.tokens:
        carried = "" if token.contribution is None else f"{token.contribution:+.2f}"
        table.add_row(token.token, _joined(token.gloss[:GLOSSES]), carried)
    items = explanation.evidence.items
    if not items:
        return [table]
    named = ", ".join(f"{item.title or item.item_id} ({item.likeness:.2f})" for item in items)
    return [table, f"most like it in their history: {plain(named)}"]


# --- the words


def vocabulary(
    run: Run,
    token: Annotated[str | None, typer.Option(help="One word, e.g. '<u.macro_17>'.")] = None,
    top: Annotated[
        int, typer.Option("--top", "-n", min=1, help="Words shown per book (terminal only).")
    ] = 10,
    as_json: JsonFlag = False,
) -> None:
    """Words with their usage, gloss and nearest words."""
    words = RunFolder.open(run).vocabulary()
    found = (
        {"health": words.health(), "words": words.words.to_dicts()} if token is None else words.word(token)
    )
    if as_json:
        emit(found)
    elif token is None:
        show(_health(words), *(_book(words, book, top) for book in words.codebooks))
    else:
        show("\n".join(f"{key}: {_joined(value)}" for key, value in found.items()))


def _health(words: Vocabulary) -> Table:
    table = Table("book", "words", "used", "perplexity", title="health")
    for book, state in words.health().items():
        size = len(words.codebooks[book])
        table.add_row(book, str(size), str(state["used"]), f"{state['perplexity']:.0f}")
    return table


def _book(words: Vocabulary, book: str, top: int) -> Table:
    """The most used words of one book."""
    table = Table("token", "used by", "gloss", "nearest", title=book)
    rows = words.words.filter(pl.col("book") == book).sort("usage", descending=True).head(top)
    for row in rows.iter_rows(named=True):
        table.add_row(row["token"], str(row["usage"]), _joined(row["gloss"][:4]), _joined(row["nearest"][:3]))
    return table


def _joined(value: object) -> str:
    return plain("; ".join(map(str, value)) if isinstance(value, list | tuple) else value)
