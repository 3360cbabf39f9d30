"""The behaviour vocabulary: codes, token names, codewords, glosses. No torch.

Legend: U users, I items, N entities of a side, n rows asked for, S slots, M codeword width, K codes, V text width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import forwhy.artifact as artifact
from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.graph.known import Known, id_tables, read_ids

__all__ = ["BOOKS", "Vocabulary", "perplexity", "token_name"]

BOOKS = ("user_macro", "user_micro", "item_macro", "item_micro")
SIDES = ("user", "item")
KIND = "vocabulary"
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def token_name(book: str, code: int) -> str:
    """`<u.macro_17>` for code 17 of the book `user_macro`."""
    side, kind = book.split("_")
    return f"<{side[0]}.{kind}_{code}>"


@dataclass(frozen=True, eq=False)
class Vocabulary(Known):
    """What stage 1 learnt: who says which words, and what the words mean."""

    codebooks: Mapping[str, Floats]
    """book -> [K, M]; a book is absent when macro or micro words are off."""
    codes: Mapping[str, NDArray[np.int32]]
    """side -> [N, S]: macro first, then micro."""
    words: pl.DataFrame
    """token, book, code, usage, gloss, keywords, nearest."""
    users: Ids
    items: Ids
    titles: Sequence[str]
    """By internal item; "" when unknown."""
    seen: Ints
    """[E, 2] edges of the graph it was learnt on, internal."""
    taken: Ints
    """[T, 2] all training interactions, also those cut out of the graph: never recommended as new."""
    score_weights: Floats
    """[M] weight of each coordinate in q_u·q_i."""
    fold_in: Floats
    """[S·M + 1, S·M] from the mean of a history's item words (and 1) to a user's quantizer input."""
    heads: Mapping[str, Floats] = field(default_factory=dict)
    """book -> [V, M] from codewords to the text encoder's space; absent when words lie in it already."""
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def slots(self, side: str) -> list[str]:
        """The book of each slot."""
        books = [f"{side}_macro"] if f"{side}_macro" in self.codebooks else []
        micro = self.codes[side].shape[1] - len(books)
        return books + [f"{side}_micro"] * micro

    def token_names(self, side: str, entity: int) -> list[str]:
        """The words of one entity, by internal number."""
        return self.names_of(side, self.codes[side][entity])

    def names_of(self, side: str, codes: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The names of S codes."""
        return [token_name(book, int(code)) for book, code in zip(self.slots(side), codes, strict=True)]

    def word(self, token: str) -> dict[str, Any]:
        """The row of `words` about a token.

        Raises:
            UserError: no such token.
        """
        rows = self.words.filter(pl.col("token") == token)
        if rows.is_empty():
            some = ", ".join(self.words["token"].head(2))
            raise UserError(f"token {token[:60]!r}: not in this vocabulary; names look like {some}")
        return rows.row(0, named=True)

    def vectors(self, side: str, entities: Sequence[int] | NDArray[np.integer]) -> Floats:
        """[n, S, M] codewords of entities."""
        return self.vectors_of(side, self.codes[side][np.asarray(entities, np.int64)])

    def vectors_of(self, side: str, codes_nS: NDArray[np.integer]) -> Floats:
        """[n, S, M] codewords of codes [n, S]."""
        parts = [self.codebooks[book][codes_nS[:, slot]] for slot, book in enumerate(self.slots(side))]
        return np.stack(parts, axis=1)

    def representation(self, side: str) -> Floats:
        """The q of BEAT eq. 5 for everybody, [N, width]; the score of a pair is q_u·q_i."""
        return self.represent(side, self.codes[side])

    def represent(self, side: str, codes_nS: NDArray[np.integer]) -> Floats:
        """The q of rows of codes [n, S]."""
        weighted = self.vectors_of(side, codes_nS) * np.sqrt(self.score_weights)
        if self.config.get("representation") == "sum":
            weighted = weighted[:, 1:] + weighted[:, :1]
        return weighted.reshape(len(weighted), -1).astype(np.float32)

    def glosses(self, book: str) -> list[list[str]]:
        """Per code: the phrases that its owners share, most telling first; [] where nothing is known."""
        return [list(gloss) for gloss in self._book_rows(book)["gloss"]]

    def keywords(self, book: str) -> list[list[str]]:
        """Per code: single words most particular to it, best first."""
        return [list(words) for words in self._book_rows(book)["keywords"]]

    def _book_rows(self, book: str) -> pl.DataFrame:
        return self.words.filter(pl.col("book") == book).sort("code")

    def codes_for_history(self, items: Sequence[int]) -> NDArray[np.int32]:
        """[S] user words for someone known only by a list of internal items (a warm user)."""
        if not len(items):
            raise UserError("history: empty; give at least one item id")
        features = np.append(self.vectors("item", items).reshape(len(items), -1).mean(0), 1.0)
        wanted = (features @ self.fold_in).reshape(len(self.slots("user")), -1)
        codes = [
            _nearest(vector, self.codebooks[book])
            for vector, book in zip(wanted, self.slots("user"), strict=True)
        ]
        return np.array(codes, np.int32)

    def representation_for_history(self, items: Sequence[int]) -> Floats:
        """[width] the q of a warm user."""
        row: Floats = self.represent("user", self.codes_for_history(items)[None])[0]
        return row

    def fused_text(self, users: Ints, items: Ints) -> Floats:
        """[n, V] macro words of both sides, added, in the text encoder's space (f_s of BEAT eq. 6).

        Raises:
            UserError: the vocabulary has no macro words.
        """
        if "user_macro" not in self.codebooks:
            raise UserError(
                "macro words are off in this vocabulary, so no text is tied to pairs; learn it with macro on"
            )
        return self._macro_text("user", users) + self._macro_text("item", items)

    def _macro_text(self, side: str, entities: Ints) -> Floats:
        words = self.vectors(side, entities)[:, 0]
        head = self.heads.get(f"{side}_macro")
        return words if head is None else words @ head.T

    def health(self) -> dict[str, dict[str, float]]:
        """Book -> perplexity of code use (exp of its entropy) and how many codes are used."""
        report: dict[str, dict[str, float]] = {}
        for book, words in self.codebooks.items():
            side = book.split("_")[0]
            own = self.codes[side][:, [name == book for name in self.slots(side)]]
            report[book] = {"perplexity": perplexity(own, len(words)), "used": len(np.unique(own))}
        return report

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic."""
        tensors: dict[str, NDArray[Any]] = {"score_weights": self.score_weights, "fold_in": self.fold_in}
        tensors |= {f"codebook.{book}": np.ascontiguousarray(words) for book, words in self.codebooks.items()}
        tensors |= {f"codes.{side}": np.ascontiguousarray(self.codes[side]) for side in SIDES}
        tensors |= {f"head.{book}": np.ascontiguousarray(head) for book, head in self.heads.items()}
        tensors |= {"seen": np.ascontiguousarray(self.seen), "taken": np.ascontiguousarray(self.taken)}
        tables = {"words": self.words, **id_tables(self.users, self.items, self.titles)}
        config = {"tokenizer": dict(self.config), "metrics": dict(self.metrics)}
        artifact.save(Path(folder), KIND, config, tensors, tables, _card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "Vocabulary":
        """Read a folder that `save_pretrained` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of another kind, named with the reason.
        """
        stored = artifact.load(Path(folder), KIND)
        tensors = {name: value for name, value in stored.tensors.items()}

        def group(prefix: str) -> dict[str, NDArray[Any]]:
            return {
                name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
            }

        books = group("codebook.")
        users, items, titles = read_ids(stored.tables)
        return cls(
            codebooks={book: books[book] for book in BOOKS if book in books},
            codes=group("codes."),
            words=stored.tables["words"],
            users=users,
            items=items,
            titles=titles,
            seen=tensors["seen"],
            taken=tensors["taken"],
            score_weights=tensors["score_weights"],
            fold_in=tensors["fold_in"],
            heads=group("head."),
            config=stored.config["tokenizer"],
            metrics=stored.config["metrics"],
        )


def perplexity(codes: NDArray[np.integer], size: int) -> float:
    """The exponential of the entropy of code use; `size` when all are used alike, 1 when one is."""
    shares = np.bincount(codes.ravel(), minlength=size) / max(codes.size, 1)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _nearest(vector: NDArray[np.floating], codebook: Floats) -> int:
    return int(((codebook - vector) ** 2).sum(1).argmin())


def _card(vocabulary: Vocabulary) -> str:
    rows = "\n".join(
        f"| {book} | {len(vocabulary.codebooks[book])} | {state['used']} | {state['perplexity']:.0f} |"
        for book, state in vocabulary.health().items()
    )
    return (
        "---\nlibrary_name: forwhy\ntags: [recommendation, explainable, behaviour-tokens]\n---\n"
        "# Behaviour vocabulary\n\n"
        f"{len(vocabulary.users):,} users and {len(vocabulary.items):,} items written in discrete words "
        "(BEAT stage 1). Load with `forwhy.Vocabulary.from_pretrained(folder)`.\n\n"
        f"| book | words | used | perplexity |\n|---|---|---|---|\n{rows}\n"
    )
