"""The whole catalogue scored: the trie laid out behind each prompt, a run of items at a time.

Shapes: B users, N items, L levels, T tokens of a run's tree.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from forwhy.recommend.decoding.beams import BeamDecoder, ReadPrompts

TREE_TOKENS = 256
"""At most so many tokens of the tree in one pass, summed over users: the mask grows with their square."""


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
            for first in range(0, len(trie), leaves):
                last = min(first + leaves, len(trie))
                items = trie.items[first:last].long().cpu()
                scores[torch.tensor(rows)[:, None], items] = _scored(decoder, read, first, last).cpu()
                read.prune()
    return scores


def _scored(decoder: BeamDecoder, read: ReadPrompts, first: int, last: int) -> Tensor:
    """[B, last - first] scores of a run of leaves."""
    # From the root down: the first node above the run at each depth and the one behind the last [L + 1], and for
    # each depth below the root the place of every node's parent in its span [L].
    spans, parents = [(first, last)], list[Tensor]()
    for depth in reversed(decoder.trie.depths):
        above = depth.parents(*spans[0])
        spans.insert(0, (int(above[0]), int(above[-1]) + 1))
        parents.insert(0, above - above[0])
    states = [read.last[:, None], *_states(decoder, read, spans[1:-1], parents)]
    total = torch.zeros(len(read.lengths_B), 1, device=decoder.lm.device)
    for level, depth in enumerate(decoder.trie.depths):
        child, code = depth.below(torch.arange(*spans[level], device=decoder.lm.device)[None])
        code = code.expand(len(total), -1, -1)
        gains = decoder.children(states[level], level, child, code)[:, child[0] >= 0]
        # Children of the span's nodes are a run too, which the leaves wanted may begin and end within.
        begin = int(depth.start[spans[level][0]])
        total = total[:, parents[level]] + gains[:, spans[level + 1][0] - begin : spans[level + 1][1] - begin]
    return total


def _states(
    decoder: BeamDecoder, read: ReadPrompts, spans: Sequence[tuple[int, int]], parents: Sequence[Tensor]
) -> Sequence[Tensor]:
    """The model's states at the nodes of each depth but root and leaves, in one pass."""
    if not spans:
        return []
    device, sizes = decoder.lm.device, [last - first for first, last in spans]
    codes = [depth.code[slice(*span)].long() for depth, span in zip(decoder.trie.depths, spans, strict=False)]
    ids = torch.cat([of_codes[code] for of_codes, code in zip(decoder.ids, codes, strict=False)])
    depths = torch.arange(len(sizes), device=device).repeat_interleave(torch.tensor(sizes, device=device))
    # A token sees itself and what its parent sees.
    seen_TT = torch.eye(len(ids), dtype=torch.bool, device=device)
    begin = 0
    for size, below, above in zip(sizes, sizes[1:], parents[1:], strict=False):
        seen_TT[begin + size : begin + size + below] |= seen_TT[begin + above]
        begin += size
    states = decoder.lm.grow(read, ids.expand(len(read.lengths_B), -1), depths, seen_TT[None])
    return torch.split(states, sizes, dim=1)
