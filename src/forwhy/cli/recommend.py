"""`forwhy recommend RUN --user ID`: what to offer, and with `--explain` why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forwhy.cli.console import JsonFlag, emit, one_of, plain, show

if TYPE_CHECKING:
    from forwhy.explain.base import Explainer
    from forwhy.recommend.base import CatalogueRecommender
    from forwhy.vocabulary.vocabulary import Vocabulary


def recommend(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    user: Annotated[str | None, typer.Option("--user", "-u", help="User id, as in your data.")] = None,
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
    from forwhy.recipe import RunFolder

    one_of({"--user": user, "--history": history})
    folder = RunFolder.open(run)
    recommender = folder.recommender()
    taken = None if history is None else items_named(recommender, history)
    document = recommendation(recommender, user, taken, k, with_seen)
    if explain:
        add_reasons(folder.explainer(), document, taken)
    if as_json:
        emit(document)
    else:
        tokens = ["behaviour tokens", described(document["tokens"])] if document["tokens"] else []
        show(*tokens, "recommended", items_listed(document))


def items_named(recommender: CatalogueRecommender, given: Sequence[str]) -> list[str]:
    """Ids in options: each is one, or several with commas; none where it is blank."""
    found: list[str] = []
    for text in given:
        whole = recommender.items.numbers([text])[0] >= 0
        found += [text] if whole else [part.strip() for part in text.split(",") if part.strip()]
    return found


def recommendation(
    recommender: CatalogueRecommender,
    user: str | int | None,
    history: Sequence[str | int] | None,
    k: int,
    with_seen: bool = False,
) -> dict[str, Any]:
    """A person's tokens (none where the run's system has no vocabulary) and top items as a document."""
    table = recommender.recommend(user, history=history, k=k, filter_seen=not with_seen)
    rows = table.select("item_id", "score", "rank").to_dicts()
    for row in rows:
        row["title"] = recommender.titles[recommender.items.index(row["item_id"])]
    if user is None:
        seen = [recommender.items.index(item) for item in history or ()]
        return {"user": None, "history": history, "tokens": _tokens(recommender, seen), "items": rows}
    number = recommender.users.index(user)
    return {"user": recommender.users.values[number], "tokens": _tokens(recommender, number), "items": rows}


def _tokens(recommender: CatalogueRecommender, person: int | list[int]) -> list[dict[str, Any]]:
    """Of a user by number, or of a history of items."""
    from forwhy.recommend.simple import BehaviourRecommender
    from forwhy.vocabulary.vocabulary import Vocabulary

    behaviour = recommender.behaviour if isinstance(recommender, BehaviourRecommender) else None
    if not isinstance(behaviour, Vocabulary):
        return []
    if isinstance(person, int):
        return glossed(behaviour, behaviour.token_names("user", person))
    return glossed(behaviour, behaviour.names_of("user", behaviour.codes_for_history(person)))


def glossed(words: Vocabulary, names: Sequence[str]) -> list[dict[str, Any]]:
    """Behaviour tokens with their glosses."""
    return [{"token": name, "gloss": words.word(name)["gloss"]} for name in names]


def add_reasons(
    explainer: Explainer[Any],
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
        f"  {token['token']:<{width}}  {plain(', '.join(token['gloss'][:3])) or 'no gloss'}"
        for token in tokens
    )


def items_listed(document: dict[str, Any]) -> str:
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
