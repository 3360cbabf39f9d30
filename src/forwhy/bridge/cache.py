"""Key-value caches: one constant prefix shared by every row of a batch.

Shapes: B rows, H key-value heads, P prefix positions, S new positions, C capacity, E head width.
Every layer shows all positions to the model's own mask code, which applies sliding windows where a layer has one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

KeyValue = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Prefix:
    """Keys and values [1, H, P, E] of a constant beginning, one pair per layer."""

    layers: tuple[KeyValue, ...]

    @property
    def length(self) -> int:
        """P."""
        return self.layers[0][0].shape[-2]


class BegunLayer(DynamicLayer):  # type: ignore[misc]
    """A layer that has keys and values already; what is passed is kept behind them."""

    def __init__(self, states: KeyValue) -> None:
        super().__init__()
        self.lazy_initialization(*states)
        self.keys, self.values = states


class SharedLayer(BegunLayer):
    """A prefix in front of whatever is passed; keeps nothing of it.

    The prefix is expanded over the batch inside the concatenation: no copy of it per row, and gradients to a
    trained prefix are summed over the rows.
    """

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> KeyValue:
        """Prefix and new states, [B, H, P + S, E]."""
        rows = key_states.shape[0]
        return (
            torch.cat([self.keys.expand(rows, -1, -1, -1), key_states], dim=-2),
            torch.cat([self.values.expand(rows, -1, -1, -1), value_states], dim=-2),
        )


class DecodingLayer(DynamicLayer):  # type: ignore[misc]
    """Room for a whole generation, allocated once; new states are written in place, finished rows dropped.

    A shorter prompt is padded before the prefix, not behind it: distances between real positions, which
    sliding windows count, stay true. So the prefix of a padded row is shifted, and where its first new states
    are padding they do not overwrite it.
    """

    def __init__(self, prefix: KeyValue, pads: Sequence[int], capacity: int) -> None:
        super().__init__()
        self.lazy_initialization(*prefix)
        self.pads, self.prefix_length = list(pads), prefix[0].shape[-2]
        self.rooms = tuple(
            states.new_empty(len(pads), states.shape[1], capacity, states.shape[3]) for states in prefix
        )
        for room, states in zip(self.rooms, prefix, strict=True):
            for row, pad in enumerate(pads):
                room[row, :, :pad] = 0
                room[row, :, pad : pad + self.prefix_length] = states[0]
        self.keys, self.values = self.rooms
        self.read(slice(0, len(pads)), 0)

    def read(self, rows: slice, begin: int) -> None:
        """The next pass is that of these rows' prompts, none of which begins before column `begin`."""
        self.rows, self.begin, self.length = rows, begin, self.prefix_length
        pads = [pad - begin for pad in self.pads[rows]]
        self.kept = pads if any(pads) else []

    def carry(self, other: DecodingLayer, columns: int) -> None:
        """The first rows are those of another cache's layer, being written to, and end at column `columns` too."""
        for row in range(other.rows.stop):
            pad = self.pads[row]
            begin = other.length - (columns - pad)
            for room, old in zip(self.rooms, other.rooms, strict=True):
                room[row, :, pad:columns] = old[row, :, begin : other.length]

    def write(self) -> None:
        """All prompts are read, to the same column; from now on passes are of all rows."""
        self.rows, self.begin, self.length = slice(0, len(self.pads)), 0, self.begin + self.length
        self.kept = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> KeyValue:
        """Everything so far of the rows seen, views into the room."""
        start = self.begin + self.length
        stop = start + key_states.shape[-2]
        for room, states in zip(self.rooms, (key_states, value_states), strict=True):
            place_BHSE = room[self.rows, :, start:stop]
            if not self.kept:
                place_BHSE.copy_(states)
            for row, pad in enumerate(self.kept):
                place_BHSE[row, :, pad:] = states[row, :, pad:]
        self.length = stop - self.begin
        keys, values = (room[self.rows, :, self.begin : stop] for room in self.rooms)
        return keys, values

    def get_seq_length(self) -> int:
        """Positions written, as the rows seen count them."""
        return self.length

    def drop(self, row: int) -> None:
        """Forget a row; the last one takes its number."""
        last = self.rows.stop - 1
        self.rows = slice(0, last)
        if row != last:
            for room in self.rooms:
                room[row, :, : self.length] = room[last, :, : self.length]


def roomy(prefix: Prefix, pads: Sequence[int], capacity: int) -> Cache:
    """A cache in which rows with one prefix are read a few at a time, then written to all together.

    One row per entry of `pads`, the empty columns before it, with room for `capacity` columns each.
    """
    return Cache(layers=[DecodingLayer(states, pads, capacity) for states in prefix.layers])


def recording(prefix: Prefix | None) -> Cache:
    """A cache whose content can be taken as a prefix afterwards; begins with `prefix` where there is one."""
    if prefix is None:
        return Cache(layer_class_to_replicate=DynamicLayer)
    return Cache(layers=[BegunLayer(states) for states in prefix.layers])


def recorded(cache: Cache) -> Prefix:
    """What a recording cache has seen, as a prefix."""
    return Prefix(tuple((layer.keys, layer.values) for layer in cache.layers))


def moved(prefix: Prefix, shifts: Iterable[Tensor]) -> Prefix:
    """The prefix with something added to its last keys and values, layer by layer.

    Args:
        prefix: At least T positions.
        shifts: One [2, H, T, E] per layer, for keys and values.
    """
    return Prefix(
        tuple(
            (_added(keys, shift[0]), _added(values, shift[1]))
            for (keys, values), shift in zip(prefix.layers, shifts, strict=True)
        )
    )


def _added(states: Tensor, shift_HTE: Tensor) -> Tensor:
    count = shift_HTE.shape[1]
    return torch.cat([states[:, :, :-count], states[:, :, -count:] + shift_HTE[None].to(states.dtype)], dim=2)


def shared(prefix: Prefix) -> Cache:
    """A cache for one pass over rows that all begin with `prefix`."""
    return Cache(layers=[SharedLayer(states) for states in prefix.layers])


def taking(model: nn.Module, cache: Cache | None) -> dict[str, Cache | None]:
    """The argument by which a model takes its cache: `cache` in newer releases, `past_key_values` before."""
    renamed = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if renamed else "past_key_values": cache}
