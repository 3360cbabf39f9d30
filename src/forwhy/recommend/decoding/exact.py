"""What beam search needs of a model: it reads prompts, and trees of codes behind them.

`TreeModel` is that for causal language models, `tiger.reader.HistoryReader` for an encoder and a decoder.
Shapes: B users, T new tokens of a tree, n tokens of the tree so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from forwhy.bridge.cache import Prefix
from forwhy.errors import UserError
from forwhy.recommend.decoding.causal import TreeModel, evaluating
from forwhy.recommend.decoding.head import CodeHead, LevelHead, Normalise
from forwhy.recommend.decoding.trie import CodeTrie


class Reading(Protocol):
    """A batch of prompts that was read, and the tree behind them."""

    lengths_B: Tensor
    last: Tensor
    """States [B, ...] that predict the first code."""

    def prune(self) -> None:
        """Forget the tree, keep the prompts."""


class TreeReader(Protocol):
    """A model that reads prompts once and lets all beams of a user share them."""

    @property
    def model(self) -> nn.Module:
        """Whose dropout is off while it reads."""

    @property
    def head(self) -> CodeHead:
        """From states to log-probabilities of codes."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    @property
    def vocabulary(self) -> int:
        """Tokens that it knows."""

    @property
    def longest(self) -> int | None:
        """Positions that it has, prompt and codes together; None: any number."""

    def prefix(self, ids: Sequence[int]) -> Prefix | None:
        """What all prompts begin with, read once; None where prompts can only be read whole."""

    def read(self, prompts: Sequence[Sequence[int]], room: int, prefix: Prefix | None = None) -> Reading:
        """Prompts, without the beginning that `prefix` holds; the tree may come to `room` tokens."""

    def grow(self, prompts: Any, ids_BT: Tensor, depths_T: Tensor, seen_BTn: Tensor) -> Tensor:  # noqa: ANN401
        """States [B, T, ...] of new tokens of the tree of what `read` gave; see `TreeModel.grow`."""


# --- Prompts of many users, checked, sorted by length and read in batches: what every way to decode begins with.
#
# Shapes: B users.


SHARED_TOKENS = 256
"""A common beginning is read once when it saves at least this many tokens of a call."""


class ItemReader:
    """A model, the items' trie and the tokens that write its codes, known to belong together."""

    def __init__(
        self,
        model: PreTrainedModel | TreeReader,
        trie: CodeTrie,
        level_token_ids: Sequence[Tensor],
        normalise: Normalise,
        batch: int,
    ) -> None:
        """As `BeamDecoder`."""
        if batch < 1:
            raise UserError(f"batch is {batch}: read at least one prompt at a time")
        self.lm: TreeReader = TreeModel(model) if isinstance(model, PreTrainedModel) else model
        self.trie = trie.to(self.lm.device)
        self.ids = _checked_ids(trie, level_token_ids, self.lm)
        self.head = LevelHead(self.lm.head, self.ids, normalise)
        self.batch = batch

    def passes(
        self, prompts: Sequence[Sequence[int]], room: int, batch: int | None = None
    ) -> Iterator[tuple[list[int], Reading]]:
        """Prompts read in batches of similar length, with the rows they came from."""
        self._check(prompts)
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        shared = _common(prompts)
        with evaluating(self.lm.model):
            prefix = self.lm.prefix(prompts[0][:shared]) if shared else None
            shared = 0 if prefix is None else shared
            for start in range(0, len(order), batch or self.batch):
                rows = order[start : start + (batch or self.batch)]
                yield rows, self.lm.read([prompts[row][shared:] for row in rows], room, prefix)

    def _check(self, prompts: Sequence[Sequence[int]]) -> None:
        for row, prompt in enumerate(prompts):
            if not len(prompt):
                raise UserError(f"prompt {row} is empty: it needs at least one token")
            if min(prompt) < 0 or max(prompt) >= self.lm.vocabulary:
                raise UserError(f"prompt {row} holds a token outside the model's 0..{self.lm.vocabulary - 1}")
            if self.lm.longest is not None and len(prompt) + self.trie.levels - 1 > self.lm.longest:
                raise UserError(
                    f"prompt {row} has {len(prompt)} tokens; with {self.trie.levels} codes the model takes at "
                    f"most {self.lm.longest - self.trie.levels + 1}: shorten the history"
                )


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the beginning that all prompts share, where reading it once pays; each keeps a token."""
    if len(prompts) < 2:
        return 0
    low, high = min(prompts, key=list), max(prompts, key=list)  # what these two share, all share
    most = min(map(len, prompts)) - 1
    length = next((at for at in range(most) if low[at] != high[at]), most)
    return length if length * (len(prompts) - 1) >= SHARED_TOKENS else 0


def _checked_ids(trie: CodeTrie, level_token_ids: Sequence[Tensor], lm: TreeReader) -> list[Tensor]:
    if len(level_token_ids) != trie.levels:
        raise UserError(
            f"{len(level_token_ids)} levels of tokens for {trie.levels} codes per item: index and model differ"
        )
    for level, (ids, depth) in enumerate(zip(level_token_ids, trie.depths, strict=True)):
        distinct = len(set(ids.tolist()))
        if not distinct == len(ids) == depth.width:
            raise UserError(
                f"level {level}: {distinct} tokens for {depth.width} codes: each code needs a token of "
                "its own; index and model differ"
            )
        if int(ids.min()) < 0 or int(ids.max()) >= lm.vocabulary:
            raise UserError(
                f"level {level}: token {int(ids.max())} is outside the model's {lm.vocabulary}: add the index "
                "tokens to the model first"
            )
    return [ids.to(lm.device) for ids in level_token_ids]


# --- The whole catalogue scored: the trie laid out behind each prompt, a run of items at a time.
#
# Shapes: B users, N items, T tokens of a run's tree, M most children of a node of a depth.


TREE_TOKENS = 256
"""At most so many tokens of the tree in one pass, summed over users: the mask grows with their square."""


@dataclass(frozen=True)
class _Run:
    """A run of leaves and all that lies above them, depth by depth."""

    spans: tuple[tuple[int, int], ...]
    """[L + 1] from the root down: first node of the run, and the one behind its last."""
    parents: tuple[Tensor, ...]
    """[L] for each depth below the root, the place of each node's parent in its span."""


def exact_scores(decoder: ItemReader, prompts: Sequence[Sequence[int]]) -> Tensor:
    """`BeamDecoder.exact_scores`."""
    trie = decoder.trie
    inner = max(1, trie.levels - 1)
    leaves = max(1, TREE_TOKENS // inner)
    scores = torch.empty(len(prompts), len(trie))
    users = max(1, min(decoder.batch, TREE_TOKENS // inner // min(leaves, len(trie))))
    with torch.no_grad():
        for rows, read in decoder.passes(prompts, room=leaves * inner, batch=users):
            for run in _runs(trie, leaves):
                first, last = run.spans[-1]
                items = trie.items[first:last].long().cpu()
                scores[torch.tensor(rows)[:, None], items] = _scored(decoder, read, run).cpu()
                read.prune()
    return scores


def exact_ranks(
    decoder: ItemReader, prompts: Sequence[Sequence[int]], targets: Sequence[int] | None = None
) -> Tensor:
    """`BeamDecoder.exact_rank`."""
    if targets is not None:
        _check_targets(targets, len(prompts), len(decoder.trie))
    leaf_items = decoder.trie.items.long().cpu()
    leaf_scores = exact_scores(decoder, prompts)[:, leaf_items]
    order = leaf_scores.sort(dim=1, descending=True, stable=True).indices
    ranks = torch.empty_like(order)
    places = torch.arange(1, order.shape[1] + 1).expand_as(order)
    ranks.scatter_(1, leaf_items[order], places)
    return ranks if targets is None else ranks.gather(1, torch.tensor(targets)[:, None])[:, 0]


def _check_targets(targets: Sequence[int], prompts: int, items: int) -> None:
    if len(targets) != prompts:
        raise UserError(f"{len(targets)} targets for {prompts} prompts: give one each")
    for row, target in enumerate(targets):
        if not 0 <= target < items:
            raise UserError(f"target {row} is item {target}: the catalogue has items 0..{items - 1}")


def _runs(trie: CodeTrie, leaves: int) -> Iterator[_Run]:
    for first in range(0, len(trie), leaves):
        spans = [(first, min(first + leaves, len(trie)))]
        parents: list[Tensor] = []
        for depth in reversed(trie.depths):
            above = depth.parents(*spans[0])
            span = int(above[0]), int(above[-1]) + 1
            spans.insert(0, span)
            parents.insert(0, above - span[0])
        yield _Run(tuple(spans), tuple(parents))


def _scored(decoder: ItemReader, read: Reading, run: _Run) -> Tensor:
    """[B, leaves of the run]."""
    states = [read.last[:, None], *_states(decoder, read, run)]
    total = torch.zeros(len(read.lengths_B), 1, device=decoder.lm.device)
    for level, depth in enumerate(decoder.trie.depths):
        child, code = depth.below(torch.arange(*run.spans[level], device=decoder.lm.device)[None])
        gains = decoder.head.children(
            states[level], level, child, None if code is None else code.expand(len(total), -1, -1)
        )[:, child[0] >= 0]
        # Children of the span's nodes are a run too, which the leaves wanted may begin and end within.
        begin = int(depth.start[run.spans[level][0]])
        first, last = run.spans[level + 1]
        total = total[:, run.parents[level]] + gains[:, first - begin : last - begin]
    return total


def _states(decoder: ItemReader, read: Reading, run: _Run) -> Sequence[Tensor]:
    """The model's states at the run's nodes of each depth but root and leaves, in one pass."""
    lm, trie = decoder.lm, decoder.trie
    sizes = [last - first for first, last in run.spans[1:-1]]
    if not sizes:
        return []
    ids = [
        decoder.ids[level][trie.depths[level].code[slice(*span)].long()]
        for level, span in enumerate(run.spans[1:-1])
    ]
    depths = [torch.full((size,), depth, device=lm.device) for depth, size in enumerate(sizes)]
    tokens = torch.cat(ids).expand(len(read.lengths_B), -1)
    states = lm.grow(read, tokens, torch.cat(depths), _ancestors(run, sizes)[None])
    return torch.split(states, sizes, dim=1)


def _ancestors(run: _Run, sizes: Sequence[int]) -> Tensor:
    """[T, T] true where a token is an ancestor of another, or itself."""
    device = run.parents[0].device
    seen = torch.zeros(sum(sizes), sum(sizes), dtype=torch.bool, device=device)
    begin = 0
    for depth, size in enumerate(sizes):
        if depth:
            above = begin - sizes[depth - 1]
            seen[begin : begin + size] = seen[above + run.parents[depth]]
        seen[begin : begin + size, begin : begin + size] = torch.eye(size, dtype=torch.bool, device=device)
        begin += size
    return seen
