"""The states of an `AttentionNetwork`, one history after the other, by torch's own multi-head attention."""

from __future__ import annotations

import torch
from torch import Tensor

from forwhy.recommend.attention import AttentionNetwork


def plain_states(network: AttentionNetwork, x_LD: Tensor, both_ways: bool = False) -> Tensor:
    """[L, D] of one history without padding; each place looks back, or at all."""
    length = len(x_LD)
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    pre = network.options.norm == "pre"  # type: ignore[attr-defined]
    x_LD = x_LD + torch.stack([network.places.weight[place] for place in range(length)])
    x_LD = x_LD if pre else network.norm(x_LD)
    for block in network.blocks:
        mixes = _attention(block)
        for number, norm in enumerate(block.norms):
            given = norm(x_LD) if pre else x_LD
            if number == 0:
                added = mixes(*[given[None]] * 3, attn_mask=None if both_ways else later)[0][0]
            else:
                added = block.down(torch.nn.functional.gelu(block.up(given)))
            x_LD = x_LD + added if pre else norm(x_LD + added)
    return network.norm(x_LD) if pre else x_LD


def _attention(block: torch.nn.Module) -> torch.nn.MultiheadAttention:
    found = torch.nn.MultiheadAttention(block.out.out_features, block.heads, batch_first=True)
    found.in_proj_weight, found.in_proj_bias = block.qkv.weight, block.qkv.bias
    found.out_proj.weight, found.out_proj.bias = block.out.weight, block.out.bias
    return found.eval()


def shaken(network: torch.nn.Module, std: float = 0.5) -> None:
    """Weights far enough from their start that every term counts; no dropout."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    network.eval()
