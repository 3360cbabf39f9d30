"""The lazy Adam equals torch's two."""

import pytest
import torch
import torch.nn.functional as F

from forwhy.vocabulary.network import LazyAdam


@pytest.mark.parametrize("sparse", [True, False])
def test_it_equals_torchs(sparse: bool) -> None:
    start = torch.randn(9, 3)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    reference = torch.optim.SparseAdam if sparse else torch.optim.Adam
    optimizers = LazyAdam([ours], lr=0.1), reference([theirs], lr=0.1)
    for step in range(6):
        rows = torch.tensor([step, 2, 2, 7])
        for table, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (
                F.embedding(rows, table, sparse=sparse) * torch.arange(12.0).view(4, 3)
            ).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_untouched_rows_stay() -> None:
    table = torch.nn.Parameter(torch.randn(5, 2))
    before = table.detach().clone()
    optimizer = LazyAdam([table], lr=0.1)
    for rows in ([1, 3], [3, 3]):
        optimizer.zero_grad()
        F.embedding(torch.tensor(rows), table, sparse=True).sum().backward()
        optimizer.step()
    assert (table.detach() != before).any(1).tolist() == [False, True, False, True, False]
