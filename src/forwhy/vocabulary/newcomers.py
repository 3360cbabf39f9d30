"""Words of people and items that come later: from a history, from a text, or from both, and from whom each came.

As in BEAT's Fig. 4: semantic neighbours, of similar text, say first which graph words fit; then collaborative ones, of
similar graph words, refine them. Text words are those of the text itself. No torch.

Legend: N entities of a side, n neighbours, S slots, M codeword width, V encoder width, T text coordinates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import Side
from forwhy.errors import UserError
from forwhy.text.encoder import TextEncoder
from forwhy.text.statements import likes_and_dislikes
from forwhy.vocabulary.vocabulary import Floats, Row, Vocabulary

SEMANTIC, COLLABORATIVE = 50, 20
"""Neighbours that are asked (docs/log.md)."""
SHARPNESS = 10.0
"""A neighbour's weight is exp(SHARPNESS · cosine), over the sum of all."""
REFINED = 0.25
"""What collaborative neighbours say of a graph word, against the semantic ones."""
TEXT_COUNTS = 3.0
"""A text about somebody weighs as many items of their history."""
_AWAY = 0.5
"""How far a person's text is moved away from what they dislike."""
TITLE = 120
"""Characters of the title of an item that is known by its text."""

Kind = Literal["text", "history", "semantic", "collaborative"]


@dataclass(frozen=True)
class Origin:
    """Where a word came from."""

    kind: Kind
    """`text`: the text that was given. Otherwise somebody: `history`, an item that was taken; `semantic`, near by text;
    `collaborative`, near by graph words."""
    side: Side
    id: str | int | None
    """External id; None for the text."""
    weight: float
    """Share of the word, above 0; those of a word add to one."""


@dataclass(frozen=True)
class Newcomer:
    """The words of somebody or something that was not there in training."""

    codes: NDArray[np.int32]
    """[S], and their names."""
    tokens: list[str]
    origins: list[list[Origin]]
    """By slot: from whom the word came, the most important first."""
    text: str = ""
    """What the text says that they were made of: about somebody whole, of an item what stands below its title."""
    title: str = ""
    """Of an item: the first line of its text."""


class _Voices(NamedTuple):
    """What some neighbours add to what the slots should hold."""

    kind: Kind
    side: Side
    numbers: Sequence[int | None]
    added_nSM: Floats


def somebody(
    vocabulary: Vocabulary, encoder: TextEncoder, about: str, history: Sequence[int] = ()
) -> Newcomer:
    """Words of a person by a text about themselves, alone or beside internal items; what they dislike makes no words.

    Raises:
        UserError: A text that is blank or only says what they dislike; a vocabulary without text-first words.
    """
    if not about.strip():
        raise UserError("the text about the person is blank: say what they like or dislike")
    _check_reads_texts(vocabulary)
    likes, dislikes = likes_and_dislikes(about)
    if dislikes and not likes:
        raise UserError("the text about the person only says what they dislike: say what they like, too")
    text_V, *away = encoder.encode([", ".join(likes) if dislikes else about, *dislikes])
    text_V = text_V - _AWAY * np.sum(away, axis=0) / max(1, len(away))
    return replace(assemble(vocabulary, "user", history=history, text=text_V), text=about)


def something(vocabulary: Vocabulary, encoder: TextEncoder, text: str) -> Newcomer:
    """Words of an item that nobody took, by its text, whose first line is its title.

    Raises:
        UserError: A blank text; a vocabulary without text-first words.
    """
    if not text.strip():
        raise UserError("the text about the item is blank: say what it is")
    _check_reads_texts(vocabulary)
    title, _, rest = text.strip().removeprefix("Title:").strip().partition("\n")
    (text_V,) = encoder.encode([text])
    return replace(assemble(vocabulary, "item", text=text_V), text=rest, title=title.strip()[:TITLE])


def _check_reads_texts(vocabulary: Vocabulary) -> None:
    if not vocabulary.text_means:
        raise UserError(
            "this vocabulary has no text-first words, so it reads no text about people or items: give ids, or learn it "
            "with vocabulary.text_first = 3"
        )


def assemble(
    vocabulary: Vocabulary, side: Side, *, history: Sequence[int] = (), text: Floats | None = None
) -> Newcomer:
    """Words of a person by the items of their history, by a text about themselves or by both; of an item by its text.

    From a history alone they are those of `Vocabulary.codes_for_history`. `text`: its vector [V], by the encoder of the
    vocabulary, which must have text-first words. O(N·(T + S·M)).

    Raises:
        UserError: Neither a history nor a text; a history of an item; no text-first words, or no text to compare with.
    """
    if side == "item" and len(history):
        raise UserError("an item has no history; give the text of the item")
    if text is not None:
        _check_reads_texts(vocabulary)
        text = text if np.abs(text).sum() > 0 else None  # a blank text has a vector of zeros
    if text is None and not len(history):
        raise UserError(f"nothing is known of the new {side}: give a text or, of a person, a history")
    share, voices = 0.0 if text is None else TEXT_COUNTS / (TEXT_COUNTS + len(history)), []
    if len(history):
        added_nSM = _folded(vocabulary, history) * ((1 - share) / len(history))
        voices.append(_Voices("history", "item", list(history), added_nSM))
    if text is not None:
        voices += _told(vocabulary, side, text, share)
        if not len(history):  # a history is collaborative itself
            voices = list(_refined(vocabulary, side, voices))
    wanted_SM = np.sum([part.added_nSM.sum(0) for part in voices], axis=0)
    codes = vocabulary.nearest(side, wanted_SM)
    return Newcomer(codes, vocabulary.names_of(side, codes), _origins(vocabulary, side, codes, voices))


def _folded(vocabulary: Vocabulary, items: Sequence[int]) -> Floats:
    """[n, S, M] what each item says of who takes it."""
    features = vocabulary.item_vectors(items) @ vocabulary.fold_in[:-1] + vocabulary.fold_in[-1]
    return np.asarray(features.reshape(len(items), len(vocabulary.slots("user")), -1))


def _told(vocabulary: Vocabulary, side: Side, text_V: Floats, share: float) -> Iterator[_Voices]:
    """What the text says of text words, and what those with the nearest texts say of graph words."""
    levels, known = vocabulary.config["text_first"], side
    if side == "user" and not vocabulary.text_points["user"].any():
        known = "item"  # no user has a text of their own
    points_NT = np.asarray(vocabulary.text_points[known], np.float32)
    if not points_NT.any():
        raise UserError("no item has a text of its own, so none is near; give a history")
    own = np.zeros((1, len(vocabulary.slots(side)), vocabulary.codebooks[f"{side}_macro"].shape[1]))
    own[0, 0, vocabulary.config["slot_dim"] :] = vocabulary.text_point(side, text_V)
    yield _Voices("text", side, [None], own * (share * vocabulary.config["text_weight"]))
    numbers, weights = _nearest(points_NT, vocabulary.text_point(known, text_V), SEMANTIC)
    if known == side:
        said_nSM = _levelled(vocabulary.codewords(side, vocabulary.codes[side][numbers]), weights)
    else:
        taken_N = np.bincount(vocabulary.seen[:, 1], minlength=len(points_NT))
        weights = weights * np.maximum(taken_N[numbers], 1)  # what many take is likelier to be in a history
        said_nSM = _folded(vocabulary, numbers.tolist()) * (weights / weights.sum())[:, None, None]
    said_nSM[:, :levels] = 0
    yield _Voices("semantic", known, numbers.tolist(), said_nSM * share)


def _refined(vocabulary: Vocabulary, side: Side, voices: Sequence[_Voices]) -> Iterator[_Voices]:
    """Graph words after those on the same side have been asked whose graph words are most alike."""
    levels = vocabulary.config["text_first"]
    first = vocabulary.nearest(side, np.sum([part.added_nSM.sum(0) for part in voices], axis=0))
    weighted = vocabulary.codewords(side, first[None])[0, levels:] * np.sqrt(vocabulary.score_weights)
    numbers, weights = _nearest(_graph_points(vocabulary, side), weighted.ravel(), COLLABORATIVE)
    for part in voices:
        part.added_nSM[:, levels:] *= 1 - REFINED
        yield part
    said_nSM = _levelled(vocabulary.codewords(side, vocabulary.codes[side][numbers]), weights)
    said_nSM[:, :levels] = 0
    yield _Voices("collaborative", side, numbers.tolist(), said_nSM * REFINED)


@lru_cache(maxsize=2)
def _graph_points(vocabulary: Vocabulary, side: Side) -> Floats:
    """[N, graph slots · M] of everybody."""
    whole, slots = vocabulary.representation(side), len(vocabulary.slots(side))
    return np.ascontiguousarray(whole[:, whole.shape[1] // slots * vocabulary.config["text_first"] :])


def _nearest(points_NW: Floats, point_W: Floats, count: int) -> tuple[NDArray[np.int64], Floats]:
    """The rows of largest cosine, the nearest first, and their weights, which add to one; rows of zeros are nobody."""
    sizes = np.linalg.norm(points_NW, axis=1)
    cosines = points_NW @ point_W / np.maximum(sizes * np.linalg.norm(point_W), 1e-9)
    cosines[sizes < 1e-9] = -np.inf
    best = np.argsort(-cosines, kind="stable")[: min(count, int((sizes >= 1e-9).sum()))]
    weights = np.exp(SHARPNESS * (cosines[best] - cosines[best].max()))
    return best, np.asarray(weights / weights.sum(), np.float32)


def _levelled(words_nSM: Floats, weights_n: Floats) -> Floats:
    """Weighted, at the mean size of the words: a mean of different directions is short, as if it were unpopular."""
    added_nSM = words_nSM * weights_n[:, None, None]
    sizes_S = (np.linalg.norm(words_nSM, axis=2) * weights_n[:, None]).sum(0)
    scale_S = sizes_S / np.maximum(np.linalg.norm(added_nSM.sum(0), axis=1), 1e-9)
    return np.asarray(added_nSM * scale_S[:, None])


def _origins(vocabulary: Vocabulary, side: Side, codes: Row, voices: Sequence[_Voices]) -> list[list[Origin]]:
    """By slot: everybody who pulled towards the word, by how much."""
    levels, ids, found = vocabulary.config.get("text_first", 0), vocabulary.catalogue.ids, []
    for slot, word_M in enumerate(vocabulary.codewords(side, codes[None])[0]):
        read = 0 if slot < levels else slot
        pulls = [
            Origin(part.kind, part.side, None if number is None else ids(part.side).values[number], pull)
            for part in voices
            for number, pull in zip(part.numbers, (part.added_nSM[:, read] @ word_M).tolist(), strict=True)
            if pull > 0
        ]
        whole = sum(origin.weight for origin in pulls)
        pulls = [replace(origin, weight=origin.weight / whole) for origin in pulls]
        found.append(sorted(pulls, key=lambda origin: -origin.weight))
    return found
