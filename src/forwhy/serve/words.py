"""The vocabulary to browse, and lists of people and things: trained ones beside those that came later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.errors import UserError
from forwhy.serve.records import cursor_of, read_cursor
from forwhy.serve.runs import Loaded
from forwhy.serve.service import Service
from forwhy.vocabulary.vocabulary import Vocabulary, token_name

_OWNERS = 8
"""Owners of a word that are shown: the most typical, and those at its border."""


def _page(rows: Sequence[Any], limit: int, cursor: str | None) -> tuple[Sequence[Any], str | None]:
    try:
        begin = 0 if cursor is None else max(0, int(read_cursor(cursor)))
    except ValueError:
        raise UserError("cursor: not one of ours; give `next` of the page before, or none") from None
    return rows[begin : begin + limit], cursor_of(begin + limit) if begin + limit < len(rows) else None


def people(service: Service, run: str | None, q: str, limit: int, cursor: str | None) -> dict[str, Any]:
    """People whose id begins so: of training, then of events and the database."""
    loaded = service.loaded(run)
    ids, lengths = map(str, loaded.catalogue.users.values), loaded.catalogue.histories.lengths.tolist()
    trained = {name: taken for name, taken in zip(ids, lengths, strict=True) if name.startswith(q)}
    late = [(name, None) for name in service.database.people(q) if name not in trained]
    page, after = _page([*late, *trained.items()], limit, cursor)
    rows = [{"id": name, "taken": taken, "live": taken is None} for name, taken in page]
    return {"users": rows, "next": after}


def things(service: Service, run: str | None, q: str, limit: int, cursor: str | None) -> dict[str, Any]:
    """Items with a part of a title or an id: what came later first."""
    loaded, wanted = service.loaded(run), q.casefold()
    catalogue, unavailable = loaded.catalogue, service.unavailable
    every = zip(map(str, catalogue.items.values), catalogue.titles, strict=True)
    rows = [row for row in every if wanted in row[1].casefold() or wanted in row[0].casefold()]
    rows.sort(key=lambda row: row[0] not in loaded.offered)
    page, after = _page(rows, limit, cursor)
    found = [{"id": name, "title": title, "available": name not in unavailable} for name, title in page]
    return {"items": found, "next": after}


def listed(
    service: Service, run: str | None, q: str, book: str | None, limit: int, cursor: str | None
) -> dict[str, Any]:
    """Words by a part of their name or meaning, the most used first, with the names that people gave them."""
    loaded = service.loaded(run)
    table, renamed = loaded.words.words, service.renamed[loaded.name].get()
    if book is not None:
        table = table.filter(pl.col("book") == book)
    stocked = in_stock(loaded, service.unavailable)
    wanted, known = q.casefold(), table.sort("usage", descending=True, maintain_order=True).to_dicts()
    rows = [row for row in (_row(it, renamed) for it in known) if wanted in _said(row)]
    page, after = _page(rows, limit, cursor)
    found = [row | {"in_stock": _side(row["book"]) == "user" or row["token"] in stocked} for row in page]
    return {"books": list(loaded.words.codebooks), "words": found, "next": after}


def in_stock(loaded: Loaded, unavailable: Iterable[str]) -> set[str]:
    """The words that some available item has."""
    words, items = loaded.words, loaded.catalogue.items
    gone = items.numbers(list(unavailable))
    there_nS = np.delete(words.codes["item"], gone[gone >= 0], axis=0)
    slots = zip(words.slots("item"), there_nS.T, strict=True)
    return {token_name(book, code) for book, codes_n in slots for code in np.unique(codes_n).tolist()}


def _side(book: str) -> Side:
    return "user" if book.startswith("user") else "item"


def _row(row: Mapping[str, Any], renamed: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in ("token", "book", "usage", "gloss", "nearest")}
    found["fit"] = row.get("fit")
    return found | ({"renamed": renamed[row["token"]]} if row["token"] in renamed else {})


def _said(row: Mapping[str, Any]) -> str:
    new = row.get("renamed", {}).get("gloss", "")
    return " ".join([row["token"], *row["gloss"], new]).casefold()


def one(service: Service, run: str | None, token: str) -> dict[str, Any]:
    """A word: what it stands for, who has it, what lies near it, and whether an available item has it."""
    loaded = service.loaded(run)
    words, renamed = loaded.words, service.renamed[loaded.name].get()
    row = words.word(token)
    have, side = owners(loaded, token), _side(row["book"])
    unavailable, glosses = service.unavailable, words.phrases
    stocked = side == "user" or any(str(it["id"]) not in unavailable for it in have)
    return {
        **_row(row, renamed),
        "keywords": list(row["keywords"]),
        "nearest": [{"token": name, "gloss": glosses.get(name, [])} for name in row["nearest"]],
        "side": side,
        "owners": len(have),
        "typical": have[:_OWNERS],
        "borderline": have[-_OWNERS:][::-1] if len(have) > 2 * _OWNERS else [],
        "in_stock": stocked,
    }


def owners(loaded: Loaded, token: str) -> list[dict[str, Any]]:
    """Who has a word, the most typical first: those whose other words are most like those of its owners in the mean."""
    words = loaded.words
    row = words.word(token)
    side = _side(row["book"])
    codes_NS = words.codes[side]
    inside = np.array([book == row["book"] for book in words.slots(side)])
    have = np.flatnonzero((codes_NS[:, inside] == row["code"]).any(axis=1))
    values, titles = loaded.catalogue.ids(side).values, loaded.catalogue.titles
    order = have[np.argsort(-_typical(words, side, have), kind="stable")].tolist()
    return [{"id": values[it], **({"title": titles[it]} if side == "item" else {})} for it in order]


def _typical(words: Vocabulary, side: Side, have: NDArray[np.int64]) -> NDArray[np.float64]:
    """[n] cosine of each owner's words with their mean."""
    vectors_nW = words.codewords(side, words.codes[side][have]).reshape(len(have), -1).astype(np.float64)
    if not len(have):
        return np.empty(0)
    mean_W = vectors_nW.mean(0)
    scale = np.linalg.norm(vectors_nW, axis=1) * (np.linalg.norm(mean_W) or 1.0)
    return np.asarray(vectors_nW @ mean_W / np.maximum(scale, 1e-12))


def points(loaded: Loaded) -> list[dict[str, Any]]:
    """Each word in two dimensions: the two directions in which the words of its book differ most."""
    words = loaded.words
    usage = {(row["book"], row["code"]): row for row in words.words.to_dicts()}
    found = []
    for book, vectors_KM in words.codebooks.items():
        centred_KM = vectors_KM.astype(np.float64) - vectors_KM.mean(0)
        left, scale, _ = np.linalg.svd(centred_KM, full_matrices=False)
        at_K2 = (left * scale)[:, :2]
        at_K2 /= np.abs(at_K2).max() or 1.0
        for code, (x, y) in enumerate(at_K2.tolist()):
            row = usage[(book, code)]
            used = {"usage": row["usage"], "gloss": row["gloss"][:3]}
            found.append({"token": row["token"], "book": book, "x": x, "y": y, **used})
    return found
