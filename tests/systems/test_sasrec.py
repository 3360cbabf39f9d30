"""SASRec against torch's own multi-head attention, and what its kind of network is found by."""

from __future__ import annotations

import pytest
import torch

from forwhy.errors import UserError
from forwhy.recommend.networks import kind
from forwhy.systems.sasrec import SasRecConfig, SasRecNetwork

ITEMS, DIMS = 9, 8


def attended(block: torch.nn.Module, x_BLD: torch.Tensor) -> torch.Tensor:
    """The block's attention by `torch.nn.MultiheadAttention`."""
    oracle = torch.nn.MultiheadAttention(DIMS, 2, batch_first=True)
    oracle.in_proj_weight, oracle.in_proj_bias = block.qkv.weight, block.qkv.bias
    oracle.out_proj.weight, oracle.out_proj.bias = block.out.weight, block.out.bias
    later = torch.ones(x_BLD.shape[1], x_BLD.shape[1], dtype=torch.bool).triu(1)
    return oracle.eval()(x_BLD, x_BLD, x_BLD, attn_mask=later)[0]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_states_are_those_of_an_independent_attention(norm: str) -> None:
    torch.manual_seed(0)
    config = SasRecConfig.model_validate({"dims": DIMS, "layers": 2, "norm": norm, "dropout": 0.5})
    network = SasRecNetwork(ITEMS, config).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    items_BL = torch.tensor([[3, 1, 4, 1, 5], [2, 7, 1, 8, 2]])
    x_BLD = network.items(items_BL) + network.places.weight[:5]
    x_BLD = network.norm(x_BLD) if norm == "post" else x_BLD
    for block in network.blocks:
        for layer, scale in zip((attended, lambda block, x: block._feed(x)), block.norms, strict=True):
            given = scale(x_BLD) if norm == "pre" else x_BLD
            x_BLD = x_BLD + layer(block, given)
            x_BLD = scale(x_BLD) if norm == "post" else x_BLD
    expected = network.norm(x_BLD) if norm == "pre" else x_BLD
    torch.testing.assert_close(network(items_BL), expected, rtol=1e-4, atol=1e-5)


def test_a_system_without_a_network_is_no_kind_of_one() -> None:
    assert kind("sasrec") is SasRecConfig
    with pytest.raises(
        UserError, match="system 'popularity' has no network of the next item; known: .*sasrec"
    ):
        kind("popularity")
