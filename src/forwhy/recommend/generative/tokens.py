"""Index tokens: what an item's codes are in a model's vocabulary.

Shapes: N items, L levels, W codes of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forwhy.data.ids import Ids
from forwhy.errors import UserError
from forwhy.vocabulary.indices import ItemIndex

__all__ = ["IndexTokens", "check_index", "level_tokens"]


@dataclass(frozen=True)
class IndexTokens:
    """Token ids of an index; a history is written as `prompt`, then the codes of its items."""

    items_NL: Tensor
    """[N, L] token ids of every item."""
    levels: tuple[Tensor, ...]
    """Per level, [W] the token of each code: what `BeamDecoder` asks for."""
    prompt: tuple[int, ...]
    """What every history begins with; at least one token."""

    @property
    def first(self) -> int:
        """The lowest index token; all index tokens follow one another."""
        return int(self.levels[0][0])

    @property
    def count(self) -> int:
        """Index tokens of all levels."""
        return sum(len(level) for level in self.levels)

    def history(self, items: Sequence[int]) -> list[int]:
        """Prompt and codes of internal items."""
        return [*self.prompt, *self.items_NL[torch.as_tensor(items, dtype=torch.long)].flatten().tolist()]


def level_tokens(index: ItemIndex, first: int) -> tuple[Tensor, tuple[Tensor, ...]]:
    """`items_NL` and `levels` where the index's tokens follow one another from `first` on."""
    starts = first + index.offsets
    levels = tuple(
        torch.arange(int(start), int(stop)) for start, stop in zip(starts[:-1], starts[1:], strict=True)
    )
    return torch.from_numpy(index.token_rows + first).long(), levels


def check_index(index: ItemIndex, items: Ids, tokens: IndexTokens) -> None:
    """Refuse an index of other items or other codes than the model's."""
    if tuple(index.items.values) != tuple(items.values):
        raise UserError(
            f"the index names {len(index.items):,} items, the data set {len(items):,}, and they are not the same; "
            "build the index on this data set"
        )
    if not torch.equal(tokens.items_NL, torch.from_numpy(index.token_rows + tokens.first)):
        raise UserError("index and model disagree: the model was trained on other codes; load its own index")
