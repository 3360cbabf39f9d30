"""Rows of outputs against the held-out pairs of a data set: by ids, else by the reference text.

Held out are pairs whose explanation is in valid or test. Shapes: n rows.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forwhy.columns import SPLITS
from forwhy.errors import UserError
from forwhy.evaluate.compare import Key
from forwhy.evaluate.reading import Pair, Reading

if TYPE_CHECKING:
    from forwhy.data.dataset import Dataset
    from forwhy.data.ids import Pairs

__all__ = ["Matched", "held_out_keys", "match"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Matched:
    """A reading whose rows know their pair."""

    reading: Reading
    users: Ints
    """[n] internal numbers; -1 where the row is no held-out pair."""
    items: Ints
    found: dict[str, int]
    """Without ids, rows by what their reference is in the data set: text of one `valid`, `test` or `train`
    pair, of several pairs or rows (`ambiguous`), or of none (`unknown`). Empty with ids."""

    def take(self, rows: "list[int] | Ints") -> "Matched":
        """Some of the rows, in this order."""
        chosen = np.asarray(rows, dtype=np.int64)
        kept = self.reading.take(chosen.tolist())
        return replace(self, reading=kept, users=self.users[chosen], items=self.items[chosen])

    def pairs(self) -> tuple[Ints, "Pairs"]:
        """The rows that are held-out pairs, and these pairs with their references."""
        from forwhy.data.ids import Pairs

        rows = np.flatnonzero(self.users >= 0)
        texts = tuple(self.reading.outputs.references[row] for row in rows.tolist())
        return rows, Pairs(self.users[rows], self.items[rows], texts)


def match(name: str, reading: Reading, dataset: "Dataset") -> Matched:
    """Give rows their pair.

    Rows with ids that are no held-out pair are left out and counted. Rows without ids all stay; those whose
    reference is the text of exactly one held-out pair get its ids.

    Raises:
        UserError: rows with ids, of which fewer than two are held-out pairs.
    """
    return _by_ids(name, reading, dataset) if reading.has_ids else _by_reference(reading, dataset)


def held_out_keys(dataset: "Dataset") -> set[Key]:
    """The keys of a data set's held-out pairs."""
    users, items = dataset.users.values, dataset.items.values
    return {(str(users[user]), str(items[item])) for user, item in dataset.heldout_pairs().tolist()}


def _by_ids(name: str, reading: Reading, dataset: "Dataset") -> Matched:
    pairs = reading.outputs.pairs
    users = dataset.users.numbers([user for user, _ in pairs])
    items = dataset.items.numbers([item for _, item in pairs])
    held = {(user, item) for user, item in dataset.heldout_pairs().tolist()}
    out = np.array([pair not in held for pair in zip(users.tolist(), items.tolist(), strict=True)])
    known = (users >= 0) & (items >= 0)
    counts = {
        "unknown_user": int((users < 0).sum()),
        "unknown_item": int(((users >= 0) & (items < 0)).sum()),
        "not_held_out": int((known & out).sum()),
    }
    kept = np.flatnonzero(~out)
    if len(kept) < 2:
        why = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        raise UserError(
            f"{name}: {len(kept)} of {len(pairs)} rows are held-out pairs of data set {dataset.name!r} ({why}); "
            "give the data set that they were made from"
        )
    left = replace(reading, exclusions=reading.exclusions | counts)
    return _named(Matched(left, users, items, {}).take(kept), dataset)


def _by_reference(reading: Reading, dataset: "Dataset") -> Matched:
    owners: dict[str, list[tuple[str, int, int]]] = {}
    for split in SPLITS:
        pairs = dataset.pairs(split)
        for user, item, text in zip(pairs.users.tolist(), pairs.items.tolist(), pairs.texts, strict=True):
            owners.setdefault(text, []).append((split, user, item))
    times = Counter(reading.outputs.references)
    users, items = np.full((2, len(reading)), -1, dtype=np.int64)
    found = dict.fromkeys((*SPLITS, "ambiguous", "unknown"), 0)
    for row, text in enumerate(reading.outputs.references):
        known = owners.get(text, [])
        if len(known) != 1 or times[text] > 1:
            found["ambiguous" if known else "unknown"] += 1
            continue
        owner, user, item = known[0]
        found[owner] += 1
        if owner != "train":
            users[row], items[row] = user, item
    return _named(Matched(reading, users, items, found), dataset)


def _named(matched: Matched, dataset: "Dataset") -> Matched:
    """The same with the data set's ids as pairs and keys of the rows that have one."""
    reading, (rows, pairs) = matched.reading, matched.pairs()
    named: list[Pair] = list(reading.outputs.pairs)
    keys: list[Key] = list(reading.keys)
    for row, (user, item) in zip(rows.tolist(), dataset.external(pairs), strict=True):
        named[row], keys[row] = (user, item), (str(user), str(item))
    outputs = replace(reading.outputs, pairs=named)
    return replace(matched, reading=replace(reading, outputs=outputs, keys=keys))
