"""Item indices: a few codes per item that name it, and only it. No torch.

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
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

import forwhy.artifact as artifact
from forwhy.atomic import atomic_file
from forwhy.data.ids import Ids
from forwhy.data.sources.files import read_json
from forwhy.errors import UserError

KIND = "indices"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKEN = re.compile(r"<([a-z])_(0|[1-9][0-9]{0,8})>")
"""What a token of an index looks like: the letter says the level, the number the code."""
Codes = NDArray[np.int32]
Ints = NDArray[np.int64]


def token_name(level: int, code: int) -> str:
    """`<b_17>` for code 17 of the second level."""
    return f"<{LETTERS[level]}_{code}>"


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Codes of all items; every row once. Checked when made.

    Raises:
        UserError: two items with one index, more than 26 levels, codes beyond their level's size, or other items.
    """

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
    """The health report of the day it was made (`health.health`), and what was repaired."""

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
        return [token_name(level, code) for level, size in enumerate(self.sizes) for code in range(size)]

    @property
    def token_rows(self) -> Ints:
        """[N, L] each item's tokens as places in `tokens`."""
        return self.codes + self.offsets[:-1]

    def names(self, item: int) -> list[str]:
        """The tokens of one item, by internal number."""
        return [token_name(level, int(code)) for level, code in enumerate(self.codes[item])]

    def text(self, item: int) -> str:
        """The tokens of one item as one string, `<a_12><b_7>`."""
        return "".join(self.names(item))

    def levels_of(self, source: str) -> list[int]:
        """The levels made from a source."""
        return [level for level, made_from in enumerate(self.sources) if made_from == source]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of items, codes and sizes: a model says with it which index it was trained on."""
        digest = hashlib.sha256(repr((self.sizes, self.codes.shape)).encode())
        digest.update(np.ascontiguousarray(self.codes, "<i4").tobytes())
        digest.update("\0".join(map(str, self.items.values)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def save_pretrained(self, folder: Path | str) -> None:
        """Write a folder that loads alone; atomic."""
        config = {
            "index": dict(self.config), "sizes": list(self.sizes), "sources": list(self.sources),
            "fingerprint": self.fingerprint, "metrics": dict(self.metrics),
        }  # fmt: skip
        items = pl.DataFrame({"item_id": list(self.items.values)})
        artifact.save(Path(folder), KIND, config, {"codes": self.codes}, {"items": items}, _card(self))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> "ItemIndex":
        """Read a folder that `save_pretrained` wrote.

        Raises:
            UserError: a file is missing, truncated, altered or of another kind, named with the reason.
        """
        stored = artifact.load(Path(folder), KIND)
        return cls(
            codes=stored.tensors["codes"],
            sizes=tuple(stored.config["sizes"]),
            sources=tuple(stored.config["sources"]),
            items=Ids(tuple(stored.tables["items"]["item_id"]), "item"),
            config=stored.config["index"],
            metrics=stored.config["metrics"],
        )


def _check_shape(index: ItemIndex) -> None:
    shape = index.codes.shape
    if len(shape) != 2 or not all(shape):
        raise UserError(f"index: codes of shape {shape}; give one row of at least one code per item")
    if shape[1] > len(LETTERS):
        raise UserError(
            f"index: {shape[1]} levels, but tokens have letters for {len(LETTERS)}; use a larger width"
        )
    if len(index.items) != shape[0]:
        raise UserError(
            f"index: {shape[0]:,} rows of codes for {len(index.items):,} items; give one row per item"
        )
    if not len(index.sizes) == len(index.sources) == shape[1]:
        raise UserError(f"index: {shape[1]} levels; give as many sizes ({len(index.sizes)}) and sources")


def _check_codes(index: ItemIndex) -> None:
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
            "rows); part them with `published.part_collisions`"
        )


def _card(index: ItemIndex) -> str:
    def rows(entries: Sequence[Mapping[str, Any]]) -> str:
        return "\n".join(
            f"| {LETTERS[n]} | {entry['source']} | {entry['size']} | {entry['used']} | {entry['perplexity']:.0f} |"
            for n, entry in enumerate(entries)
        )

    levels = index.metrics.get("levels", ())
    return (
        "---\nlibrary_name: forwhy\ntags: [recommendation, generative-retrieval, item-indices]\n---\n"
        "# Item indices\n\n"
        f"{len(index):,} items, {index.levels} tokens each, no two alike. Load with "
        "`forwhy.ItemIndex.from_pretrained(folder)`.\n\n"
        f"| level | source | codes | used | perplexity |\n|---|---|---|---|---|\n{rows(levels)}\n"
    )


# --- LC-Rec's index files, `X.index.json`: {item: ["<a_183>", "<b_7>", …]}; and what to do when items share an index.
#
# Source: RUCAIBox/LC-Rec and HonghuiBao2000/LETTER (the format); TIGER section 3.1 (one more token parts collisions).
# Legend: N items, L levels.


log = logging.getLogger(__name__)
MOST_CODES = 65_536
"""Codes of a level that a file may have even if there are fewer items: a model has a token for each."""


@dataclass(frozen=True)
class Collisions:
    """Items that share an index with another."""

    group_N: Ints
    """[N] number of each item's index; equal numbers are equal indices."""
    place_N: Ints
    """[N] 0 for the first item of an index, 1 for the second, … in the order of items."""

    @classmethod
    def of(cls, codes_NL: Codes) -> "Collisions":
        """Find them; O(N log N)."""
        group_N = np.unique(codes_NL, axis=0, return_inverse=True)[1].ravel()
        order_N = group_N.argsort(kind="stable")
        place_N = np.empty(len(group_N), np.int64)
        place_N[order_N] = np.arange(len(group_N)) - np.searchsorted(group_N[order_N], group_N[order_N])
        return cls(group_N, place_N)

    @property
    def groups(self) -> int:
        """Indices that several items share."""
        return int((self._sizes > 1).sum())

    @property
    def items(self) -> int:
        """Items that share theirs."""
        return int(self._sizes[self._sizes > 1].sum())

    @property
    def largest(self) -> int:
        """Items of the most crowded index; 1 when all are alone."""
        return int(self._sizes.max())

    def summary(self, items: Ids, examples: int = 3) -> str:
        """One line: counts, and the items of the first few shared indices."""
        shared = np.flatnonzero(self._sizes > 1)[:examples]
        shown = (
            "=".join(str(items.values[n]) for n in np.flatnonzero(self.group_N == g)[:4]) for g in shared
        )
        return (
            f"{self.items:,} of {len(items):,} items share {self.groups:,} indices (at most {self.largest} on "
            f"one), e.g. {', '.join(shown)}"
        )

    @property
    def _sizes(self) -> Ints:
        return np.bincount(self.group_N)


def part_collisions(codes_NL: Codes) -> Codes:
    """[N, L + 1] unique codes: 0 on the new level for an item alone on its index, else its place among the sharers.

    Every item gets the level, as decoding runs a fixed number of steps; it is forced wherever it is 0 alone. Codes that
    were unique come back as they are, [N, L]. (LC-Rec's other way, reassigning the last level, would move items away
    from the codes that a published model was trained on.)
    """
    found = Collisions.of(codes_NL)
    return codes_NL if not found.groups else np.column_stack([codes_NL, found.place_N]).astype(codes_NL.dtype)


def from_json(path: Path | str, items: Ids, resolve: Literal["report", "extend"] = "extend") -> ItemIndex:
    """Read a published index for these items.

    Args:
        path: The file.
        items: All of them, and no others, must be in the file.
        resolve: When items share an index: `extend` adds a level (`part_collisions`) and logs it, `report` refuses.

    Raises:
        UserError: broken file, foreign tokens, missing or extra items, or collisions with `report`; counts and
            examples are named.
    """
    codes_NL = read_codes(path, items)
    found = Collisions.of(codes_NL)
    if found.groups and resolve == "report":
        line = f"{path}: {found.summary(items)}"
        raise UserError(f'{line}; read it with collisions = "extend", which adds a token to part them')
    sizes = (codes_NL.max(0) + 1).tolist()
    return unique_index(items, codes_NL, sizes, ["file"] * len(sizes), str(path))


def unique_index(items: Ids, codes_NL: Codes, sizes: list[int], sources: list[str], name: str) -> ItemIndex:
    """The index of these codes, with one more level where they collide; that is logged under `name`."""
    found = Collisions.of(codes_NL)
    metrics = {}
    if found.groups:
        log.warning("%s: %s; one more token parts them", name, found.summary(items))
        codes_NL, sizes, sources = part_collisions(codes_NL), [*sizes, found.largest], [*sources, "extra"]
        metrics = {"collision_items": found.items, "collision_groups": found.groups}
    return ItemIndex(codes_NL, tuple(sizes), tuple(sources), items, {}, metrics)


def to_json(index: ItemIndex, path: Path | str) -> None:
    """Write LC-Rec's format; ids become strings, as JSON's keys are. Atomic."""
    rows = ((str(item), index.names(number)) for number, item in enumerate(index.items.values))
    with atomic_file(Path(path)) as temporary:
        temporary.write_text(json.dumps(dict(rows), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_codes(path: Path | str, items: Ids) -> Codes:
    """The codes in an index file, [N, L] in the order of `items`, shared ones as they are.

    Raises:
        UserError: as `from_json`, but for collisions.
    """
    path = Path(path)
    document = read_json(path)
    if not isinstance(document, dict) or not document:
        raise UserError(f"{path}: not an object of token lists by item; give an X.index.json of LC-Rec")
    numbers = _places(path, list(document), items)
    levels: int | None = None
    codes: list[list[int]] = []
    for item, tokens in document.items():
        row = _row(f"{path}: item {item[:50]!r}", tokens, levels)
        codes.append(row)
        levels = len(row)
    codes_NL = np.empty((len(items), levels or 0), np.int32)
    codes_NL[numbers] = codes
    _check_largest(path, codes_NL, items)
    return codes_NL


def _check_largest(path: Path, codes_NL: Codes, items: Ids) -> None:
    """Refuse a code that is surely a slip: tokens up to it would be made and learnt."""
    item, level = np.unravel_index(int(codes_NL.argmax()), codes_NL.shape)
    most = max(MOST_CODES, len(items))
    if codes_NL[item, level] >= most:
        raise UserError(
            f"{path}: item {str(items.values[item])[:50]!r}: code {codes_NL[item, level]} of level {level + 1}, and "
            f"every code up to it would get a token; number them from 0, below {most:,}"
        )


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


def _row(where: str, tokens: object, levels: int | None) -> list[int]:
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        raise UserError(f'{where}: not a list of tokens like ["<a_183>", "<b_7>"]; correct it')
    if levels is not None and len(tokens) != levels:
        raise UserError(
            f"{where}: {len(tokens)} tokens where the items before have {levels}; make them equal"
        )
    if len(tokens) > len(LETTERS):
        raise UserError(f"{where}: {len(tokens)} tokens, but at most {len(LETTERS)} levels can be named")
    found = [TOKEN.fullmatch(token) for token in tokens]
    for level, (token, match) in enumerate(zip(tokens, found, strict=True)):
        if match is None or match[1] != LETTERS[level]:
            raise UserError(
                f"{where}: token {level + 1} is {token[:30]!r}, not <{LETTERS[level]}_NUMBER>; correct it"
            )
    return [int(match[2]) for match in found if match is not None]
