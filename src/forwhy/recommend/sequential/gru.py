"""GRU4Rec: a recurrent state over a history (Hidasi et al. 2016).

Shapes: B histories, L places, I items, D width.
"""

from torch import Tensor, nn

from forwhy.recommend.sequential.config import Gru4RecConfig
from forwhy.recommend.sequential.repeats import RepeatBias

__all__ = ["Gru4Rec"]


class Gru4Rec(nn.Module):
    """As `SasRec`, with recurrence in place of attention: nothing behind a place reaches it either."""

    def __init__(self, n_items: int, config: Gru4RecConfig) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, config.dims)
        rate = config.dropout if config.layers > 1 else 0.0  # torch drops between layers only
        self.gru = nn.GRU(config.dims, config.hidden, config.layers, batch_first=True, dropout=rate)
        self.out = nn.Linear(config.hidden, config.dims)
        self.dropout = nn.Dropout(config.dropout)
        self.repeats = RepeatBias(config.window) if config.repeat_bias else None
        nn.init.xavier_normal_(self.items.weight)

    @property
    def table(self) -> Tensor:
        """[I, D] the items' vectors, by which a state is turned into scores."""
        return self.items.weight

    def forward(self, items_BL: Tensor) -> Tensor:
        """[B, L, D] what each place predicts of the next one, from it and earlier places only."""
        states_BLH, _ = self.gru(self.dropout(self.items(items_BL)))
        predicted: Tensor = self.out(states_BLH)
        return predicted
