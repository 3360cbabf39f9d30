"""Item indices: a few codes per item that name it, and only it; their options, and LC-Rec's files. No torch.

A file `X.index.json` is `{item: ["<a_183>", "<b_7>", …]}`. Items may share an index there: one more token parts them.

Source: RUCAIBox/LC-Rec and HonghuiBao2000/LETTER (the format); TIGER section 3.1 (one more token parts collisions).
Legend: N items, L levels.
"""

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator

from forwhy.artifact import Artifact, Content, Saved, card
from forwhy.atomic import atomic_file, refuse_other
from forwhy.data.dataset import Ids
from forwhy.documents import read_json
from forwhy.errors import UserError
from forwhy.options import Options

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_CODES = 65_536
"""Codes of a level that a file may have even if there are fewer items: a model has a token for each."""
Codes = NDArray[np.int32]
Ints = NDArray[np.int64]
log = logging.getLogger(__name__)


class IndexConfig(Options):
    """How items get their indices. The defaults are the paper's: 256 codes a level, semantic, then behaviour."""

    source: Literal["unit", "semantic", "behaviour", "random", "file"] = "unit"
    """What codes are made from. `unit`: semantic and behaviour codes one after the other (LLM-BS eq. 4, "DKI").
    `file`: a published `.index.json`."""
    method: Literal["kmeans", "rqvae", "uniform", "letter", "spectral", "product"] = "kmeans"
    """`kmeans`: balanced hierarchical k-means, unique by construction. `rqvae`: a residual-quantised autoencoder as
    in TIGER. `uniform`: it with LC-Rec's mapping of the last level, by which items hardly collide. `letter`: it drawn
    to behaviour vectors, its codewords spread (LETTER); of semantic vectors. `spectral`: recursive spectral clustering
    of items that are taken together (P5-CID); of behaviour, without vectors. `product`: long codes, each of a part of
    the vectors, for heads that are read side by side (RPG). Items whose codes collide get one more level."""
    width: int | Literal["auto"] = 256
    """Codes per level. `auto`: the least that `depth` levels need, so that every level is used evenly. With an
    autoencoder and `product` `auto` is 256."""
    depth: int | Literal["auto"] = "auto"
    """Levels of each source. `auto`: the least that can tell all items apart (with width `auto`: of 256 codes); as
    published 3 with `rqvae`, 4 with `uniform` and `letter`; 16 with `product`."""
    order: Literal["semantic_first", "behaviour_first", "interleave"] = "semantic_first"
    """Of the two sources' levels in `unit`."""
    leaf_order: Literal["pca", "distance", "random"] = "pca"
    """How the items of a last cluster are numbered: along its first principal axis, by distance from its centre, or
    at random (the released code's arbitrary serial number)."""
    iterations: PositiveInt = 16
    """Of k-means, per cluster that is split."""
    epochs: PositiveInt = 200
    """Of an autoencoder."""
    seed: NonNegativeInt = 0
    """Of every random choice."""
    file: Path | None = None
    """The `.index.json` of `source = "file"`."""
    collisions: Literal["extend", "report"] = "extend"
    """Items of one index in a file: `extend` tells them apart by one more level, `report` refuses the file."""

    @property
    def reads(self) -> tuple[Literal["semantic", "behaviour"], ...]:
        """Which vectors the codes are made from."""
        if self.source == "unit" or self.method == "letter":
            return ("semantic", "behaviour")
        if self.method == "spectral":
            return ()
        return (self.source,) if self.source in ("semantic", "behaviour") else ()

    @model_validator(mode="after")
    def _check(self) -> "IndexConfig":
        if (self.source == "file") != (self.file is not None):
            raise ValueError('source = "file" and the option file go together; give both or neither')
        for name, value, least in (("width", self.width, 2), ("depth", self.depth, 1)):
            if value != "auto" and value < least:
                raise ValueError(f'{name} = {value}: give "auto" or at least {least}')
        if self.method in ("rqvae", "uniform", "product") and self.source in ("random", "file"):
            raise ValueError(
                f'method = "{self.method}" learns from vectors; source = "{self.source}" has none'
            )
        needed = {"letter": "semantic", "spectral": "behaviour"}.get(self.method, self.source)
        if self.source != needed:
            raise ValueError(f'method = "{self.method}" is of source = "{needed}", not "{self.source}"')
        return self


def index_token(level: int, code: int) -> str:
    """`<b_17>` for code 17 of the second level."""
    return f"<{LETTERS[level]}_{code}>"


@dataclass(frozen=True, eq=False, repr=False)
class ItemIndex(Saved):
    """Codes of all items; every row once. Checked when made.

    Raises:
        UserError: two items with one index, more than 52 levels, codes beyond their level's size, or other items.
    """

    kind = "indices"

    codes: Codes
    """[N, L]"""
    sizes: tuple[int, ...]
    """Codes of each level; tokens exist for all of them, used or not."""
    sources: tuple[str, ...]
    """What each level was made from: semantic, behaviour, random, file, or `extra` for the level that parts
    collisions."""
    items: Ids
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The health report of the day it was made (`build.health`), and what was repaired."""

    def __post_init__(self) -> None:
        _check_shape(self)
        _check_codes(self)

    def __len__(self) -> int:
        """How many items."""
        return len(self.codes)

    @property
    def levels(self) -> int:
        """L: tokens per item."""
        return int(self.codes.shape[1])

    @cached_property
    def offsets(self) -> Ints:
        """[L + 1] where each level's tokens start in `tokens`; last, how many there are."""
        return np.cumsum((0, *self.sizes))

    @cached_property
    def tokens(self) -> list[str]:
        """Every token, level by level: `<a_0>`, `<a_1>`, …; these are what a language model has to learn."""
        return [index_token(level, code) for level, size in enumerate(self.sizes) for code in range(size)]

    @property
    def token_rows(self) -> Ints:
        """[N, L] each item's tokens as places in `tokens`."""
        return self.codes + self.offsets[:-1]

    def names(self, item: int) -> list[str]:
        """The tokens of one item, by internal number."""
        return [index_token(level, int(code)) for level, code in enumerate(self.codes[item])]

    def text(self, item: int) -> str:
        """The tokens of one item as one string, `<a_12><b_7>`."""
        return "".join(self.names(item))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of items, codes and sizes: a model says with it which index it was trained on."""
        digest = hashlib.sha256(repr((self.sizes, self.codes.shape)).encode())
        digest.update(np.ascontiguousarray(self.codes, "<i4").tobytes())
        digest.update("\0".join(map(str, self.items.values)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def content(self) -> Content:
        """Codes as a tensor, items as a table."""
        config = {
            "index": self.config, "sizes": self.sizes, "sources": self.sources,
            "fingerprint": self.fingerprint, "metrics": self.metrics,
        }  # fmt: skip
        items = pl.DataFrame({"item_id": list(self.items.values)})
        said = f"{len(self):,} items, {self.levels} tokens each, no two alike."
        text = f"{said} Load with `forwhy.ItemIndex.from_pretrained(folder)`."
        named = zip(LETTERS, self.metrics.get("levels", ()), strict=False)
        levels = [{"level": letter, **entry} for letter, entry in named]
        front = card("Item indices", text, levels, "generative-retrieval", "item-indices")
        return Content(config, {"codes": self.codes}, {"items": items}, front)

    @classmethod
    def restore(cls, stored: Artifact, **_: object) -> Self:
        """Back from a folder."""
        config, items = stored.config, Ids(tuple(stored.tables["items"]["item_id"]), "item")
        sizes, sources = tuple(config["sizes"]), tuple(config["sources"])
        return cls(stored.tensors["codes"], sizes, sources, items, config["index"], dict(config["metrics"]))


def _check_shape(index: ItemIndex) -> None:
    shape = index.codes.shape
    if len(shape) != 2 or not all(shape):
        raise UserError(f"index: codes of shape {shape}; give one row of at least one code per item")
    rows, levels, items = *shape, len(index.items)
    if levels > (most := len(LETTERS)):
        raise UserError(f"index: {levels} levels, but tokens have letters for {most}; use a larger width")
    if items != rows:
        raise UserError(f"index: {rows:,} rows of codes for {items:,} items; give one row per item")
    if not len(index.sizes) == len(index.sources) == levels:
        raise UserError(f"index: {levels} levels; give as many sizes ({len(index.sizes)}) and sources")


def _check_codes(index: ItemIndex) -> None:
    if index.codes.dtype.kind not in "iu":
        raise UserError(f"index: codes are {index.codes.dtype}, not whole numbers; make the index again")
    beyond = (index.codes < 0) | (index.codes >= np.asarray(index.sizes))
    if beyond.any():
        item, level = np.argwhere(beyond)[0]
        raise UserError(
            f"index: item {index.items.values[item]!r}, level {level + 1}: code {index.codes[item, level]} is not in "
            f"0 … {index.sizes[level] - 1}; make the index again"
        )
    order = np.lexsort(index.codes.T[::-1])
    same = np.flatnonzero((np.diff(index.codes[order], axis=0) == 0).all(1))
    if len(same):
        first, second = (index.items.values[order[same[0] + step]] for step in (0, 1))
        raise UserError(
            f"index: items {first!r} and {second!r} share {index.text(int(order[same[0]]))} ({len(same):,} such "
            "rows); part them with `unique_index`"
        )


def unique_index(
    items: Ids,
    codes_NL: Codes,
    sizes: Sequence[int],
    sources: Sequence[str],
    name: str,
    resolve: Literal["report", "extend"] = "extend",
) -> ItemIndex:
    """The index of these codes. O(N log N).

    Where items share codes, `report` refuses them, and `extend` adds a level and logs it under `name`: 0 for an item
    alone on its codes, else its place among the sharers. Every item gets it, as decoding runs a fixed number of steps.

    Raises:
        UserError: collisions with `report`; counts and examples are named.
    """
    _, group_N, sizes_G = np.unique(codes_NL, axis=0, return_inverse=True, return_counts=True)
    group_N, shared = group_N.ravel(), np.flatnonzero(sizes_G > 1)
    if not len(shared):
        return ItemIndex(codes_NL, tuple(sizes), tuple(sources), items)
    count, largest = int(sizes_G[shared].sum()), int(sizes_G.max())
    shown = ["=".join(str(items.values[n]) for n in np.flatnonzero(group_N == g)[:4]) for g in shared[:3]]
    line = (
        f"{name}: {count:,} of {len(items):,} items share {len(shared):,} indices (at most {largest} on one), "
        f"e.g. {', '.join(shown)}"
    )
    if resolve == "report":
        raise UserError(f'{line}; read it with collisions = "extend", which adds a token to part them')
    log.warning("%s; one more token parts them", line)
    places = pl.DataFrame({"group": group_N}).select(pl.int_range(pl.len()).over("group"))
    parted_NL = np.column_stack([codes_NL, places]).astype(codes_NL.dtype)
    metrics = {"collision_items": count, "collision_groups": len(shared)}
    return ItemIndex(parted_NL, (*sizes, largest), (*sources, "extra"), items, {}, metrics)


def from_json(path: Path | str, items: Ids, resolve: Literal["report", "extend"] = "extend") -> ItemIndex:
    """Read a published index of these items, all of them and no others; `resolve` as of :func:`unique_index`.

    Raises:
        UserError: broken file, foreign tokens, missing or extra items, or collisions with `report`; counts and
            examples are named.
    """
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path}: not an object of token lists by item; give an X.index.json of LC-Rec")
    numbers, levels = _places(path, list(document), items), 0
    codes: list[list[int]] = []
    for item, tokens in document.items():
        codes.append(_row(f"{path}: item {item[:50]!r}", tokens, levels))
        levels = len(codes[0])
    codes_NL = np.empty((len(items), levels), np.int32)
    codes_NL[numbers] = codes
    number, level = np.unravel_index(int(codes_NL.argmax()), codes_NL.shape)
    code, most = codes_NL[number, level], max(MOST_CODES, len(items))
    if code >= most:  # surely a slip: tokens up to it would be made and learnt
        raise UserError(
            f"{path}: item {str(items.values[number])[:50]!r}: code {code} of level {level + 1}, and every code up to "
            f"it would get a token; number them from 0, below {most:,}"
        )
    sizes = (codes_NL.max(0) + 1).tolist()
    return unique_index(items, codes_NL, sizes, ["file"] * levels, str(path), resolve)


def to_json(index: ItemIndex, path: Path | str) -> None:
    """Write LC-Rec's format; ids become strings, as JSON's keys are. Atomic; replaces an index only."""
    refuse_other(Path(path), lambda begin: begin.startswith(b"{") and b'"<a_' in begin)
    rows = ((str(item), index.names(number)) for number, item in enumerate(index.items.values))
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(json.dumps(dict(rows), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _places(path: Path, keys: list[str], items: Ids) -> Ints:
    """The internal number of each key; every item exactly once."""
    numbers = items.numbers(keys)
    extra = [key for key, number in zip(keys, numbers, strict=True) if number < 0]
    if extra:
        raise UserError(
            f"{path}: {len(extra):,} items that the data set does not have, first {extra[0][:50]!r}; give the index of "
            "this data set or take them out"
        )
    counts = np.bincount(numbers, minlength=len(items))
    missing = np.flatnonzero(counts == 0)
    if len(missing):
        raise UserError(
            f"{path}: {len(missing):,} of {len(items):,} items are missing, first {items.values[missing[0]]!r}; "
            "give the index of this data set or build one with `forwhy indices build`"
        )
    if counts.max() > 1:
        twice = items.values[int(counts.argmax())]
        raise UserError(f"{path}: item {twice!r} is named twice, in different spellings; keep one")
    return numbers


def _row(where: str, tokens: object, levels: int) -> list[int]:
    """The codes of one item's tokens; `levels` of them, unless it is 0."""
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise UserError(f'{where}: not a list of tokens like ["<a_183>", "<b_7>"]; correct it')
    if levels and (count := len(tokens)) != levels:
        raise UserError(f"{where}: {count} tokens where the items before have {levels}; make them equal")
    if len(tokens) > len(LETTERS):
        raise UserError(f"{where}: {len(tokens)} tokens, but at most {len(LETTERS)} levels can be named")
    codes = []
    for level, (token, letter) in enumerate(zip(tokens, LETTERS, strict=False), start=1):
        match = re.fullmatch(f"<{letter}_(0|[1-9][0-9]{{0,8}})>", token)
        if match is None:
            raise UserError(f"{where}: token {level} is {token[:30]!r}, not <{letter}_NUMBER>; correct it")
        codes.append(int(match[1]))
    return codes
