"""The frozen language model, used as it is: embeddings in, logits at chosen positions out; and its key-value caches.

Nothing here depends on a model's family: embeddings, masks, positions, sliding windows and the head are left to the
model's own code. One constant prefix is shared by every row of a batch.

Shapes: B rows, S positions after the prefix, P prefix positions, C capacity, H key-value heads, E head width, D model
width, V vocabulary, N chosen positions, I inputs and O outputs of a linear layer.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from forwhy.bridge.engines import chosen, has
from forwhy.bridge.injection import Injection
from forwhy.bridge.llama import TYPICAL, Bits, PackedLlama, untouched
from forwhy.bridge.options import InjectionMode, WritingEngine
from forwhy.models import DType, LoadedModel, load_causal_lm, tokenizer_hash
from forwhy.training.engine import resolve_device

KeyValue = tuple[Tensor, Tensor]

_LEAST_ROWS = 4
_USUAL_ROWS = 16
_LARGEST_BYTES = 2 << 30
_NORM_SAMPLE = 8192


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
    """A prefix in front of whatever is passed; keeps nothing of it. Its gradients are summed over the rows."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> KeyValue:
        """Prefix and new states, [B, H, P + S, E]."""
        shape = len(key_states), -1, -1, -1
        keys = torch.cat([self.keys.expand(shape), key_states], dim=-2)
        return keys, torch.cat([self.values.expand(shape), value_states], dim=-2)


class DecodingLayer(DynamicLayer):  # type: ignore[misc]
    """Room for a whole generation, allocated once; new states are written in place, finished rows dropped.

    A shorter prompt is padded before the prefix, so that distances between real positions, which sliding windows count,
    stay true. So the prefix of a padded row is shifted, and where its new states are padding they do not overwrite it.
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
    """A cache with a row for each of `pads`, the empty columns before it, with room for `capacity` columns each."""
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
    """The prefix with `shifts`, one [2, H, T, E] per layer, added to the keys and values of its last T positions."""

    def added(states: Tensor, shift_HTE: Tensor) -> Tensor:
        last = states[:, :, -shift_HTE.shape[1] :] + shift_HTE[None].to(states.dtype)
        return torch.cat([states[:, :, : -shift_HTE.shape[1]], last], dim=2)

    pairs = (zip(states, shift, strict=True) for states, shift in zip(prefix.layers, shifts, strict=True))
    return Prefix(tuple((added(*keys), added(*values)) for keys, values in pairs))


def shared(prefix: Prefix) -> Cache:
    """A cache for one pass over rows that all begin with `prefix`."""
    return Cache(layers=[SharedLayer(states) for states in prefix.layers])


def taking(model: nn.Module, cache: Cache | None) -> dict[str, Cache | None]:
    """The argument by which a model takes its cache: `cache` in newer releases, `past_key_values` before."""
    renamed = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if renamed else "past_key_values": cache}


class PackedLinears:
    """A second copy of a model's linear weights in oneDNN's own layout, made at first use.

    It makes decoding about 1.3x faster on two cores, and reading the prompts 1.1 to 1.2x (docs/results.md). Only
    float32 weights on a CPU, at most 2 GiB of them, with a torch built with oneDNN; otherwise nothing happens.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [m for m in model.modules() if isinstance(m, nn.Linear) and _is_plain(m)]
        total = sum(layer.weight.nbytes for layer in self._layers)
        if total > _LARGEST_BYTES or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            self._layers = []
        self._forwards: list[Callable[[Tensor], Tensor]] | None = None

    @contextmanager
    def used(self, rows: int) -> Iterator[None]:
        """Use the packed weights inside the block, for 4 rows or more; no gradients flow through them."""
        if not self._layers or rows < _LEAST_ROWS:
            yield
            return
        if self._forwards is None:
            self._forwards = [_packed(layer) for layer in self._layers]
        try:
            for layer, forward in zip(self._layers, self._forwards, strict=True):
                layer.__dict__["forward"] = forward
            yield
        finally:
            for layer in self._layers:
                layer.__dict__.pop("forward", None)


def _is_plain(layer: nn.Linear) -> bool:
    """A linear layer as torch made it: no subclass, no forward of somebody else's, float32 on a CPU."""
    if type(layer) is not nn.Linear or "forward" in layer.__dict__:
        return False
    return bool(layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu")


def _packed(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The layer's function on packed weights."""
    weight_OI, bias_O = layer.weight.detach(), layer.bias
    packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI, _USUAL_ROWS)

    def forward(inputs: Tensor) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias_O, "none", [], "")
        return out

    return forward


class Backbone:
    """A frozen causal language model, with keys and values of constant beginnings kept; only inputs get gradients.

    Its weights learn inside :meth:`changing` alone. Texts are written with the weights of its `engine`; all else is
    done with its own.
    """

    def __init__(self, loaded: LoadedModel, engine: WritingEngine = "torch") -> None:
        self.model = loaded.model.requires_grad_(False).eval()
        self.tokenizer = loaded.tokenizer
        self.source = loaded.source
        self.words = self.model.get_input_embeddings()
        self.device: torch.device = self.words.weight.device
        self.dtype: torch.dtype = self.words.weight.dtype
        self.width: int = self.words.weight.shape[1]
        self.word_norm: float = self._mean_word_norm()
        self.bits = None if engine == "torch" else chosen(engine, self.model)
        # What prompts say of a pair does not survive 8 bits (decision 16).
        self._prompt_bits: Bits | None = "bf16" if self.bits and has("bf16") else None
        self.packed = self._packed_linears()
        self._copies: dict[Bits, PackedLlama] = {}
        self._prefixes: dict[tuple[int, ...], Prefix] | None = {}
        """None while weights change."""
        self._injections: dict[InjectionMode, Injection] = {}

    @classmethod
    def load(
        cls,
        model: str,
        revision: str | None = None,
        dtype: DType = "float32",
        device: str = "auto",
        engine: WritingEngine = "torch",
    ) -> Self:
        """A model by its name or folder; device `auto` is this process's GPU, else the CPU.

        Raises:
            UserError: No such model or device, no network, 8-bit without bitsandbytes, or an engine not for it.
        """
        return cls(load_causal_lm(model, revision, dtype, str(resolve_device(device))), engine)

    def _packed_linears(self) -> PackedLinears:
        """None of them where texts are written on a copy."""
        return PackedLinears(nn.Identity() if self.bits else self.model)

    def identity(self) -> dict[str, Any]:
        """What a bridge depends on: which model and revision, what its token ids mean, its word vectors as loaded."""
        return dict(self._identity)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        weight = self.words.weight.detach()
        # 64 of them in bfloat16: the same in every precision that the model is loaded in.
        rows = weight[:: max(1, len(weight) // 64)][:64].to(torch.bfloat16).cpu().view(torch.int16).numpy()
        found = {"id": self.source.id, "revision": self.source.revision}
        found |= {"tokenizer": tokenizer_hash(self.tokenizer)}
        return found | {"embeddings": hashlib.sha256(rows.tobytes()).hexdigest(), "width": self.width}

    @torch.no_grad()
    def _mean_word_norm(self) -> float:
        """Mean norm of word embeddings as the model sees them, from at most 8,192 evenly spaced rows."""
        count = self.words.weight.shape[0]
        ids_N = torch.arange(0, count, max(1, count // _NORM_SAMPLE), device=self.device)
        norms_N = self.words(ids_N).float().norm(dim=-1)
        return float(norms_N[norms_N > 0].mean())

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings [..., D] of ids [...], scaled as the model scales them."""
        embeddings: Tensor = self.words(ids.to(self.device))
        return embeddings

    def word(self, word: str) -> Tensor:
        """[D] what a word inside a sentence is given as, the mean over its tokens; float32 on the CPU."""
        ids = self.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        return self.embed(torch.tensor(ids)).float().mean(dim=0).cpu()

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Keys and values of constant ids; computed once per model and kept. `ids` must not be empty."""
        if self._prefixes is None:
            return self.extend(None, self.embed(torch.tensor(ids)))
        key = tuple(ids)
        if key not in self._prefixes:
            with torch.inference_mode(False), torch.no_grad():  # these tensors later meet autograd
                cache = recording(None)
                self._run(self.embed(torch.tensor([key])), cache, keep=1)
                self._prefixes[key] = recorded(cache)
        return self._prefixes[key]

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Inside the block weights may change: nothing is kept of what they give. `identity` stays as it was loaded."""
        self.identity()
        self._prefixes = None
        try:
            yield
        finally:
            self._prefixes, self.packed, self._copies = {}, self._packed_linears(), {}

    def injection(self, mode: InjectionMode) -> Injection:
        """Where vectors can be injected into every layer; found once per mode; errors as of :class:`Injection`."""
        if mode not in self._injections:
            self._injections[mode] = Injection(self.model, mode)
        return self._injections[mode]

    def extend(self, prefix: Prefix | None, inputs_SD: Tensor) -> Prefix:
        """The prefix followed by shared inputs, such as task tokens; differentiable in them."""
        if prefix is not None and not len(inputs_SD):
            return prefix
        cache = recording(prefix)
        self._run(inputs_SD[None], cache, keep=1)
        return recorded(cache)

    def logits(
        self, prefix: Prefix, inputs_BSD: Tensor, keep_BS: Tensor, hidden_BS: Tensor | None = None
    ) -> Tensor:
        """Logits [N, V] in float32 of the tokens after the positions in `keep_BS`, row by row, all after one prefix.

        `inputs_BSD`: padded on the right; padding needs no mask, as nothing after it is kept. `hidden_BS`: True at
        positions that no other may look at (their numbers stay counted).
        """
        mask_BT = None
        if hidden_BS is not None:
            mask_BT = torch.nn.functional.pad(~hidden_BS, (prefix.length, 0), value=True)
        out_NV: Tensor = self._run(inputs_BSD, shared(prefix), keep_BS, attention_mask=mask_BT).logits
        return out_NV.float()

    def states(self, prefix: Prefix, inputs_BSD: Tensor) -> Tensor:
        """[B, S, D] what the last layer makes of the inputs, each of the positions before it."""
        read = self._run(inputs_BSD, shared(prefix), 1, output_hidden_states=True)
        last_BSD: Tensor = read.hidden_states[-1]
        return last_BSD

    def attention(self, prefix: Prefix, inputs_BSD: Tensor) -> Tensor:
        """[B, S, P + S] how much positions look at each other: mean over layers and heads, all of them in memory."""
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation("eager")  # faster ones never hold these numbers
        try:
            read = self._run(inputs_BSD, shared(prefix), 1, output_attentions=True)
        finally:
            self.model.set_attn_implementation(usual)
        return torch.stack([layer.float().mean(dim=1) for layer in read.attentions]).mean(dim=0)

    def step(
        self, cache: Cache, inputs_BSD: Tensor, mask_BT: Tensor | None, positions_BS: Tensor | None
    ) -> Tensor:
        """Logits [B, V] after the last position, writing into a decoding cache."""
        bits = self.bits if inputs_BSD.shape[1] == 1 else self._prompt_bits
        if bits and self._prefixes is not None and (copy := self._copy(bits)) and copy.usable():
            return copy.step(cache, inputs_BSD, mask_BT, positions_BS)
        out_BSV: Tensor
        out_BSV = self._run(inputs_BSD, cache, 1, attention_mask=mask_BT, position_ids=positions_BS).logits
        return out_BSV[:, -1]

    def _copy(self, bits: Bits) -> PackedLlama | None:
        """Made by the first pass that nothing listens to: XRec's prompts need none."""
        if bits not in self._copies and all(map(untouched, self.model.modules())):
            self._copies[bits] = PackedLlama(self.model, bits, self.tokenizer(TYPICAL)["input_ids"])
        return self._copies.get(bits)

    def _run(self, inputs_BSD: Tensor, cache: Cache, keep: int | Tensor, **more: Any) -> Any:  # noqa: ANN401 - of transformers
        """The model's output; `more`: its other arguments."""
        read = {"inputs_embeds": inputs_BSD.to(self.dtype), **taking(self.model, cache)}
        return self.model(**read, use_cache=True, logits_to_keep=keep, **more)
