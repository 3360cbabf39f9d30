"""Item indices: a few codes per item that name it, and only it. No torch.

Legend: N items, L levels.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import forwhy.artifact as artifact
from forwhy.data.ids import Ids
from forwhy.errors import UserError

__all__ = ["LETTERS", "TOKEN", "ItemIndex", "token_name"]

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
