"""Beam search over the items that exist.

Shapes: B users, K beams, W codes of a level, M most children of a node, T tokens of the tree, n tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from forwhy.errors import UserError
from forwhy.recommend.decoding.exact import ItemReader, Reading, TreeReader, exact_ranks, exact_scores
from forwhy.recommend.decoding.head import LOWEST, Normalise
from forwhy.recommend.decoding.trie import CodeTrie


@dataclass(frozen=True)
class Beams:
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


class BeamDecoder(ItemReader):
    """Finds each user's best items by the codes a causal language model would write after a prompt.

    Exact beam search of fixed length, without end token or length penalty; a score is the sum of the codes'
    log-probabilities (`normalise` in `head.py`). Items that do not exist can't be found. Ties go to the lower
    code. The result does not depend on the batch, but for rounding.
    Cost per user: one pass over the prompt, then one over K tokens per level but the first, and at each level
    the head's rows of its codes (all rows under `vocab`). Once all beams of a batch have one item left, the
    remaining codes take one pass together (none under `legal`). A common beginning of all prompts is read
    once. Memory: keys and values of `batch` prompts and their beams.
    """

    def __init__(
        self,
        model: PreTrainedModel | TreeReader,
        trie: CodeTrie,
        level_token_ids: Sequence[Tensor],
        normalise: Normalise = "vocab",
        beam: int = 20,
        batch: int = 32,
        forced_tails: bool = True,
    ) -> None:
        """Check that model, trie and tokens belong together.

        Args:
            model: Any Hugging Face causal language model with full or sliding attention, or what reads as one.
            trie: The items' codes.
            level_token_ids: Per level, the token that stands for each code.
            normalise: What a code's probability is shared with.
            beam: Beams per user, K; no more are kept than there are nodes.
            batch: Users in one pass; prompts of similar length go together. More only help where a processor
                is not yet busy.
            forced_tails: Read the codes of determined items in one pass; off only for comparison.

        Raises:
            UserError: tokens and trie disagree, tokens are not the model's, or the model can't be used.
        """
        if beam < 1:
            raise UserError(f"beam is {beam}: keep at least one")
        super().__init__(model, trie, level_token_ids, normalise, batch)
        self.beam, self.forced_tails = beam, forced_tails

    @torch.no_grad()
    def search(self, prompts: Sequence[Sequence[int]], k: int | None = None) -> Beams:
        """The best `k` items of each prompt; all of them where the catalogue is smaller.

        Args:
            prompts: Token ids of each user's prompt.
            k: At most `beam`; `beam` where None.

        Raises:
            UserError: an empty prompt, a token that the model lacks, a prompt too long for it, `k` above
                `beam` or below 1, or a model whose output is not a number.
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
            leaves_BK, scores_BK = self._leaves(read)
            best_BK, order_BK = scores_BK.sort(dim=1, descending=True, stable=True)
            found_BK = self.trie.items[leaves_BK.gather(1, order_BK)]
            items[rows], scores[rows] = found_BK[:, :count].long().cpu(), best_BK[:, :count].cpu()
        if scores.isnan().any():
            raise UserError(
                "the model's output is not a number: its weights are damaged or its precision too low"
            )
        return Beams(items, scores)

    def exact_scores(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """[B, N] scores of all items in the order of their numbers, float32 on the CPU.

        What a search with as many beams as items finds.
        Cost per user: one pass over the prompt and over every node of the trie but leaves; 4 bytes per user
        and item.

        Raises:
            UserError: as `search`.
        """
        return exact_scores(self, prompts)

    def exact_rank(self, prompts: Sequence[Sequence[int]], targets: Sequence[int] | None = None) -> Tensor:
        """Rank among all items, of every one [B, N] or of one target per user [B].

        1 is best; ties go to the lower code. Cost: that of `exact_scores`, and a sort.

        Raises:
            UserError: as `search`, or targets that are not one existing item per prompt.
        """
        return exact_ranks(self, prompts, targets)

    def _leaves(self, read: Reading) -> tuple[Tensor, Tensor]:
        """Leaves [B, K] in the order of their codes, and their scores."""
        search = self._first(read)
        for level in range(1, self.trie.levels):
            if self._determined(search, level):
                return self._tail(read, search, level)
            states = self._read_codes(read, search, level)
            search = self._expand(states, search, level)
        return search.nodes_BK, search.scores_BK

    def _first(self, read: Reading) -> _Search:
        users = len(read.lengths_B)
        root_B1 = torch.zeros(users, 1, dtype=torch.long, device=self.lm.device)
        zero_B1 = torch.zeros(users, 1, device=self.lm.device)
        seen_B10 = torch.zeros(users, 1, 0, dtype=torch.bool, device=self.lm.device)
        return self._expand(read.last[:, None], _Search(root_B1, zero_B1, root_B1, seen_B10), 0)

    def _determined(self, search: _Search, level: int) -> bool:
        """Whether every beam of the batch has one item left and a pass would be saved."""
        saves = self.trie.levels - level > 1 or self.head.normalise == "legal"
        if not self.forced_tails or not saves:
            return False
        return self.trie.determined(search.nodes_BK, level)

    def _read_codes(self, read: Reading, search: _Search, level: int) -> Tensor:
        """The model's states after each beam's last code; the code joins what the beam has seen."""
        beams = search.codes_BK.shape[1]
        search.seen_BKn = _with_own(search.seen_BKn)
        depths_K = torch.full((beams,), level - 1, device=self.lm.device)
        return self.lm.grow(read, self.ids[level - 1][search.codes_BK], depths_K, search.seen_BKn)

    def _expand(self, states: Tensor, search: _Search, level: int) -> _Search:
        """The best children of all beams, in the order of their prefixes."""
        depth = self.trie.depths[level]
        child_BKM, code_BKM = depth.below(search.nodes_BK)
        gains_BKM = self.head.children(states, level, child_BKM, code_BKM)
        total_BC = (search.scores_BK[..., None] + gains_BKM).flatten(1)
        picked_BK = best(total_BC, min(self.beam, depth.children))
        most = child_BKM.shape[2]
        parent_BK = picked_BK // most
        codes_BK = picked_BK % most if code_BKM is None else code_BKM.flatten(1).gather(1, picked_BK)
        return _Search(
            child_BKM.flatten(1).gather(1, picked_BK),
            total_BC.gather(1, picked_BK),
            codes_BK,
            search.seen_BKn.gather(1, parent_BK[..., None].expand(-1, -1, search.seen_BKn.shape[2])),
        )

    def _tail(self, read: Reading, search: _Search, level: int) -> tuple[Tensor, Tensor]:
        """The remaining codes of determined items, all in one pass over every beam."""
        codes, nodes_BK = [search.codes_BK], search.nodes_BK
        for depth in self.trie.depths[level:]:
            nodes_BK = depth.start[nodes_BK].long()
            codes.append(depth.code[nodes_BK].long())
        if self.head.normalise == "legal":
            return nodes_BK, search.scores_BK
        beams, steps = nodes_BK.shape[1], self.trie.levels - level
        ids = [self.ids[level - 1 + step][codes[step]] for step in range(steps)]
        depths = torch.arange(level - 1, self.trie.levels - 1, device=self.lm.device)
        seen = search.seen_BKn.repeat(1, steps, 1)
        chain = torch.eye(beams, dtype=torch.bool, device=self.lm.device).repeat(steps, steps).tril()
        seen = torch.cat([seen, chain.expand(len(seen), -1, -1)], dim=2)
        states = self.lm.grow(read, torch.cat(ids, dim=1), depths.repeat_interleave(beams), seen)
        scores_BK = search.scores_BK
        for step, chunk in enumerate(torch.split(states, beams, dim=1)):
            gains = self.head.codes(chunk, level + step).gather(-1, codes[step + 1][..., None])
            scores_BK = scores_BK + gains[..., 0].clamp_min(LOWEST)
        return nodes_BK, scores_BK


def best(total_BC: Tensor, count: int) -> Tensor:
    """Positions [B, count] of the greatest numbers, ascending; the earlier of equals.

    torch.topk leaves open which of equals it takes; here all above the last of them are taken, and as many at
    it as fit, from the left. No number of the host is needed.
    """
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


def _with_own(seen_BKn: Tensor) -> Tensor:
    """Each beam also sees its newest token: one per beam, in the order of beams."""
    users, beams, _ = seen_BKn.shape
    own = torch.eye(beams, dtype=torch.bool, device=seen_BKn.device)
    return torch.cat([seen_BKn, own.expand(users, -1, -1)], dim=2)
