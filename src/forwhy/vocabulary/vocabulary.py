"""The behaviour vocabulary: its codes, token names, codewords, glosses. No torch.

Legend: U users, I items, N entities of a side, n rows asked for, S slots, M codeword width, K codes, V text width.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Self, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.artifact import Artifact, Content, card, whole_numbers
from forwhy.columns import SIDES, Side
from forwhy.data.because import Because, Share, check_changes, of_words, shares_of
from forwhy.data.histories import Catalogue
from forwhy.errors import Unknown, UserError
from forwhy.graph.representations import Representations

BOOKS = ("user_macro", "user_micro", "item_macro", "item_micro")
Floats = NDArray[np.float32]
Books = Mapping[str, Floats]
SideCodes = Mapping[Side, NDArray[np.int32]]
Ints = NDArray[np.int64]
Row = NDArray[np.integer]


@cache
def token_name(book: str, code: int) -> str:
    """`<u.macro_17>` for code 17 of the book `user_macro`."""
    side, kind = book.split("_")
    return f"<{side[0]}.{kind}_{code}>"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Vocabulary(Representations):
    """Behaviour in words: the codes of each user and item, and what each code means (BEAT stage 1)."""

    kind = "vocabulary"

    codebooks: Books
    """book -> [K, M]; a book is absent when macro or micro words are off."""
    codes: SideCodes
    """side -> [N, S]: macro first, then micro."""
    words: pl.DataFrame
    """token, book, code, usage, gloss, keywords, nearest."""
    score_weights: Floats
    """[M] weight of each coordinate in q_u·q_i."""
    fold_in: Floats
    """[S·M + 1, S·M] from the mean of a history's item words (and 1) to a user's quantizer input."""
    encoder: str = "minilm"
    """The text encoder that it was learned with, by name and revision: what reads texts about newcomers."""
    heads: Books = field(default_factory=dict)
    """book -> [V, M] from codewords to the text encoder's space; absent when words lie in it already."""
    text_means: Mapping[Side, Floats] = field(default_factory=dict)
    """side -> [V] the mean text, which text-first words leave out; empty without such words."""
    text_points: Mapping[Side, NDArray[np.float16]] = field(default_factory=dict)
    """side -> [N, T] own texts as unit points of the space of text words; zeros of those without one."""
    rewritten: Mapping[str, str | None] = field(default_factory=dict)
    """User words that stand as another one, or as none (None); see `rewrite`. Not saved."""
    met: NDArray[np.int32] | None = None
    """[S] words of a newcomer, who stands for any history; see `meeting`. Not saved."""
    offered: int | None = None
    """The first of the items that nobody took and that have words; see `offering`. Not saved."""

    def _shown(self) -> Mapping[str, int | str]:
        return {**super()._shown(), "books": len(self.codebooks), "words": self.words.height}

    def slots(self, side: Side) -> list[str]:
        """The book of each slot."""
        return self._slots[side]

    @cached_property
    def _slots(self) -> Mapping[Side, list[str]]:
        return {side: slot_books(side, self.codebooks, own.shape[1]) for side, own in self.codes.items()}

    def token_names(self, side: Side, entity: int) -> list[str]:
        """The words of one entity, by internal number."""
        return self.names_of(side, self.codes[side][entity])

    def names_of(self, side: Side, codes: Sequence[int] | Row) -> list[str]:
        """The names of S codes, without those of words that were taken out."""
        return list(filter(None, self.slot_names(side, codes)))

    def slot_names(self, side: Side, codes: Sequence[int] | Row) -> list[str]:
        """The names of S codes; "" for a word that was taken out."""
        named = zip(self.slots(side), np.asarray(codes).tolist(), strict=True)
        return [token_name(book, code) if code >= 0 else "" for book, code in named]

    @cached_property
    def phrases(self) -> Mapping[str, list[str]]:
        """Token -> its `gloss`."""
        return dict(self.words.select("token", "gloss").iter_rows())

    def word(self, token: str) -> dict[str, Any]:
        """The row of `words` about a token.

        Raises:
            UserError: no such token.
        """
        rows = self.words.filter(pl.col("token") == token)
        if rows.is_empty():
            some = ", ".join(self.words["token"].head(2))
            raise Unknown(f"token {token[:60]!r}: not in this vocabulary; names look like {some}")
        return rows.row(0, named=True)

    def item_vectors(self, items: Sequence[int]) -> Floats:
        """[n, S·M] codewords of items, one after the other."""
        return self.codewords("item", self.codes["item"][list(items)]).reshape(len(items), -1)

    def codewords(self, side: Side, codes_nS: NDArray[np.integer]) -> Floats:
        """[n, S, M] of codes; zeros where a word was taken out (-1)."""
        parts = [self.codebooks[book][codes_nS[:, slot]] for slot, book in enumerate(self.slots(side))]
        return np.stack(parts, axis=1) * (codes_nS >= 0)[..., None]

    def representation(self, side: Side) -> Floats:
        """[N, W] the q of BEAT eq. 5 for everybody; the score of a pair is q_u·q_i."""
        return self._represent(side, self.codes[side])

    def products(self, people_BW: NDArray[np.floating]) -> NDArray[np.float64] | None:
        """[B, I] q_u·q_i: each word is met once and added where items have it; None where words do not just add up."""
        if self.config.get("representation") == "sum":
            return None
        people_BSM = people_BW.astype(np.float64).reshape(len(people_BW), len(self.slots("item")), -1)
        found_BI = np.zeros((len(people_BW), len(self.codes["item"])))
        for slot, book in enumerate(self.slots("item")):
            met_BK = people_BSM[:, slot] @ self._weighed[book].astype(np.float64).T
            found_BI += np.take(met_BK, self.codes["item"][:, slot], 1)
        return found_BI

    @cached_property
    def _weighed(self) -> Books:
        return {book: words_KM * np.sqrt(self.score_weights) for book, words_KM in self.codebooks.items()}

    def representation_for_history(self, items: Sequence[int]) -> Floats:
        """[W] the q of a warm user, from the words of their history."""
        return np.asarray(self._represent("user", self.codes_for_history(items)[None])[0])

    def _represent(self, side: Side, codes_nS: NDArray[np.integer]) -> Floats:
        """[n, W] the q of rows of codes."""
        weighted = self.codewords(side, codes_nS) * np.sqrt(self.score_weights)
        if self.config.get("representation") == "sum":
            weighted = weighted[:, 1:] + weighted[:, :1]
        return weighted.reshape(len(weighted), -1).astype(np.float32)

    def glosses(self, book: str) -> list[list[str]]:
        """Per code: the phrases that its owners share, most telling first; [] where nothing is known."""
        return self._listed(book, "gloss")

    def keywords(self, book: str) -> list[list[str]]:
        """Per code: single words most particular to it, best first."""
        return self._listed(book, "keywords")

    def _listed(self, book: str, column: str) -> list[list[str]]:
        return self.words.filter(pl.col("book") == book).sort("code")[column].to_list()

    def codes_for_history(self, items: Sequence[int]) -> NDArray[np.int32]:
        """[S] user words of somebody known only by a list of internal items (a warm user).

        The mean of the items' words, mapped by `fold_in`, each part to its nearest codeword.

        Raises:
            UserError: no item.
        """
        if self.met is not None:
            return np.asarray(self._rewrite(self.met[None])[0])
        if not len(items):
            raise UserError("history: empty; give at least one item id")
        features = np.append(self.item_vectors(items).mean(0), 1.0)
        wanted = (features @ self.fold_in).reshape(len(self.slots("user")), -1)
        return np.asarray(self._rewrite(self.nearest("user", wanted)[None])[0])

    def nearest(self, side: Side, wanted_SM: Floats) -> NDArray[np.int32]:
        """[S] the word nearest to what each slot should hold; of text-first slots the first holds the whole text."""
        levels = self.config.get("text_first", 0)
        codes: list[int] = []
        left_M = word_M = wanted_SM[0]
        for slot, book in enumerate(self.slots(side)):
            later = 0 < slot < levels  # it reads what the levels before leave of the text
            left_M = left_M - word_M if later else wanted_SM[slot]
            codes.append(int(((self.codebooks[book] - left_M) ** 2).sum(1).argmin()))
            word_M = self.codebooks[book][codes[-1]]
        return np.array(codes, np.int32)

    def user_codes(self, user: int | None, history: Sequence[int] = ()) -> NDArray[np.int32]:
        """[S] words of a user; without one, of somebody known by these items."""
        return self.codes_for_history(history) if user is None else np.asarray(self.codes["user"][user])

    def meeting(self, codes: NDArray[np.int32]) -> Self:
        """This vocabulary, to which any history, also an empty one, is that of a newcomer with these [S] words."""
        return replace(self, met=codes)

    def offering(self, title: str, codes: NDArray[np.int32], named: str | None = None) -> Self:
        """This vocabulary with an item more, the last one, which nobody took: its title, [S] words and id."""
        words = {**self.codes, "item": np.concatenate([self.codes["item"], codes[None]])}
        catalogue = self.catalogue.offering(title, named)
        offered = len(self.codes["item"]) if self.offered is None else self.offered
        return replace(self, catalogue=catalogue, codes=words, offered=offered)

    def knows_item(self, item: int) -> bool:
        """Also what is offered."""
        return (self.offered is not None and item >= self.offered) or super().knows_item(item)

    # --- why: a score as the sum of its pairs of words, and what it would be with other words

    def because(self, user: int | None, item: int, history: Sequence[int] = ()) -> Because:
        """The score by pairs of words; `items` are those of the history that have words of the item."""
        shares = self.shares(self.user_codes(user, history), self.codes["item"][item])
        codes_IS = self.codes["item"]
        taken = np.array([other for other in self.taken_by(user, history) if other != item], np.int64)
        alike = taken[(codes_IS[taken, :, None] == codes_IS[item]).any((1, 2))].tolist()
        return of_words(shares, self.catalogue, {other: self.token_names("item", other) for other in alike})

    def shares(self, user_codes: NDArray[np.integer], item_codes: NDArray[np.integer]) -> list[Share]:
        """What each pair of words adds to q_u·q_i, by slot: exactly, as q is made of their codewords.

        Under `representation = "sum"` a macro word also meets each micro word of the other side. Words that were taken
        out are left out.
        """
        names, vectors = [], []
        for side, codes in zip(SIDES, (user_codes, item_codes), strict=True):
            names.append(self.slot_names(side, codes))
            words = zip(self.slots(side), codes.tolist(), strict=True)
            vectors.append(np.stack([self._weighed[book][code] * (code >= 0) for book, code in words]))
        added_SS = vectors[0].astype(np.float64) @ vectors[1].T
        return shares_of(added_SS, names[0], names[1], self.config.get("representation") == "sum")

    def rewrite(self, people: Sequence[Row], without: Sequence[str], swap: Mapping[str, str] | None) -> Self:
        """This vocabulary with some user words taken out, and some standing as other words of their book.

        `people`: [S] codes of those who are asked about, each of whom has the words that change.

        Raises:
            UserError: no such word, not one of a person's, another book's, all of a person's, or one named twice.
        """
        changes: dict[str, str | None] = dict.fromkeys(without) | dict(swap or {})
        if len(changes) < len(without) + len(swap or {}):
            raise UserError("a word is taken out or swapped twice; name each once")
        for word in filter(None, (*changes, *changes.values())):
            self.word(word)
        for codes in people:
            check_changes(changes, self.names_of("user", codes))
        changed = replace(self, rewritten=changes)
        return replace(changed, codes={**self.codes, "user": changed._rewrite(self.codes["user"])})

    def _rewrite(self, codes_nS: NDArray[np.int32]) -> NDArray[np.int32]:
        """Rows of user codes with the changes of `rewritten`; -1: taken out."""
        if not self.rewritten:
            return codes_nS
        found = codes_nS.copy()
        for word, instead in self.rewritten.items():
            row = self.word(word)
            inside = np.array([book == row["book"] for book in self.slots("user")])
            found[inside & (codes_nS == row["code"])] = -1 if instead is None else self.word(instead)["code"]
        return found

    def fused_text(self, users: Ints, items: Ints) -> Floats:
        """[n, V] macro (or all text-first) words of both sides, added, in the text encoder's space (f_s of BEAT eq. 6).

        Raises:
            UserError: the vocabulary has no macro words.
        """
        if "user_macro" not in self.codebooks:
            raise UserError(
                "macro words are off in this vocabulary, so no text is tied to pairs; learn it with macro on"
            )
        levels = max(self.config.get("text_first", 0), 1)
        of_users = self._in_text("user", self.codes["user"][users, :levels])
        return _added([*of_users, *self._in_text("item", self.codes["item"][items, :levels])])

    def said(self, side: Side) -> Floats:
        """[N, V] the words of everybody on a side, added, in the text encoder's space: what they say in all."""
        return _added(self._in_text(side, self.codes[side]))

    def _in_text(self, side: Side, codes_nS: NDArray[np.int32]) -> list[Floats]:
        """By slot, of the first ones of a side, [n, V] the words in the text encoder's space."""
        named = zip(self.slots(side), codes_nS.T, strict=False)
        read = ((book, self.codebooks[book][own]) for book, own in named)
        return [words @ self.heads[book].T if book in self.heads else words for book, words in read]

    def text_point(self, side: Side, text_V: Floats) -> Floats:
        """[T] a text's vector as a unit point of the space of text words."""
        basis_VT = self.heads[f"{side}_macro"][:, self.config["slot_dim"] :] * self.config["text_weight"]
        point_T = (text_V / max(float(np.linalg.norm(text_V)), 1e-9) - self.text_means[side]) @ basis_VT
        return np.asarray(point_T / max(float(np.linalg.norm(point_T)), 1e-9))

    def health(self) -> dict[str, dict[str, float]]:
        """Book -> perplexity of code use (exp of its entropy) and how many codes are used."""
        return {
            book: {"perplexity": perplexity(own, len(self.codebooks[book])), "used": len(np.unique(own))}
            for book, own in by_book(self.codes, self.codebooks).items()
        }

    def content(self) -> Content:
        """Codes, codewords and heads as tensors; words, ids and titles as tables."""
        text = (
            f"{len(self.catalogue.users):,} users and {len(self.catalogue.items):,} items written in discrete words "
            "(BEAT stage 1). Load with `forwhy.Vocabulary.from_pretrained(folder)`."
        )
        tensors: dict[str, NDArray[Any]] = {"score_weights": self.score_weights, "fold_in": self.fold_in}
        tensors |= {"seen": self.seen} | {f"codebook.{book}": it for book, it in self.codebooks.items()}
        tensors |= {f"codes.{side}": self.codes[side] for side in SIDES}
        tensors |= {f"head.{book}": head for book, head in self.heads.items()}
        tensors |= {f"text_mean.{side}": mean for side, mean in self.text_means.items()}
        tensors |= {f"text_points.{side}": points for side, points in self.text_points.items()}
        return Content(
            {"options": self.config, "metrics": self.metrics, "encoder": self.encoder},
            tensors | self.catalogue.tensors(),
            {"words": self.words, **self.catalogue.tables()},
            card("Behaviour vocabulary", text, self.health(), "explainable", "behaviour-tokens"),
        )

    @classmethod
    def restore(cls, stored: Artifact, **_: object) -> Self:
        """Back from a folder."""
        tensors, catalogue = stored.tensors, Catalogue.read(stored)
        books = dict(sorted(stored.group("codebook.").items(), key=lambda it: _place(it[0])))
        _refuse_unfit(stored.tables["words"], books)
        counts = {side: len(catalogue.ids(side)) for side in SIDES}
        if not isinstance(stored.config["options"], dict) or any(
            own.shape[1:] != tensors["score_weights"].shape for own in books.values()
        ):
            raise ValueError("its settings, books and weights are of other sizes")
        return cls(
            catalogue=catalogue,
            seen=whole_numbers(tensors["seen"], (-1, 2), [*counts.values()]),
            config=stored.config["options"],
            metrics=stored.config["metrics"],
            encoder=stored.config.get("encoder", "minilm"),  # older folders do not say
            codebooks=books,
            codes={
                side: _read_codes(side, count, tensors[f"codes.{side}"], books)
                for side, count in counts.items()
            },
            words=stored.tables["words"],
            score_weights=tensors["score_weights"],
            fold_in=tensors["fold_in"],
            heads=stored.group("head."),
            text_means=cast("Mapping[Side, Floats]", stored.group("text_mean.")),
            text_points=cast("Mapping[Side, NDArray[np.float16]]", stored.group("text_points.")),
        )


_TOLD = {"book": pl.String, "gloss": pl.List(pl.String), "nearest": pl.List(pl.String)}
_LATER = {"keywords": pl.List(pl.String), "fit": pl.Float64}
"""Columns that older folders lack."""


def _read_codes(side: Side, count: int, codes: Row, books: Books) -> NDArray[np.int32]:
    """The [N, S] codes of a side as a folder has them; refused are those that no book holds."""
    sizes = [len(books[book]) for book in slot_books(side, books, codes.shape[1])]
    return whole_numbers(codes, (count, max(1, len(sizes))), sizes).astype(np.int32, copy=False)


def _refuse_unfit(words: pl.DataFrame, books: Books) -> None:
    """A ValueError unless every code of every book has its word, and columns are of the kinds that we write."""
    names = {token_name(book, code) for book, own in books.items() for code in range(len(own))}
    if names != {*words["token"]}:
        raise ValueError("its words are not those of its books")
    fits = all(words.schema[name].is_integer() for name in ("usage", "code"))
    fits &= all(words.schema.get(name, kind) == kind for name, kind in _LATER.items())
    if not fits or any(words.schema[it] != kind or words[it].has_nulls() for it, kind in _TOLD.items()):
        raise ValueError("columns of its words are of other kinds, or have gaps")


def _added(parts: Sequence[Floats]) -> Floats:
    return np.asarray(sum(parts[1:], parts[0]))


def by_book(codes: SideCodes, books: Collection[str]) -> dict[str, NDArray[np.int32]]:
    """Book -> [N, its slots] codes, from side -> [N, S] codes, macro first, and the names of all books."""
    found = {}
    for book in books:
        own = codes[cast("Side", book.split("_")[0])]
        read = slot_books(book.split("_")[0], books, own.shape[1])
        found[book] = own[:, [name == book for name in read]]
    return found


def slot_books(side: str, books: Collection[str], slots: int) -> list[str]:
    """The book of each slot of a side: macro, the other text-first levels, then micro."""
    own = sorted((book for book in books if book.startswith(side)), key=_place)
    return own[:-1] + own[-1:] * (slots - len(own) + 1)


def _place(book: str) -> tuple[bool, bool, str]:
    """Sorts books by side, micro last."""
    return book.startswith("item"), book.endswith("micro"), book


def perplexity(codes: NDArray[np.integer], size: int) -> float:
    """The exponential of the entropy of code use; `size` when all are used alike, 1 when one is."""
    shares = np.bincount(codes.ravel(), minlength=size) / max(codes.size, 1)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))
