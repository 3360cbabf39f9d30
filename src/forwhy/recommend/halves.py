"""Two names of an item decoded side by side: what it says and who takes it, each written alone after the history.

Under a trie a name of both sources is settled after its first half: the second half adds nothing. Here each half is a
name of its own, with a trie of its own, and both follow the history itself. What they say meets in item space:

    p(item) = (1 - w) p_first(item) + w p_second(item),

the probability of a mixture, whose one weight is learned on validation items.
Shapes: B users, N items, L levels, K beams, C candidates.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwhy.errors import UserError
from forwhy.recommend.beams import BeamDecoder, Beams, Tensors, TokenRows
from forwhy.recommend.causal import ReadPrompts, TreeReader
from forwhy.recommend.head import Normalise
from forwhy.recommend.trie import CodeTrie

NEVER_LESS = 0.01
"""Both halves keep this share: a few validation users silence neither."""


class HalvesDecoder:
    """Asked as a `BeamDecoder` is. A list is the best of what either half's beams found, by both halves' exact scores.

    So an item that stands in neither half's `beam` best is missed; with as many beams as items the list is exact.
    Cost per user: one pass over the prompt, and per half one over K tokens and one over 2 K for each level but one.
    """

    def __init__(
        self,
        lm: TreeReader,
        tries: list[CodeTrie],
        tokens: Tensors,
        normalise: Normalise,
        beam: int,
        share: float,
    ) -> None:
        """`tries`: of the first and second half of the codes; `share`: w. Else as `BeamDecoder`; no `legal`."""
        if normalise == "legal":
            raise UserError("halves decoded in parallel need normalise = 'level' or 'vocab'")
        cut = tries[0].levels
        ids = tokens[:cut], tokens[cut:]
        self.parts = [BeamDecoder(lm, *part, normalise, beam) for part in zip(tries, ids, strict=True)]
        self.codes = [torch.from_numpy(trie.codes_NL).to(lm.device) for trie in tries]
        self.longest = max(self.parts, key=lambda part: part.trie.levels)
        self.room, self.share = 2 * beam * (self.longest.trie.levels - 1), share

    @torch.no_grad()
    def search(self, prompts: TokenRows, k: int | None = None) -> Beams:
        """The best `k` items of each prompt; of equals the lower number. Errors: as `BeamDecoder.search`."""
        first = self.parts[0]
        count = min(first.beam if k is None else k, first.beam, len(first.trie))
        items = torch.empty(len(prompts), count, dtype=torch.long)
        scores = torch.empty(len(prompts), count)
        for rows, read in self.longest.passes(prompts, self.room):
            found_BC = torch.cat([self._found(part, read) for part in self.parts], dim=1).sort(dim=1).values
            twice_BC = torch.zeros_like(found_BC, dtype=torch.bool)
            twice_BC[:, 1:] = found_BC[:, 1:] == found_BC[:, :-1]
            fused_BC = self._fused(*self._of_items(read, found_BC)).masked_fill(twice_BC, -torch.inf)
            best_BC, order_BC = fused_BC.sort(dim=1, descending=True, stable=True)
            items[rows] = found_BC.gather(1, order_BC)[:, :count].cpu()
            scores[rows] = best_BC[:, :count].cpu()
        if scores.isnan().any():
            raise UserError("the model's output is not a number: its weights are damaged")
        return Beams(items, scores)

    def exact(self, prompts: TokenRows) -> Tensor:
        """[B, N] fused scores of all items; twice what one trie costs."""
        return self._fused(*(part.exact(prompts) for part in self.parts))

    @torch.no_grad()
    def of_targets(self, prompts: TokenRows, items_B: Tensor) -> Tensor:
        """[2, B] the log-probability that each half gives one item after each prompt."""
        found_2B = torch.empty(2, len(prompts))
        for rows, read in self.longest.passes(prompts, self.room):
            some_B1 = items_B[rows, None].to(read.lengths_B.device)
            found_2B[:, rows] = torch.stack(self._of_items(read, some_B1)).squeeze(2).cpu()
        return found_2B

    def _found(self, part: BeamDecoder, read: ReadPrompts) -> Tensor:
        leaves_BK, _ = part.leaves(read)
        read.prune()
        return part.trie.items[leaves_BK].long()

    def _of_items(self, read: ReadPrompts, items_BC: Tensor) -> list[Tensor]:
        found = []
        for part, codes_NL in zip(self.parts, self.codes, strict=True):
            found.append(part.of_codes(read, codes_NL[items_BC].long()))
            read.prune()
        return found

    def _fused(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.logaddexp(first + math.log(1 - self.share), second + math.log(self.share))


def likeliest_share(first_B: NDArray[np.float64], second_B: NDArray[np.float64]) -> float:
    """The w under which log((1 - w) e^first + w e^second), summed, is greatest; one half without numbers.

    By bisection: the sum is concave in w.
    """
    # Both less their greater one, so that none overflows.
    most_B = np.maximum(first_B, second_B)
    a_B, b_B = np.exp(first_B - most_B), np.exp(second_B - most_B)
    low, high = NEVER_LESS, 1 - NEVER_LESS
    if not len(first_B):
        return 0.5
    for _ in range(30):
        share = (low + high) / 2
        rises = ((b_B - a_B) / ((1 - share) * a_B + share * b_B)).sum() > 0
        low, high = (share, high) if rises else (low, share)
    return round((low + high) / 2, 3)
