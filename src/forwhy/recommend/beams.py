"""Beam search over the items that exist, and exact scores of all of them.

Shapes: B users, K beams, N items, L levels, W codes of a level, M most children of a node, T tokens of the tree, n
tokens so far.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from forwhy.errors import UserError
from forwhy.recommend.causal import ReadPrompts, TreeModel, TreeReader, evaluating
from forwhy.recommend.head import Normalise
from forwhy.recommend.trie import CodeTrie

SHARED_TOKENS = 256
"""A common beginning is read once when it saves at least this many tokens of a call."""
LOWEST = -1e30
"""Log-probability of a legal code that the model gives none: still above any that does not exist."""
TREE_TOKENS = 256
"""At most so many tokens of the tree in one pass, summed over users: the mask grows with their square."""
Tensors = Sequence[Tensor]
TokenRows = Sequence[Sequence[int]]


class Beams(NamedTuple):
    """The best items of each user, best first; on the CPU."""

    items: Tensor
    """[B, k] item numbers."""
    scores: Tensor
    """[B, k] sums of the codes' log-probabilities, float32."""


@dataclass
class _Search:
    """Beams in the order of their prefixes, which is what breaks ties; scores follow."""

    nodes_BK: Tensor
    scores_BK: Tensor
    codes_BK: Tensor
    """The last code of each beam: chosen, not yet read by the model."""
    seen_BKn: Tensor
    """Which tokens of the tree are a beam's own."""


class BeamDecoder:
    """Finds each user's best items by the codes a causal language model would write after a prompt.

    Exact beam search of fixed length, without end token or length penalty; a score is the sum of the codes'
    log-probabilities (see `head.Normalise`). Items that do not exist can't be found. Ties go to the lower code. The
    result does not depend on the batch, but for rounding.
    Cost per user: one pass over the prompt, then one over K tokens per level but the first, and at each level the
    head's rows of its codes (all rows under `vocab`). Once all beams of a batch have one item left, the remaining codes
    take one pass together (none under `legal`). A common beginning of all prompts is read once. Memory: keys and values
    of `batch` prompts and their beams.
    """

    def __init__(
        self,
        model: PreTrainedModel | TreeReader,
        trie: CodeTrie,
        level_token_ids: Tensors,
        normalise: Normalise = "vocab",
        beam: int = 20,
        batch: int = 32,
    ) -> None:
        """Check that model, trie and tokens belong together.

        Args:
            model: Any Hugging Face causal language model with full or sliding attention, or what reads as one.
            trie: The items' codes.
            level_token_ids: Per level, the token that stands for each code.
            normalise: What a code's probability is shared with.
            beam: Beams per user, K; no more are kept than there are nodes.
            batch: Users in one pass; prompts of similar length go together.

        Raises:
            UserError: tokens and trie disagree, tokens are not the model's, or the model can't be used.
        """
        if beam < 1:
            raise UserError(f"beam is {beam}: keep at least one")
        if batch < 1:
            raise UserError(f"batch is {batch}: read at least one prompt at a time")
        self.lm: TreeReader = TreeModel(model) if isinstance(model, PreTrainedModel) else model
        self.trie = trie.to(self.lm.device)
        self.ids = _checked_ids(trie, level_token_ids, self.lm)
        self.normalise, self.beam, self.batch = normalise, beam, batch

    @torch.no_grad()
    def search(self, prompts: TokenRows, k: int | None = None) -> Beams:
        """The best `k` (`beam` where None) items of each prompt of token ids; all where the catalogue is smaller.

        Raises:
            UserError: an empty prompt, a token that the model lacks, a prompt too long for it, `k` above `beam` or
                below 1, or a model whose output is not a number.
        """
        k = self.beam if k is None else k
        if not 1 <= k <= self.beam:
            raise UserError(
                f"k is {k} with {self.beam} beams: ask for 1 to {self.beam} items or widen the beam"
            )
        count = min(k, len(self.trie))
        items = torch.empty(len(prompts), count, dtype=torch.long)
        scores = torch.empty(len(prompts), count)
        steps = self.trie.levels - 1
        for rows, read in self.passes(prompts, room=min(self.beam, len(self.trie)) * steps):
            leaves_BK, scores_BK = self.leaves(read)
            best_BK, order_BK = scores_BK.sort(dim=1, descending=True, stable=True)
            found_BK = self.trie.items[leaves_BK.gather(1, order_BK)]
            items[rows], scores[rows] = found_BK[:, :count].long().cpu(), best_BK[:, :count].cpu()
        if scores.isnan().any():
            raise UserError(
                "the model's output is not a number: its weights are damaged or its precision too low"
            )
        return Beams(items, scores)

    def passes(
        self, prompts: TokenRows, room: int, batch: int = 0
    ) -> Iterator[tuple[list[int], ReadPrompts]]:
        """Prompts read in batches of similar length, of `batch` or else the decoder's, and the rows they came from."""
        self._check(prompts)
        batch = batch or self.batch
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        shared = _common(prompts)
        with evaluating(self.lm.model):
            prefix = self.lm.prefix(prompts[0][:shared]) if shared else None
            shared = 0 if prefix is None else shared
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                yield rows, self.lm.read([prompts[row][shared:] for row in rows], room, prefix)

    def _check(self, prompts: TokenRows) -> None:
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

    def codes(self, states: Tensor, level: int) -> Tensor:
        """[..., W] log-probabilities of all codes of a level; not normalised yet under `legal`."""
        if self.normalise == "vocab":
            logits = self.lm.head.vocabulary(states)
            return logits[..., self.ids[level]] - logits.logsumexp(dim=-1, keepdim=True)
        logits = self.lm.head.rows(states, self.ids[level])
        return logits if self.normalise == "legal" else logits.log_softmax(dim=-1)

    def children(self, states: Tensor, level: int, child: Tensor, code: Tensor) -> Tensor:
        """[..., M] log-probabilities of children as `Depth.below` gives them; -inf where there is none."""
        values = self.codes(states, level).gather(-1, code)
        values = values.clamp_min(LOWEST).masked_fill(child < 0, -torch.inf)
        return values.log_softmax(dim=-1) if self.normalise == "legal" else values

    def leaves(self, read: ReadPrompts) -> tuple[Tensor, Tensor]:
        """Leaves [B, K] of the best items, in the order of their codes, and their scores."""
        root_B1 = torch.zeros(len(read.lengths_B), 1, dtype=torch.long, device=self.lm.device)
        none_B10 = torch.zeros(*root_B1.shape, 0, dtype=torch.bool, device=self.lm.device)
        search, states = _Search(root_B1, root_B1.float(), root_B1, none_B10), read.last[:, None]
        for level in range(self.trie.levels):
            saves = self.trie.levels - level > 1 or self.normalise == "legal"
            if level and saves and self.trie.determined(search.nodes_BK, level):
                return self._tail(read, search, level)
            if level:
                states = self._read_codes(read, search, level)
            search = self._expand(states, search, level)
        return search.nodes_BK, search.scores_BK

    def _read_codes(self, read: ReadPrompts, search: _Search, level: int) -> Tensor:
        """The model's states after each beam's last code; the code joins what the beam has seen."""
        users, beams = search.codes_BK.shape
        own_KK = torch.eye(beams, dtype=torch.bool, device=self.lm.device)
        search.seen_BKn = torch.cat([search.seen_BKn, own_KK.expand(users, -1, -1)], dim=2)
        depths_K = torch.full((beams,), level - 1, device=self.lm.device)
        return self.lm.grow(read, self.ids[level - 1][search.codes_BK], depths_K, search.seen_BKn)

    def _expand(self, states: Tensor, search: _Search, level: int) -> _Search:
        """The best children of all beams, in the order of their prefixes."""
        depth = self.trie.depths[level]
        child_BKM, code_BKM = depth.below(search.nodes_BK)
        gains_BKM = self.children(states, level, child_BKM, code_BKM)
        total_BC = (search.scores_BK[..., None] + gains_BKM).flatten(1)
        picked_BK = best(total_BC, min(self.beam, len(depth.code)))
        parent_BK = picked_BK // child_BKM.shape[2]
        return _Search(
            child_BKM.flatten(1).gather(1, picked_BK),
            total_BC.gather(1, picked_BK),
            code_BKM.flatten(1).gather(1, picked_BK),
            search.seen_BKn.gather(1, parent_BK[..., None].expand(-1, -1, search.seen_BKn.shape[2])),
        )

    def _tail(self, read: ReadPrompts, search: _Search, level: int) -> tuple[Tensor, Tensor]:
        """The remaining codes of determined items, all in one pass over every beam."""
        codes, nodes_BK = [search.codes_BK], search.nodes_BK
        for depth in self.trie.depths[level:]:
            nodes_BK = depth.start[nodes_BK].long()
            codes.append(depth.code[nodes_BK].long())
        if self.normalise == "legal":
            return nodes_BK, search.scores_BK
        scores_BK = search.scores_BK
        for step, states in enumerate(self._chain(read, codes[:-1], level - 1, search.seen_BKn)):
            gains = self.codes(states, level + step).gather(-1, codes[step + 1][..., None])
            scores_BK = scores_BK + gains[..., 0].clamp_min(LOWEST)
        return nodes_BK, scores_BK

    def _chain(self, read: ReadPrompts, codes: Tensors, level: int, seen_BKn: Tensor) -> Tensors:
        """States [B, K, ...] after each of the codes, of `level` on, that beams read one behind the other: one pass."""
        steps, beams = len(codes), seen_BKn.shape[1]
        ids = [self.ids[level + step][codes[step]] for step in range(steps)]
        depths = torch.arange(level, level + steps, device=self.lm.device)
        chain = torch.eye(beams, dtype=torch.bool, device=self.lm.device).repeat(steps, steps).tril()
        seen = torch.cat([seen_BKn.repeat(1, steps, 1), chain.expand(len(seen_BKn), -1, -1)], dim=2)
        states = self.lm.grow(read, torch.cat(ids, dim=1), depths.repeat_interleave(beams), seen)
        return torch.split(states, beams, dim=1)

    def of_codes(self, read: ReadPrompts, codes_BKL: Tensor) -> Tensor:
        """[B, K] scores of given paths of codes; K (L - 1) tokens of an empty tree. Not under `legal`."""
        codes, last_B1 = codes_BKL.unbind(2), read.last[:, None]
        states = [last_B1.expand(-1, codes_BKL.shape[1], *last_B1.shape[2:])]
        if codes[1:]:
            none_BK0 = torch.zeros(*codes_BKL.shape[:2], 0, dtype=torch.bool, device=self.lm.device)
            states += self._chain(read, codes[:-1], 0, none_BK0)
        gains = [self.codes(*pair) for pair in zip(states, range(self.trie.levels), strict=True)]
        picked = [gain.gather(-1, code[..., None]) for gain, code in zip(gains, codes, strict=True)]
        return torch.cat(picked, dim=2).clamp_min(LOWEST).sum(2)

    # --- the whole catalogue: the trie laid out behind each prompt, a run of items at a time

    @torch.no_grad()
    def exact(self, prompts: TokenRows) -> Tensor:
        """[B, N] scores of all items by number, float32, on the CPU: what a search with as many beams finds.

        Cost per user: one pass over the prompt and over every node of the trie but leaves; 4 bytes per user and item.
        """
        items, inner = self.trie.items, max(1, self.trie.levels - 1)
        leaves = max(1, TREE_TOKENS // inner)
        scores = torch.empty(len(prompts), len(items))
        users = max(1, min(self.batch, TREE_TOKENS // inner // min(leaves, len(items))))
        for rows, read in self.passes(prompts, leaves * inner, users):
            for first in range(0, len(items), leaves):
                last = min(first + leaves, len(items))
                cells = torch.tensor(rows)[:, None], items[first:last].long().cpu()
                scores[cells] = self._scored(read, first, last).cpu()
                read.prune()
        return scores

    def _scored(self, read: ReadPrompts, first: int, last: int) -> Tensor:
        # From the root down: the first node above the run at each depth and the one behind the last [L + 1], and for
        # each depth below the root the place of every node's parent in its span [L].
        spans, parents = [(first, last)], list[Tensor]()
        for depth in reversed(self.trie.depths):
            above = depth.parents(*spans[0])
            spans.insert(0, (int(above[0]), int(above[-1]) + 1))
            parents.insert(0, above - above[0])
        states = [read.last[:, None], *self._states(read, spans[1:-1], parents)]
        total = torch.zeros(len(read.lengths_B), 1, device=self.lm.device)
        for level, depth in enumerate(self.trie.depths):
            child, code = depth.below(torch.arange(*spans[level], device=self.lm.device)[None])
            code = code.expand(len(total), -1, -1)
            gains = self.children(states[level], level, child, code)[:, child[0] >= 0]
            # Children of the span's nodes are a run too, which the leaves wanted may begin and end within.
            begin = int(depth.start[spans[level][0]])
            wanted = slice(*(node - begin for node in spans[level + 1]))
            total = total[:, parents[level]] + gains[:, wanted]
        return total

    def _states(self, read: ReadPrompts, spans: Sequence[tuple[int, int]], parents: Tensors) -> Tensors:
        """The model's states at the nodes of each depth but root and leaves, in one pass."""
        if not spans:
            return []
        device, sizes = self.lm.device, [last - first for first, last in spans]
        codes = [depth.code[slice(*it)].long() for depth, it in zip(self.trie.depths, spans, strict=False)]
        ids = torch.cat([of_codes[code] for of_codes, code in zip(self.ids, codes, strict=False)])
        depths = torch.arange(len(sizes), device=device).repeat_interleave(torch.tensor(sizes, device=device))
        # A token sees itself and what its parent sees.
        seen_TT = torch.eye(len(ids), dtype=torch.bool, device=device)
        begin = 0
        for size, below, above in zip(sizes, sizes[1:], parents[1:], strict=False):
            seen_TT[begin + size : begin + size + below] |= seen_TT[begin + above]
            begin += size
        states = self.lm.grow(read, ids.expand(len(read.lengths_B), -1), depths, seen_TT[None])
        return torch.split(states, sizes, dim=1)


def best(total_BC: Tensor, count: int) -> Tensor:
    """Positions [B, count] of the greatest numbers, ascending; the earlier of equals, which torch.topk leaves open."""
    if count == total_BC.shape[1]:
        return torch.arange(count, device=total_BC.device).expand(len(total_BC), -1)
    last_B1 = total_BC.topk(count, dim=1).values[:, -1:]
    above_BC, at_BC = total_BC > last_B1, total_BC == last_B1
    free_B1 = count - above_BC.sum(dim=1, keepdim=True)
    taken_BC = above_BC | (at_BC & (at_BC.cumsum(dim=1) <= free_B1))
    place_BC = torch.where(taken_BC, taken_BC.cumsum(dim=1) - 1, count)
    positions_BC = torch.arange(total_BC.shape[1], device=total_BC.device).expand_as(total_BC)
    found = torch.zeros(len(total_BC), count + 1, dtype=torch.long, device=total_BC.device)
    return found.scatter_(1, place_BC, positions_BC)[:, :count]


def _common(prompts: TokenRows) -> int:
    """Length of the beginning that all prompts share, where reading it once pays; each keeps a token."""
    if len(prompts) < 2:
        return 0
    begun = commonprefix([list(prompt) for prompt in prompts])  # os.path's, which compares any lists
    length = min(len(begun), *(len(prompt) - 1 for prompt in prompts))
    return length if length * (len(prompts) - 1) >= SHARED_TOKENS else 0


def _checked_ids(trie: CodeTrie, level_token_ids: Tensors, lm: TreeReader) -> list[Tensor]:
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
