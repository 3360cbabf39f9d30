"""A recipe that fits a data set: each value with its reason, what it takes here, and what on more data. No torch here.

The rules come from measurements (docs/log.md, "Which recipe fits a small shop"); what they can't know, validation
tells: every training stops by itself. The words are those of `suggest.toml`.
"""

from __future__ import annotations

import math
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from forwhy.data.dataset import Dataset
from forwhy.data.histories import Sequences
from forwhy.errors import UserError

_TEXTS: Mapping[str, str] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
GROWN = (1_000_000, 5_000_000, 50_000_000)
"""Interactions that costs are also told for."""
MOST_ITEMS = 1_000_000
"""A catalogue grows with its shop up to here."""
LARGE, APART, VALIDATED = 30_000, 8192, 20_000
"""Items from which on a softmax over them all takes most of a training; then what is taken in its place, and whose
validation items choose the epoch."""


@dataclass(frozen=True)
class Traits:
    """What of a data set decides: counts, of training where that matters; of how many people and items texts speak.

    `in_order`: histories have times, and their last items are left out.
    """

    people: int
    items: int
    interactions: int
    described: int
    reviews: int
    explained: int
    explained_test: int
    in_order: bool

    @classmethod
    def of(cls, dataset: Dataset) -> Traits:
        """Read off a data set."""
        reviews = dataset.training_reviews()
        things = {number for number, text in enumerate(dataset.item_texts()) if text.strip()}
        things |= {*dataset.phrases("item"), *dataset.profiles("item"), *reviews.items.tolist()}
        people = {*dataset.phrases("user"), *dataset.profiles("user"), *reviews.users.tolist()}
        try:
            in_order = bool(len(Sequences.from_dataset(dataset).evaluated("valid")))
        except UserError:
            in_order = False
        return cls(
            people=len(dataset.users),
            items=len(dataset.items),
            interactions=len(dataset.edges("train")),
            described=len(people) + len(things),
            reviews=len(reviews),
            explained=len(dataset.pairs("train")),
            explained_test=len(dataset.pairs("test")),
            in_order=in_order,
        )

    def grown(self, interactions: int) -> Traits:
        """The same shop with so many interactions: as many for each person and, at first, for each item."""
        by = interactions / max(self.interactions, 1)
        people, items = round(self.people * by), min(round(self.items * by), max(MOST_ITEMS, self.items))
        described = round(self.described * (people + items) / (self.people + self.items))
        return replace(self, people=people, items=items, interactions=interactions, described=described)

    @property
    def system(self) -> str:
        """Words wherever a text says something or nothing is in order, else the hybrid of the next item."""
        return "hybrid" if self.in_order and not self.described else "because"


# --- the rules


def chosen(traits: Traits) -> dict[str, Any]:
    """The values that fit, and what their reasons tell: the names in `suggest.toml`."""
    return asdict(traits) | (_of_sequences if traits.system == "hybrid" else _of_words)(traits)


def _of_words(traits: Traits) -> dict[str, Any]:
    """More than 1,000 steps on few data, 3 epochs from 400,000 interactions on."""
    edges, fewer = traits.interactions, min(traits.people, traits.items)
    codes, batch = _power(fewer / 4, 16, 512), _power(edges / 20, 256, 4096)
    epochs, steps = _within(math.ceil(1_200_000 / max(edges, 1)), 3, 60), math.ceil(edges / batch)
    pairs = min(traits.explained, 2400)
    reading = _within(math.ceil(2400 / max(pairs, 1)), 2, 4)
    why = f"Texts say something of {traits.described:,} people and items: words that rank, and reasons from them"
    if not traits.described:
        why = "No text says anything: words of who takes what, and reasons that count"
    return dict(
        why=why, fewer=fewer, side="items" if traits.items == fewer else "people", sharers=round(fewer / codes),
        codes=codes, batch_size=batch, steps=steps, epochs=epochs, all_steps=epochs * steps,
        patience=max(3, epochs // 4), learning_rate=1e-3 if edges < 100_000 else 5e-4,
        train_pairs=pairs, reading_epochs=reading, reading_steps=math.ceil(pairs / 4) * reading,
        pairs=_within(traits.explained_test, 1, 300), generate=_within(traits.explained_test, 1, 100),
    )  # fmt: skip


def _of_sequences(traits: Traits) -> dict[str, Any]:
    batch, dims = _power(traits.people / 20, 32, 256), 64 if traits.items < 2000 else 128
    why = "Histories are in order and no text says anything: the next item, by order and by what is taken together"
    steps = math.ceil(traits.people / batch)
    found = {"why": why, "dims": dims, "batch_size": batch, "steps": steps, "epochs": 100}
    return found | ({"negatives": APART, "validation_users": VALIDATED} if traits.items > LARGE else {})


def as_toml(traits: Traits, name: str, path: str, head: Sequence[str]) -> str:
    """The recipe of these values, after lines that say what it is."""
    told = chosen(traits) | {"name": _quoted(name), "path": _quoted(path)}
    text = _TEXTS[traits.system]
    if traits.explained and traits.system == "because":
        text += _TEXTS["reasons"]
    if "negatives" in told:
        text += _TEXTS["large"]
    return "".join(f"# {line}".rstrip() + "\n" for line in head) + text.format_map(told)


def _power(wanted: float, least: int, most: int) -> int:
    return _within(2 ** round(math.log2(max(wanted, 1))), least, most)


def _within(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


def _quoted(text: str) -> str:
    return tomli_w.dumps({"v": text}).removeprefix("v = ").strip()


# --- what it takes: seconds of a core that does `REFERENCE` operations a second (docs/log.md)


REFERENCE = 1e11
PROCESS, TEXT, START = 5.0, 0.01, 65e-6
"""Until a run has begun; of a text through the encoder; of an interaction in the decomposition."""
UPDATED, OWN = 7e-9, 2_000
"""Of a number of SASRec's table in a step; items of a step's own targets."""
STEP, NEGATIVE = 25e-6, 65e-9
"""Of an interaction in an epoch of words, and of each of its negatives."""
LEARNT, SCORED, WRITTEN = 1.2, 0.4, 5.0
"""Of an explained pair in training, of its likelihood, of a text with its candidates: 135 million weights."""
TEXTS, WORDS, SEQUENCE_EPOCHS, GIB = 4, 512, 30, 1 << 30
"""Texts of each who has any; numbers that two entities are compared by; epochs until SASRec stops, as a rule."""


def costs(traits: Traits, measured: float) -> list[dict[str, float]]:
    """Of this data set, and of the same shop grown, at a speed that `speed` has measured.

    `interactions`, `people`, `items`; `seconds`, within a factor of two, nothing cached; `gib`, peak memory.
    """
    found = []
    for one in (traits, *(traits.grown(count) for count in GROWN if count > traits.interactions)):
        seconds, size = (_of_hybrid if one.system == "hybrid" else _of_because)(one, chosen(one))
        spent = {"seconds": round(seconds * REFERENCE / measured, 1), "gib": round(size / GIB, 1)}
        found.append({"interactions": one.interactions, "people": one.people, "items": one.items, **spent})
    return found


def speed(seconds: float = 0.5) -> float:
    """Operations a second of this machine in matrix products: the best of many, as other work may be under way."""
    matrix = np.random.default_rng(0).random((256, 256), np.float32)
    best, end = math.inf, time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * 256**3 / best


def _of_because(traits: Traits, values: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds and bytes. Validation ranks the catalogue for everybody in each epoch."""
    edges, epochs = traits.interactions, values["epochs"]
    step = STEP + NEGATIVE * min(values["batch_size"], 1024)
    seconds = PROCESS + TEXTS * TEXT * traits.described + (START + epochs * step) * edges
    seconds += (epochs + 2) * 2 * WORDS * traits.items * traits.people / REFERENCE
    size = GIB / 2 + 450 * edges + 4096 * (traits.people + traits.items) + 16_384 * traits.described
    if traits.explained:
        seconds += values["reading_epochs"] * (LEARNT * values["train_pairs"] + SCORED * 200)
        seconds += 4 * SCORED * values["pairs"] + WRITTEN * values["generate"]
        size = max(size, 2 * GIB + 100 * edges)
    return seconds, size


def _of_hybrid(traits: Traits, values: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds and bytes. Operations of its layers and of the softmax reach a third of the speed."""
    dims, items, people = values["dims"], traits.items, traits.people
    apart = min(items, values.get("negatives", items) + OWN)
    operations = SEQUENCE_EPOCHS * 6 * (24 * dims**2 + apart * dims) * traits.interactions
    ranked = SEQUENCE_EPOCHS * min(people, values.get("validation_users", people)) + 3 * people
    operations += 2 * dims * items * ranked
    updated = SEQUENCE_EPOCHS * values["steps"] * items * dims
    size = GIB / 2 + 24 * items * dims + 200 * traits.interactions
    return PROCESS + 3 * operations / REFERENCE + UPDATED * updated, size


def holds(traits: Traits, data: Path) -> list[str]:
    """What the data set holds, and what would make more of it, for a reader."""
    counts = (
        f"{traits.people:,} people, {traits.items:,} items; of training {traits.interactions:,} interactions"
    )
    found = [f"{counts}, {traits.reviews:,} reviews, {traits.explained:,} explanations."]
    if traits.reviews and not traits.explained:
        found += [
            "Without explanations reasons are plain sentences. To have a language model write them, first:",
            f"  forwhy mine explanations {data} --llm MODEL",
        ]
    return found


def cost_lines(spent: Sequence[Mapping[str, Any]], measured: float) -> list[str]:
    """The costs for a reader."""
    head = f"What it takes here ({measured / 1e9:,.0f} billion operations a second), within a factor of two:"
    row = "{interactions:>12,} {people:>10,} {items:>9,} {time:>8} {gib:>6,.1f} GiB"
    rows = [row.format_map({**one, "time": _told(one["seconds"])}) for one in spent]
    return [head, f"{'interactions':>12} {'people':>10} {'items':>9} {'time':>8} {'memory':>10}", *rows]


def _told(seconds: float) -> str:
    """`40 s`, `12 min`, `5 h`, `3 days`."""
    units = (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172_800), ("days", 86_400, math.inf))
    unit, size, _ = next(it for it in units if seconds < it[2])
    return f"{round(seconds / size)} {unit}"
