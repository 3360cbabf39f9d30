"""A mixture of linear experts: graph vectors to the width of a language model (XRec, following Hou et al. 2022).

Shapes: B rows, N entities, E experts, d width of a graph vector, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, softplus

from forwhy.bridge.config import AdapterConfig

_SMALL = 1e-8


class ExpertAdapter(nn.Module):
    """sum_k g_k W_k (dropout(x) - b_k), with a gate g that is noisy in training. One for users, one for items.

    The gate is the softmax of x G, plus, in training, normal noise of size softplus(x H) + floor. G and H
    start at zero, so all experts begin with equal shares and noise of 0.70 in the logits. No loss asks for a
    balanced load. Parameters: E x d x (D + 3), less where the gate has no noise: 2.1 million for 8 experts
    from 64 to 4096.
    """

    mean_d: Tensor
    deviation: Tensor

    def __init__(self, config: AdapterConfig, vectors_Nd: Tensor, width: int, word_norm: float) -> None:
        """Draws the experts from torch's generator.

        Args:
            config: Options.
            vectors_Nd: Vectors of all entities; their mean and deviation are kept in the state.
            width: D.
            word_norm: Mean norm of the model's word embeddings.
        """
        super().__init__()
        self.config, inner = config, vectors_Nd.shape[1]
        self._size = 1.0 if config.scale == "raw" else word_norm / width**0.5
        self.register_buffer("mean_d", torch.zeros(inner))
        self.register_buffer("deviation", torch.ones(()))
        if config.standardise:
            self.mean_d = vectors_Nd.detach().float().mean(dim=0)
            self.deviation = (vectors_Nd.detach() - self.mean_d).std(unbiased=False).clamp_min(_SMALL)
        self.weight_EdD = nn.Parameter(torch.randn(config.experts, inner, width) * config.start_std)
        self.bias_Ed = nn.Parameter(torch.zeros(config.experts, inner))
        self.gate_dE = nn.Parameter(torch.zeros(inner, config.experts))
        self.noise_dE = nn.Parameter(torch.zeros(inner, config.experts)) if config.noise else None

    def gate(self, inputs_Bd: Tensor) -> Tensor:
        """Shares [B, E] of the experts, summing to one, for inputs that are standardised already."""
        logits_BE = inputs_Bd @ self.gate_dE
        if self.noise_dE is not None and self.training:
            size_BE = softplus(inputs_Bd @ self.noise_dE) + self.config.noise_floor
            logits_BE = logits_BE + torch.randn_like(logits_BE) * size_BE
        if self.config.top:
            chosen_BT = logits_BE.topk(self.config.top, dim=-1).indices
            left_out_BE = torch.ones_like(logits_BE, dtype=torch.bool).scatter(1, chosen_BT, value=False)
            logits_BE = logits_BE.masked_fill(left_out_BE, float("-inf"))
        return logits_BE.softmax(dim=-1)

    def forward(self, vectors_Bd: Tensor) -> Tensor:
        """Vectors [B, D]. One matrix product for all experts; each drops its own coordinates."""
        inputs_Bd = (vectors_Bd - self.mean_d) / self.deviation
        copies_BEd = inputs_Bd[:, None].expand(-1, self.config.experts, -1)
        read_BEd = dropout(copies_BEd, self.config.dropout, self.training) - self.bias_Ed
        shared_BEd = self.gate(inputs_Bd)[:, :, None] * read_BEd
        out_BD: Tensor = shared_BEd.flatten(1) @ self.weight_EdD.flatten(0, 1)
        return self._size * out_BD
