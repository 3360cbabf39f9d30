"""Text-first words: the leading words of everybody are residual k-means codes of whole texts, found before training.

Legend: N entities of a side, V encoder width, T text coordinates, L levels, K codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.columns import SIDES, Side
from forwhy.graph.bipartite import Bipartite
from forwhy.text.encoder import TextEncoder, unit
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.phrases import Floats, guessed
from forwhy.vocabulary.quantizer import kmeans, nearest

Known = Mapping[Side, NDArray[np.bool_]]


@dataclass(frozen=True)
class TextWords:
    """Everybody's texts as points and as codes. No interaction, phrase or explanation moves them."""

    means: Mapping[Side, Floats]
    """side -> [V] what is taken from a text vector first."""
    basis: Floats
    """[V, T] orthonormal: the principal components of whole texts."""
    known: Known
    """side -> [N] whether they have a text of their own."""
    points: Mapping[Side, Floats]
    """side -> [N, T] of unit norm; a guess for those without a text."""
    codes: Mapping[Side, NDArray[np.int64]]
    """side -> [N, L]."""
    books: Mapping[str, Floats]
    """book -> [K, T]: centres of what the levels before leave."""

    def own(self) -> dict[Side, NDArray[np.float16]]:
        """Points without the guesses: zeros in their place."""
        return {side: (self.points[side] * self.known[side][:, None]).astype(np.float16) for side in SIDES}


def text_vectors(texts: Mapping[int, Sequence[str]], count: int, encoder: TextEncoder) -> Floats:
    """[count, V] the mean vector of each entity's texts, of unit norm; zeros where it has none."""
    entities = np.repeat(np.fromiter(texts, np.int64, len(texts)), [len(told) for told in texts.values()])
    sums = np.zeros((count, encoder.dim), np.float32)
    np.add.at(sums, entities, encoder.encode([text for told in texts.values() for text in told]))
    return unit(sums)


def text_words(vectors: Mapping[Side, Floats], graph: Bipartite, config: TokenizerConfig) -> TextWords | None:
    """Codes of everybody from the text vectors of those who have one; None where fewer than two have.

    Who has no text takes the mean of their neighbours' in the graph, and of these one's neighbours. Books of items are
    fitted on items with a text, those of users on all. O(N·V·T) and 15 iterations of k-means per level.
    """
    known = {side: np.abs(vectors[side]).sum(1) > 0 for side in SIDES}
    if sum(int(has.sum()) for has in known.values()) < 2:
        return None
    means = {side: vectors[side][has].mean(0) for side, has in known.items() if has.any()}
    means = {side: means.get(side, next(iter(means.values()))) for side in SIDES}
    centred = np.concatenate([vectors[side][known[side]] - means[side] for side in SIDES])
    sample = np.random.default_rng(config.seed).permutation(len(centred))[:8192]
    axes = np.linalg.svd(centred[sample], full_matrices=False)[2][: config.text_dims]
    basis = np.pad(axes, ((0, config.text_dims - len(axes)), (0, 0))).T
    own = {side: unit((vectors[side] - means[side]) @ basis) * known[side][:, None] for side in SIDES}
    points = _with_guesses(own, known, graph)
    generator = torch.Generator().manual_seed(config.seed)
    codes, books = {}, {}
    for side in SIDES:
        left, found = torch.from_numpy(points[side]), []
        fitted = torch.from_numpy(known[side] if side == "item" and known[side].any() else known[side] | True)
        for book in config.text_books(side):
            words = kmeans(left[fitted], config.codes, generator)
            found.append(nearest(left, words))
            left = left - words[found[-1]]
            books[book] = words.numpy()
        codes[side] = torch.stack(found, 1).numpy()
    return TextWords(means, basis, known, points, codes, books)


def _with_guesses(own: Mapping[Side, Floats], known: Known, graph: Bipartite) -> dict[Side, Floats]:
    """Texts and guesses, which are means of many and so all alike: spread along each axis as widely as texts are."""
    spread_T = np.concatenate([own[side][known[side]] for side in SIDES]).std(0)
    found = {side: own[side].copy() for side in SIDES}
    for side, slots in guessed({side: own[side][:, None] for side in SIDES}, graph).items():
        if (silent := ~known[side]).any():
            guesses = slots[silent, 0]
            found[side][silent] = unit(guesses / np.maximum(guesses.std(0), 1e-6) * spread_T)
    return found
