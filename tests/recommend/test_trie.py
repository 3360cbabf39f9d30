"""The trie against a dict of dicts, on random codes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forwhy.recommend.trie import CodeTrie

Paths = list[tuple[int, ...]]


@st.composite
def distinct_paths(draw: st.DrawFn) -> tuple[Paths, list[int]]:
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    path = st.tuples(*(st.integers(0, size - 1) for size in sizes))
    return draw(st.lists(path, min_size=1, max_size=30, unique=True)), sizes


def walked(trie: CodeTrie) -> dict[tuple[int, ...], int]:
    """Every path that can be walked from the root, and the item at its end."""
    found = {(): 0}
    for depth in trie.depths:
        deeper = {}
        for path, node in found.items():
            child, code = depth.below(torch.tensor([[node]]))
            for place, number in enumerate(child[0, 0].tolist()):
                if number >= 0:
                    deeper[*path, int(code[0, 0, place])] = number
        found = deeper
    return {path: int(trie.items[leaf]) for path, leaf in found.items()}


@settings(max_examples=40, deadline=None)
@given(distinct_paths())
def test_walking_the_trie_meets_every_item_once_and_nothing_else(
    case: tuple[Paths, list[int]],
) -> None:
    paths, sizes = case
    trie = CodeTrie.from_codes(np.array(paths), sizes)
    assert walked(trie) == {path: item for item, path in enumerate(paths)}


@settings(max_examples=40, deadline=None)
@given(distinct_paths())
def test_nodes_are_numbered_in_the_order_of_their_prefixes(case: tuple[Paths, list[int]]) -> None:
    paths, sizes = case
    trie = CodeTrie.from_codes(np.array(paths), sizes)
    assert [paths[item] for item in trie.items.tolist()] == sorted(paths)
    for level, depth in enumerate(trie.depths):
        prefixes = sorted({path[: level + 1] for path in paths})
        above = sorted({path[:level] for path in paths})
        assert depth.code.tolist() == [prefix[-1] for prefix in prefixes]
        assert depth.parents(0, len(depth.code)).tolist() == [above.index(p[:-1]) for p in prefixes]


@settings(max_examples=40, deadline=None)
@given(distinct_paths())
def test_a_node_is_determined_when_one_item_lies_below_it(case: tuple[Paths, list[int]]) -> None:
    paths, sizes = case
    trie = CodeTrie.from_codes(np.array(paths), sizes)
    for level in range(len(sizes)):
        for node, prefix in enumerate(sorted({path[:level] for path in paths})):
            one = sum(path[:level] == prefix for path in paths) == 1
            assert trie.determined(torch.tensor([[node]]), level) == one


def test_memory_is_what_is_stated() -> None:
    codes = np.stack(
        np.unravel_index(np.random.default_rng(0).permutation(1 << 20)[:50_000], (32,) * 4), axis=1
    )
    trie = CodeTrie.from_codes(codes, (32,) * 4)
    nodes = sum(len(depth.start) - 1 for depth in trie.depths) + len(trie)
    held = sum(part.nbytes for depth in trie.depths for part in (depth.start, depth.code)) + trie.items.nbytes
    assert held <= 8 * nodes + 4 * len(trie) + 64
