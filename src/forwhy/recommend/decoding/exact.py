"""The whole catalogue scored: the trie laid out behind each prompt, a run of items at a time.

Shapes: B users, N items, T tokens of a run's tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forwhy.recommend.decoding.beams import BeamDecoder, Reading
from forwhy.recommend.decoding.trie import CodeTrie

TREE_TOKENS = 256
"""At most so many tokens of the tree in one pass, summed over users: the mask grows with their square."""


@dataclass(frozen=True)
class _Run:
    """A run of leaves and all that lies above them, depth by depth."""

    spans: tuple[tuple[int, int], ...]
    """[L + 1] from the root down: first node of the run, and the one behind its last."""
    parents: tuple[Tensor, ...]
    """[L] for each depth below the root, the place of each node's parent in its span."""


def exact_scores(decoder: BeamDecoder, prompts: Sequence[Sequence[int]]) -> Tensor:
    """[B, N] scores of all items in the order of their numbers, float32 on the CPU.

    What a search with as many beams as items finds.
    Cost per user: one pass over the prompt and over every node of the trie but leaves; 4 bytes per user and item.

    Raises:
        UserError: as `BeamDecoder.search`.
    """
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


def _scored(decoder: BeamDecoder, read: Reading, run: _Run) -> Tensor:
    """[B, leaves of the run]."""
    states = [read.last[:, None], *_states(decoder, read, run)]
    total = torch.zeros(len(read.lengths_B), 1, device=decoder.lm.device)
    for level, depth in enumerate(decoder.trie.depths):
        child, code = depth.below(torch.arange(*run.spans[level], device=decoder.lm.device)[None])
        code = code.expand(len(total), -1, -1)
        gains = decoder.head.children(states[level], level, child, code)[:, child[0] >= 0]
        # Children of the span's nodes are a run too, which the leaves wanted may begin and end within.
        begin = int(depth.start[run.spans[level][0]])
        first, last = run.spans[level + 1]
        total = total[:, run.parents[level]] + gains[:, first - begin : last - begin]
    return total


def _states(decoder: BeamDecoder, read: Reading, run: _Run) -> Sequence[Tensor]:
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
