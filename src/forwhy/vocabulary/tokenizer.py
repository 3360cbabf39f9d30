"""Stage 1 whole: from interactions and text to a behaviour vocabulary (BEAT eq. 2 to 9).

Legend: N entities, S slots, M codeword width, V text width.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from forwhy.columns import Graph
from forwhy.data.catalogue import Catalogue
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite
from forwhy.text.encoder import TextEncoder
from forwhy.training import LoopConfig, train
from forwhy.vocabulary.config import TokenizerConfig
from forwhy.vocabulary.glosses import describe_words
from forwhy.vocabulary.network import SIDES, TokenizerNetwork, Tokens
from forwhy.vocabulary.phrases import PhraseBook, read_phrases, spectral_start
from forwhy.vocabulary.task import Texts, TokenizerTask, log_frequency
from forwhy.vocabulary.vocabulary import Vocabulary

__all__ = ["BehaviorTokenizer"]

log = logging.getLogger(__name__)
Phrases = Mapping[str, Mapping[int, Sequence[str]]]
Floats = NDArray[np.float32]


class BehaviorTokenizer:
    """Learns a :class:`Vocabulary` from a data set."""

    def __init__(self, config: TokenizerConfig | None = None) -> None:
        self.config = config or TokenizerConfig()

    def fit(
        self,
        dataset: Dataset,
        phrases: Phrases,
        encoder: TextEncoder,
        folder: Path | str,
        graph: Graph = "leak-free",
    ) -> Vocabulary:
        """Learn the vocabulary; a killed run continues from `folder`.

        Args:
            dataset: interactions, and explanations of training pairs.
            phrases: side -> internal number -> intents, most important first.
            encoder: frozen text encoder.
            folder: for checkpoints and metrics.jsonl.
            graph: which training edges (see `Dataset.edges`).

        Time per epoch O(E·(batch + K)·S·M) with the preset `forwhy`, plus one SVD at the start.

        Raises:
            UserError: no training interaction; training diverged.
        """
        edges = dataset.edges("train", graph)
        if not len(edges):
            raise UserError(
                f"data set '{dataset.name}': no training interaction; import one with a train split"
            )
        bipartite = Bipartite(edges, len(dataset.users), len(dataset.items))
        texts = self._texts(dataset, phrases, encoder)
        network = self._network(bipartite, texts.book, encoder.dim)
        task = TokenizerTask(network, bipartite, texts, dataset.edges("valid"), self.config)
        result = train(task, self._loop(), Path(folder), "vocabulary", identity=dataset.fingerprint + graph)
        metrics = {**result.best_metrics, "best_epoch": result.best_epoch, "seconds": result.seconds}
        log.info(
            "vocabulary: best epoch %d, validation HR@20 %.4f", result.best_epoch, metrics.get("hr@20", 0.0)
        )
        return self._vocabulary(dataset, bipartite, network, texts.book, metrics)

    def _texts(self, dataset: Dataset, phrases: Phrases, encoder: TextEncoder) -> Texts:
        """Phrases of everybody, and explanations of training pairs that are not held-out interactions."""
        counts = {"user": len(dataset.users), "item": len(dataset.items)}
        book = read_phrases(phrases, counts, encoder, self.config.max_phrases)
        pairs = dataset.pairs("train", clear_of_interactions=True)
        vectors = encoder.encode(pairs.texts) if len(pairs) else np.zeros((0, encoder.dim), np.float32)
        return Texts(pairs.users, pairs.items, vectors, book)

    def _network(self, graph: Bipartite, book: PhraseBook, text_width: int) -> TokenizerNetwork:
        """The network at its start, seeded; the caller's generators are left alone."""
        start = spectral_start(graph, book, self.config) if self.config.start == "spectral" else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            network = TokenizerNetwork(graph, self.config, text_width, start)
            if self.config.codebook_start == "kmeans":
                network.start_codebooks(torch.Generator().manual_seed(self.config.seed))
            network.start_scale(graph.edges, log_frequency(graph))
        return network

    def _loop(self) -> LoopConfig:
        config = self.config
        return LoopConfig(
            epochs=config.epochs, patience=config.patience, seed=config.seed, device=config.device,
            evaluate_first=config.start == "spectral",
        )  # fmt: skip

    def _vocabulary(
        self,
        dataset: Dataset,
        graph: Bipartite,
        network: TokenizerNetwork,
        book: PhraseBook,
        metrics: Mapping[str, float],
    ) -> Vocabulary:
        network.cpu().eval()
        tokens = network.assign()
        codebooks = {name: _array(network.book(name).codebook) for name in network.quantizers}
        codebooks = {name: codebooks[name] for side in SIDES for name in codebooks if name.startswith(side)}
        codes = {side: _array(tokens[side].codes_BS).astype(np.int32) for side in SIDES}
        heads = {
            name: _array(head.weight)
            for name, head in network.heads.items()
            if isinstance(head, torch.nn.Linear)
        }
        slots = {side: self.config.slot_books(side) for side in SIDES}
        return Vocabulary(
            codebooks=codebooks,
            codes=codes,
            words=describe_words(codebooks, codes, slots, heads, book),
            catalogue=Catalogue.of(dataset, dataset.edges("train", "as-published")),
            seen=graph.edges,
            score_weights=np.exp(_array(network.log_weight)),
            fold_in=_fold_in(graph, network, tokens),
            heads=heads,
            config=self.config.model_dump(mode="json"),
            metrics=dict(metrics),
        )


@torch.no_grad()
def _fold_in(graph: Bipartite, network: TokenizerNetwork, tokens: Mapping[str, Tokens]) -> Floats:
    """Ridge regression from the mean of a user's item words to the user's quantizer input, over all users."""
    known = np.flatnonzero(graph.user_degrees)
    items = _array(tokens["item"].words_BSM.flatten(1))
    features = np.asarray((graph.to_users @ items)[known], np.float64)
    features = np.concatenate([features, np.ones((len(known), 1))], axis=1)
    states = network.states()["user"]
    wanted = torch.cat([part for part in network.slots(states, "user") if part is not None], 1).flatten(1)
    target = _array(wanted)[known].astype(np.float64)
    gram = features.T @ features
    gram += np.eye(len(gram)) * (1e-3 * np.trace(gram) / len(gram))
    return np.linalg.solve(gram, features.T @ target).astype(np.float32)


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
