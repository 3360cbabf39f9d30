"""Prompts of many users, checked, sorted by length and read in batches: what every way to decode begins with.

Shapes: B users.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from forwhy.errors import UserError
from forwhy.recommend.decoding.causal import TreeModel, evaluating
from forwhy.recommend.decoding.head import LevelHead, Normalise
from forwhy.recommend.decoding.reading import Reading, TreeReader
from forwhy.recommend.decoding.trie import CodeTrie

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
