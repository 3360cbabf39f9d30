"""What a finished run is asked: `forwhy recommend` and `forwhy explain`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.table import Table
from typer import Argument, Option

from forwhy.cli import JsonFlag, cut, emit, half_width, line_width, one_of, plain, show
from forwhy.cli.newcomers import items_named, items_or_file, met, one_person, whence
from forwhy.cli.reasons import add_reasons, because_lines, claim_lines, item_lines, items_listed
from forwhy.data.sources.rows import read_rows
from forwhy.errors import UserError
from forwhy.opened import open as open_run
from forwhy.shards import EngineName

if TYPE_CHECKING:
    from forwhy.explain.evidence import Explanation
    from forwhy.frames import Id
    from forwhy.recommend.base import Given, Recommender

Run = Annotated[Path, Argument(help="Run folder.")]
User = Annotated[str | None, Option("--user", "-u", help="User id, as in your data.")]
Without = Annotated[
    list[str] | None,
    Option(help="Also what would be without a token of theirs, e.g. '<u.micro_35>'; repeatable."),
]
Swap = Annotated[
    list[str] | None,
    Option(help="Also what would be with another token: '<u.micro_35>=<u.micro_61>'; repeatable."),
]
Item = Annotated[str | None, Option("--item", "-i", help="Item id, as in your data.")]
Liked = Annotated[
    list[str] | None, Option("--history", help="Instead of a user: an item they like; repeatable.")
]
ItemText = Annotated[
    str | None,
    Option(help="Instead of an item: text of one that nobody took, its title in the first line."),
]
About = Annotated[str | None, Option(help="Instead of a user, alone or beside --history: a text about them.")]
Exclude = Annotated[
    list[str] | None,
    Option(
        help="Items that no list holds, such as unavailable ones: ids with commas, repeatable, or a file with item_id."
    ),
]
Only = Annotated[list[str] | None, Option(help="The only items that a list may hold, given alike.")]
Boost = Annotated[
    Path | None,
    Option(help="File with item_id and boost: what is added to an item's score, below zero to lower it."),
]
GLOSSES = 3
"""Phrases of a token that are shown."""
Out = Annotated[Path | None, Option("--out", "-o", help="With --all: a .parquet, .csv or .jsonl file.")]
Engine = Annotated[EngineName, Option(help="Of many: this process, or a cluster.")]
Address = Annotated[str | None, Option(help="Of a Ray cluster; without it one on this machine.")]
Workers = Annotated[int, Option(min=0, help="Processes of a core each; 0 is all cores of the cluster.")]


def recommend(
    run: Run,
    user: User = None,
    history: Annotated[
        list[str] | None,
        Option(
            "--history", help="Instead of a user: items they took, oldest first, with commas; repeatable."
        ),
    ] = None,
    about: About = None,
    everyone: Annotated[bool, Option("--all", help="Instead of a user: all of them, into --out.")] = False,
    out: Out = None,
    k: Annotated[int, Option("-k", min=1, help="How many items.")] = 10,
    explain: Annotated[bool, Option("--explain", help="Say why, item by item.")] = False,
    with_seen: Annotated[bool, Option("--with-seen", help="Also items the user already took.")] = False,
    exclude: Exclude = None,
    only: Only = None,
    boost: Boost = None,
    without: Without = None,
    swap: Swap = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 0,
    as_json: JsonFlag = False,
) -> None:
    """The best items for a person, with the behaviour tokens they were chosen by, where the system has such.

    With --without or --swap also what they would be if the person had other tokens.
    """
    one_person(user, history, about, everyone or out is not None)
    changes = _changes(without, swap)
    if everyone and out is None:
        raise UserError("--all: name the file, e.g. --all --out recommendations.parquet")
    if out is not None and changes:
        raise UserError("--all: --without and --swap are about one person; leave them out, or name one")
    where = _where(engine, address, workers, "--all" if out is None else None)
    opened = open_run(run)
    items = partial(items_or_file, opened.recommender.catalogue)
    opened = opened.under(exclude=items(exclude), only=items(only), boost=boost)
    if out is not None:
        users = opened.recommend_all(out, k, explain=explain, filter_seen=not with_seen, **where)
        told = {"out": str(out), "users": users}
        return emit(told) if as_json else show("{out}: lists of {users:,} users".format(**told))
    wanted = {"k": k, "filter_seen": not with_seen}
    recommender, taken = met(opened.recommender, history, about)
    document = recommendation(recommender, user, taken, **wanted)
    if explain:
        add_reasons(opened, document, about)
    if changes:
        after = recommender.changed(user, history=taken, **changes)
        changed = recommendation(after, user, taken, **wanted)
        if explain:
            add_reasons(opened, changed, about, **changes)
        document["changed"] = {**changes, "tokens": changed["tokens"], "items": changed["items"]}
    if as_json:
        emit(document if about is None else {"about": about, **document})
    else:
        show(*_recommended(document))


def _where(engine: EngineName, address: str | None, workers: int, lacking: str | None) -> dict[str, Any]:
    """Where many are worked on; refused where nothing would read an option. `lacking`: what would ask for many."""
    if engine != "local" and lacking:
        raise UserError(f"--engine {engine}: for many; add {lacking} and --out, or leave it out")
    if engine == "local" and (address is not None or workers):
        given = "--workers" if address is None else "--address"
        raise UserError(f"{given}: of a cluster; add --engine ray, or leave it out")
    return {"engine": engine, "address": address, "workers": workers}


def _changes(without: Sequence[str] | None, swap: Sequence[str] | None) -> dict[str, Any]:
    pairs = [text.partition("=") for text in swap or ()]
    for old, _, new in pairs:
        if not (old and new):
            raise UserError(f"--swap {old or new}: write OLD=NEW, e.g. --swap '<u.micro_35>=<u.micro_61>'")
    changes = {"without": list(without or ()), "swap": {old: new for old, _, new in pairs}}
    return changes if any(changes.values()) else {}


def _recommended(document: Mapping[str, Any]) -> list[Table | str]:
    """A recommendation for a reader; with other tokens, before and after side by side."""
    if "changed" not in document:
        tokens = ["behaviour tokens", described(document["tokens"])] if document["tokens"] else []
        return [*tokens, "recommended", items_listed(document)]
    changed, ranks = document["changed"], {row["item_id"]: row["rank"] for row in document["items"]}
    table = Table("before", "after", title=_said_changes(changed), show_lines=True)
    for before, after in zip_longest(document["items"], changed["items"]):
        was, rank = "", ranks.get(after["item_id"]) if after else None
        if after and rank != after["rank"]:
            was = f"  was {rank}" if rank else "  new"
        table.add_row(
            "" if before is None else "\n".join(item_lines(before, half_width())),
            "" if after is None else "\n".join(item_lines(after, half_width(), was)),
        )
    return [table]


def _said_changes(changed: Mapping[str, Any]) -> str:
    parts = [f"without {word}" for word in changed["without"]]
    return ", ".join([*parts, *(f"{new} for {old}" for old, new in changed["swap"].items())])


def recommendation(
    recommender: Recommender, user: Id | None, history: Sequence[Id] | None, **wanted: Given
) -> dict[str, Any]:
    """A person's tokens (none where the run's system has no vocabulary) and top items as a document."""
    catalogue = recommender.catalogue
    rows = recommender.recommend(user, history=history, **wanted).drop("user_id").to_dicts()
    for row in rows:
        row.setdefault("title", "")
    number = None if user is None else catalogue.users.index(user)
    about = {"user": None, "history": history} if number is None else {"user": catalogue.users.values[number]}
    taken = [] if user is not None else [catalogue.items.index(item) for item in history or ()]
    return {**about, "tokens": _tokens(recommender, number, taken), "items": rows}


def _tokens(recommender: Recommender, user: int | None, taken: list[int]) -> list[dict[str, Any]]:
    from forwhy.vocabulary.vocabulary import Vocabulary

    words, newcomer = getattr(recommender, "behaviour", None), recommender.newcomer
    if not isinstance(words, Vocabulary):
        return []
    origins = {} if newcomer is None else dict(zip(newcomer.tokens, newcomer.origins, strict=True))
    whose = {name: {"origins": [asdict(one) for one in ones]} for name, ones in origins.items()}
    names = words.names_of("user", words.user_codes(user, taken))
    return [{"token": name, "gloss": words.phrases[name], **whose.get(name, {})} for name in names]


def described(tokens: list[dict[str, Any]]) -> str:
    """Tokens for a reader: a line each, with its first glosses."""
    width = max(len(token["token"]) for token in tokens)
    return "\n".join(
        f"  {token['token']:<{width}}  {plain(', '.join(token['gloss'][:GLOSSES])) or 'no gloss'}"
        + whence(token.get("origins", ()))
        for token in tokens
    )


def explain(
    run: Run,
    item: Item = None,
    user: User = None,
    history: Liked = None,
    about: About = None,
    item_text: ItemText = None,
    without: Without = None,
    swap: Swap = None,
    contributions: Annotated[
        bool, Option("--contributions", help="Also how many nats the text owes each token: seconds more.")
    ] = False,
    pairs: Annotated[
        Path | None,
        Option(help="Instead of one: a file with user_id and item_id; texts go into the folder --out."),
    ] = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="With --pairs: a folder of parquet files.")
    ] = None,
    engine: Engine = "local",
    address: Address = None,
    workers: Workers = 0,
    as_json: JsonFlag = False,
) -> None:
    """Why this person would want this item; the words stream into a terminal as they come.

    With --without or --swap also what would be said if the person had other tokens. With --pairs many are explained: a
    killed command, given again, goes on.
    """
    where = _where(engine, address, workers, "--pairs" if pairs is None else None)
    if pairs is not None:
        return _explain_many(run, pairs, out, where, as_json)
    changes = _changes(without, swap)
    explainer, who = _asked(run, item, user, history, about, item_text)
    streamed = sys.stdout.isatty() and not as_json and not changes and hasattr(explainer, "unsaid")
    said = ""
    if streamed:
        show(*_carried(explainer.unsaid(**who)))
        for piece in explainer.stream(**who):
            said += piece
            sys.stdout.write(plain(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
    if said:  # writing it again would take as long again
        explanation = explainer.unsaid(**who, said=said, contributions=contributions)
    else:
        explanation = explainer.explain(**who, contributions=contributions)
    after = explainer.explain(**who, contributions=contributions, **changes) if changes else None
    if as_json:
        ids, number = explainer.known.catalogue, explainer.known.catalogue.items.index(who["item"])
        named = {"user": user, "item": ids.items.values[number], "title": ids.titles[number]}
        named |= {} if about is None else {"about": about}
        named |= {} if item_text is None else {"item": None}
        changed = {} if after is None else {"changed": changes | after.document()}
        emit(named | explanation.document() | changed)
    elif after is None:
        text = [] if streamed else [*_carried(explanation), plain(explanation.text)]
        show(*text, *_evidence(explanation))
        if about is not None:
            show("their words", described([asdict(one) for one in explanation.tokens if one.side == "user"]))
    else:
        table = Table("before", "after", title=_said_changes(changes))
        table.add_row(_told(explanation), _told(after))
        show(table)


def _explain_many(run: Path, pairs: Path, out: Path | None, where: Mapping[str, Any], as_json: bool) -> None:
    if out is None:
        raise UserError("--pairs: name a folder for the texts, e.g. --pairs pairs.csv --out texts")
    count = open_run(run).explain_all(read_rows(pairs), out, **where)
    told = {"out": str(out), "pairs": count}
    emit(told) if as_json else show("{out}: why, for {pairs:,} pairs".format(**told))


def prompt(
    run: Run,
    item: Item = None,
    user: User = None,
    history: Liked = None,
    about: About = None,
    item_text: ItemText = None,
) -> None:
    """What a baked model is asked to say why: a JSON document of ids and, where one has these ids, a text.

    Of runs that `forwhy bake` takes.
    """
    from forwhy.explain.baked import prompt_of

    explainer, who = _asked(run, item, user, history, about, item_text)
    emit(prompt_of(explainer, **who))


def _asked(
    run: Path,
    item: str | None,
    user: str | None,
    history: list[str] | None,
    about: str | None,
    item_text: str | None,
) -> tuple[Any, dict[str, Any]]:
    """Who says why, and of whom and what it is asked."""
    one_person(user, history, about)
    if item_text is None or item is not None:
        one_of({"--item": item, "--item-text": item_text})
    explainer = open_run(run).reasoner(item)
    taken = None if history is None else items_named(explainer.known.catalogue, history)
    asked: tuple[Any, dict[str, Any]] = explainer.introduced(
        user=user, history=taken, about=about, item=item, item_text=item_text
    )
    return asked


def _carried(explanation: Explanation) -> list[str]:
    told = explanation.document()
    return because_lines(told["because"], told["tokens"], line_width())


def _told(explanation: Explanation) -> str:
    told = explanation.document()
    score = "" if explanation.because is None else f"score {explanation.because.score:.3f}"
    carried = because_lines(told["because"], told["tokens"], half_width())
    return "\n".join([score, *carried, "", plain(explanation.text)])


def _evidence(explanation: Explanation) -> list[Table | str]:
    told, width = explanation.document(), line_width()
    checked = claim_lines(explanation.text, told["claims"], told["evidence"], width - 2)
    found: list[Table | str] = [f"  {line}" for line in checked]
    if explanation.tokens:
        measured = any(token.contribution is not None for token in explanation.tokens)
        table = Table("token", "gloss", *["contribution (nats)"] * measured)
        for token in explanation.tokens:
            carried = "" if token.contribution is None else f"{token.contribution:+.2f}"
            table.add_row(token.token, plain("; ".join(token.gloss[:GLOSSES])), *[carried] * measured)
        found.append(table)
    if not checked:  # whose lines quote them
        statements = explanation.evidence.statements
        found += [cut(f"  [{one.id}] {one.text} ({one.source}, {one.about})", width) for one in statements]
    if items := explanation.evidence.items:
        named = ", ".join(f"{item.title or item.item_id} ({item.likeness:.2f})" for item in items)
        found.append(f"most like it in their history: {plain(named)}")
    return found
