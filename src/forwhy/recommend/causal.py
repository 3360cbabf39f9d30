"""A causal language model with prompts read once and trees of tokens behind them.

All tokens of a user's tree are positions of one row: a four-dimensional mask lets each see the prompt, its own
ancestors and itself, and position ids say how deep it is. So beams share the prompt's keys and values as they are.
Shapes: B users, P prompt positions (padded on the right, where causal attention needs no mask), T new tokens of the
tree, n tokens of the tree so far, H key-value heads, E head width, V vocabulary.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from forwhy.bridge.backbone import KeyValue, Prefix, recorded, recording
from forwhy.errors import UserError
from forwhy.recommend.head import CodeHead, LlamaHead, OwnHead, PlainHead


class RoomLayer(DynamicLayer):  # type: ignore[misc]
    """Room for prompts and trees, allocated at the first states; later ones are written in place."""

    def __init__(self, room: int, prefix: KeyValue | None) -> None:
        super().__init__()
        self.room, self.prefix = room, prefix
        self.length = 0 if prefix is None else prefix[0].shape[-2]

    def update(self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object) -> KeyValue:
        """Everything so far, views [B, H, length, E] into the room."""
        new = (key_states, value_states)
        if not self.is_initialized:
            self.lazy_initialization(*new)
            most = self.length + self.room
            self.keys, self.values = (it.new_empty(*it.shape[:2], most, it.shape[3]) for it in new)
            for held, states in zip((self.keys, self.values), self.prefix or (), strict=False):
                held[:, :, : self.length] = states
        stop = self.length + key_states.shape[-2]
        for held, states in zip((self.keys, self.values), new, strict=True):
            held[:, :, self.length : stop] = states
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def get_seq_length(self) -> int:
        """Positions written."""
        return self.length


@dataclass
class ReadPrompts:
    """A batch of prompts that was read, and the tree of tokens behind them."""

    lengths_B: Tensor
    last: Tensor
    """States [B, ...] that predict the first code."""

    @abstractmethod
    def prune(self) -> None:
        """Forget the tree, keep the prompts."""


class TreeReader:
    """A model that reads prompts once and lets all beams of a user share them."""

    model: nn.Module
    """Whose dropout is off while it reads."""
    head: CodeHead
    """From states to log-probabilities of codes."""
    vocabulary: int
    """Tokens that it knows."""
    longest: int | None = None
    """Positions that it has, prompt and codes together; None: any number."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def prefix(self, ids: Sequence[int]) -> Prefix | None:
        """What all prompts begin with, read once; None where prompts can only be read whole."""
        return None

    @abstractmethod
    def read(self, prompts: Sequence[Sequence[int]], room: int, prefix: Prefix | None = None) -> Any:  # noqa: ANN401
        """A pass over prompts without the beginning in `prefix`: `ReadPrompts`; the tree may come to `room` tokens."""

    @abstractmethod
    def grow(self, prompts: Any, ids_BT: Tensor, depths_T: Tensor, seen_BTn: Tensor) -> Tensor:  # noqa: ANN401
        """States [B, T, ...] of new tokens of the tree behind `prompts`, which `read` gave.

        `depths_T`: how far behind the prompt each stands, from 0. `seen_BTn`: True where a new token sees a token of
        the tree; n counts the new ones, last; the first dimension may be 1.
        """


@dataclass
class Prompts(ReadPrompts):
    """What a causal model has read."""

    cache: Cache
    width: int
    depths_n: Tensor
    """How far behind the prompt each token of the tree stands, from 0."""

    def prune(self) -> None:
        """Forget the tree, keep the prompts."""
        self.depths_n = self.depths_n[:0]
        for layer in self.cache.layers:
            layer.length = self.width


class TreeModel(TreeReader):
    """A causal language model that reads prompts and trees; other attention than causal is refused.

    At construction a short prompt with two beams is read both this way and plainly, and both must agree: so a model
    that ignores masks or positions is refused instead of giving wrong scores.
    """

    model: PreTrainedModel

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        config = model.config.get_text_config()
        self.layers = int(config.num_hidden_layers)
        self.longest = getattr(config, "max_position_embeddings", None)
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])
        self.windows = _windows(model)
        with evaluating(model):
            self.head: PlainHead | OwnHead = self._checked_head()

    def prefix(self, ids: Sequence[int]) -> Prefix:
        """Keys and values of a beginning that all prompts share."""
        cache = recording(None)
        self.head.states(1, input_ids=torch.tensor([list(ids)], device=self.device), past_key_values=cache)
        return recorded(cache)

    def read(self, prompts: Sequence[Sequence[int]], room: int, prefix: Prefix | None = None) -> Prompts:
        """One pass over a batch of prompts of at least one token."""
        begun = 0 if prefix is None else prefix.length
        longest, shortest = max(map(len, prompts)), min(map(len, prompts))
        ids_BP = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in prompts])
        lengths_B = torch.tensor([len(row) for row in prompts], device=self.device)
        held = [None] * self.layers if prefix is None else prefix.layers
        cache = Cache(layers=[RoomLayer(longest + room, pair) for pair in held])
        keep = longest - shortest + 1
        states = self.head.states(keep, input_ids=ids_BP.to(self.device), past_key_values=cache)
        last = states[torch.arange(len(prompts), device=self.device), lengths_B - shortest]
        none = torch.empty(0, dtype=torch.long, device=self.device)
        return Prompts(lengths_B + begun, last, cache, longest + begun, none)

    def grow(self, prompts: Prompts, ids_BT: Tensor, depths_T: Tensor, seen_BTn: Tensor) -> Tensor:
        """By positions and a mask."""
        prompts.depths_n = torch.cat([prompts.depths_n, depths_T])
        positions_BT = prompts.lengths_B[:, None] + depths_T
        behind_P = torch.arange(prompts.width, device=self.device)
        read_BTP = (behind_P < prompts.lengths_B[:, None])[:, None].expand(-1, len(depths_T), -1)
        seen_BTn = torch.cat([read_BTP, seen_BTn.expand(len(read_BTP), -1, -1)], dim=2)
        tree_Bn = prompts.lengths_B[:, None] + prompts.depths_n
        places_Bn = torch.cat([behind_P.expand(len(tree_Bn), -1), tree_Bn], dim=1)
        masks = self.masks(seen_BTn, positions_BT, places_Bn)
        given = {"input_ids": ids_BT, "position_ids": positions_BT, "attention_mask": masks}
        return self.head.states(0, **given, past_key_values=prompts.cache)

    def masks(self, seen_BTn: Tensor, positions_BT: Tensor, places_Bn: Tensor) -> Tensor | dict[str, Tensor]:
        """What is added to attention [B, 1, T, n], 0 where a token sees another; by kind of layer if several."""
        masks, dtype = {}, self.model.dtype
        for kind, window in self.windows.items():
            near = seen_BTn
            if window is not None:
                near = near & (positions_BT[..., None] - places_Bn[:, None] < window)
            zeros = torch.zeros(near.shape, dtype=dtype, device=near.device)
            masks[kind] = zeros.masked_fill_(~near, torch.finfo(dtype).min)[:, None]
        return masks if len(masks) > 1 else next(iter(masks.values()))

    @torch.no_grad()
    def _checked_head(self) -> PlainHead | OwnHead:
        """The first head under which a tree gives the plain model's logits."""
        for make in (LlamaHead, PlainHead, OwnHead):
            try:
                self.head = head = make(self.model)
                if self._agrees():
                    return head
            except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError):
                continue  # a model of another make: what fails here would fail in use
        raise UserError(
            f"{type(self.model).__name__} (attention: {self.model.config._attn_implementation}) doesn't keep "
            "beams apart by masks and positions; load it with attn_implementation='sdpa' or 'eager', or take "
            "another model"
        )

    def _agrees(self) -> bool:
        """Two prompts, each with two beams of two tokens, against the plain model."""
        ids = torch.arange(10, device=self.device) * 7 % self.vocabulary
        prompts = [ids[:4].tolist(), ids[4:6].tolist()]
        beams = ids[6:].reshape(2, 2)  # [depth, beam]
        read = self.read(prompts, room=4)
        depths = torch.tensor([0, 0, 1, 1], device=self.device)
        seen = torch.eye(2, dtype=torch.bool, device=self.device).repeat(2, 2)[None].tril()
        states = self.grow(read, beams.reshape(1, 4).expand(2, -1), depths, seen)
        ends = torch.cat([read.last[:, None], states[:, 2:]], dim=1)
        found = self.head.vocabulary(ends)
        for user, beam in ((0, 0), (0, 1), (1, 0), (1, 1)):
            length = len(prompts[user])
            plain_ids = torch.tensor([[*prompts[user], *beams[:, beam].tolist()]], device=self.device)
            wanted = self.model(input_ids=plain_ids).logits[0, [length - 1, length + 1]].float()
            if wanted.isnan().any():
                raise UserError("the model's output is not a number: its weights are damaged")
            if not _close(found[user, [0, 1 + beam]], wanted, self.model.dtype):
                return False
        # A module with a forward of its own is more than the rows of its weights.
        return _close(self.head.rows(ends, ids), found[..., ids], self.model.dtype)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout inside the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _close(found: Tensor, wanted: Tensor, dtype: torch.dtype) -> bool:
    allowed = 1e-3 if dtype in (torch.float32, torch.float64) else 5e-2
    return bool((found - wanted).abs().max() <= allowed * wanted.abs().max())


def _windows(model: PreTrainedModel) -> dict[str, int | None]:
    """How far each kind of attention layer looks back; None: to the beginning."""
    config = model.config.get_text_config()
    window: int | None = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return {"full_attention": window}
    if unknown := set(kinds) - {"full_attention", "sliding_attention"}:
        raise UserError(
            f"{type(model).__name__} has layers of {', '.join(sorted(unknown))}: beams need full or sliding attention"
        )
    return {kind: window if kind == "sliding_attention" else None for kind in sorted(set(kinds))}
