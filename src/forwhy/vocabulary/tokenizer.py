"""BEAT's stage 1: interactions and text become a behaviour vocabulary (BEAT eq. 2 to 9).

Legend: B pairs, N entities, I items, E edges, S slots, M codeword width, L phrases, V text width, K codes.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forwhy.columns import SIDES, Graph, Side
from forwhy.data.dataset import Dataset, Pairs
from forwhy.data.histories import Catalogue
from forwhy.data.texts import entity_texts
from forwhy.errors import UserError
from forwhy.graph.bipartite import Bipartite, hits_and_recall, train_on_graph
from forwhy.text.encoder import TextEncoder
from forwhy.training.checkpoint import TrainingState
from forwhy.training.engine import Epoch, Task
from forwhy.vocabulary.network import (
    EntityWords,
    LazyAdam,
    States,
    TokenizerNetwork,
    info_nce,
    reconstruction_rmse,
    reconstruction_softmax,
)
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.phrases import PhraseBook, Phrases, describe_words, read_phrases
from forwhy.vocabulary.texts import TextWords, text_vectors, text_words
from forwhy.vocabulary.vocabulary import Books, Floats, Ints, Vocabulary, by_book, perplexity

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 1 << 16
"""Rows that a regression holds as doubles."""


class BehaviourTokenizer:
    """Learns a :class:`Vocabulary` from a data set."""

    def __init__(self, config: TokenizerConfig | None = None) -> None:
        self.config = config or TokenizerConfig()

    def fit(
        self,
        dataset: Dataset,
        phrases: Mapping[str, Phrases],
        encoder: TextEncoder,
        folder: Path | str,
        graph: Graph = "leak-free",
        texts: Mapping[Side, Phrases] | None = None,
    ) -> Vocabulary:
        """Learn the vocabulary; a killed run continues from `folder` if data, phrases, encoder and options are equal.

        Time per epoch O(E·(batch + K)·S·M) with the preset `forwhy`, plus one SVD at the start. Which epoch is kept:
        see :func:`forwhy.graph.bipartite.train_on_graph`.

        Args:
            dataset: interactions, and explanations of training pairs.
            phrases: side -> internal number -> intents, most important first.
            encoder: frozen text encoder.
            folder: for checkpoints and metrics.jsonl.
            graph: which training edges (see `Dataset.edges`).
            texts: as `phrases`, whole texts for text-first words; by default `data.texts.entity_texts`. Without any
                there are no such words, and the log says so.

        Raises:
            UserError: no training interaction; training diverged.
        """
        config, edges = self.config, dataset.edges("train", graph)
        if not len(edges):
            name = dataset.name
            raise UserError(f"data set '{name}': no training interaction; import one with a train split")
        counts: dict[Side, int] = {"user": len(dataset.users), "item": len(dataset.items)}
        bipartite = Bipartite(edges, counts["user"], counts["item"])
        book = read_phrases(phrases, counts, encoder, config.max_phrases)
        text = None
        if config.text_first:
            config = config.fitting(len(edges))
            read = texts or {side: entity_texts(dataset, side) for side in SIDES}
            of_texts = {side: text_vectors(read[side], counts[side], encoder) for side in SIDES}
            text = text_words(of_texts, bipartite, config)
        if config.text_first and text is None:
            log.warning("vocabulary: fewer than two users or items have a text, so no word is made from text")
            config = self.config.model_copy(update={"text_first": 0})
        # Texts of held-out interactions would show the words which items a user will take.
        pairs = dataset.pairs("train", clear_of_interactions=True)
        with torch.random.fork_rng(devices=[]):  # the caller's generators are left alone
            torch.manual_seed(config.seed)
            network = TokenizerNetwork(bipartite, config, book, text)
        if text:  # text-first words may know nothing of any pair's text
            pairs = pairs.select([])
        vectors = encoder.encode(pairs.texts)
        task = TokenizerTask(network, bipartite, dataset.edges("valid"), book, pairs, vectors)
        # What a checkpoint is of: one made from anything else is not continued.
        made_of = [config.identity(), dataset.fingerprint, graph, encoder.name, *book.phrases]
        arrays = [*book.rows.values(), *(text.points.values() if text else ())]
        made_of += [hashlib.sha256(rows.tobytes()).hexdigest() for rows in arrays]
        identity = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
        result = train_on_graph(task, config, dataset, Path(folder), "vocabulary", identity, config.start)
        return self._vocabulary(dataset, bipartite, network.cpu().eval(), book, result, encoder.name)

    @torch.no_grad()
    def _vocabulary(
        self,
        dataset: Dataset,
        graph: Bipartite,
        network: TokenizerNetwork,
        phrases: PhraseBook,
        result: TrainingState,
        encoder: str,
    ) -> Vocabulary:
        found, text, linear = network.all_words(), network.text, torch.nn.Linear
        codebooks = {name: book.codebook.numpy() for name, book in network.quantizers.items()}
        codes = {side: words.codes_BS.numpy().astype(np.int32) for side, words in found.items()}
        heads = {name: it.weight.numpy() for name, it in network.heads.items() if isinstance(it, linear)}
        if text is not None:
            codebooks, heads = _with_text(network, text, codebooks, found)
        cut = len(dataset.heldout_pairs())  # else both graphs are one, which is not made twice
        taken = dataset.edges("train", "as-published") if cut else graph.edges
        return Vocabulary(
            catalogue=Catalogue.of(dataset, taken),
            seen=graph.edges,
            config=network.config.model_dump(mode="json"),
            metrics=result.summary(),
            encoder=encoder,
            codebooks=codebooks,
            codes=codes,
            words=describe_words(codebooks, codes, heads, phrases),
            score_weights=np.exp(network.log_weight.numpy()),
            fold_in=_fold_in(graph, network, found["item"]),
            heads=heads,
            text_means=text.means if text else {},
            text_points=text.own() if text else {},
        )


class TokenizerBatch(NamedTuple):
    """One step's numbers; tensors of rows."""

    users: Tensor
    items: Tensor
    negatives: Tensor
    """One item per interaction; none under the in-batch softmax."""
    pairs: Tensor
    """Rows of the explained training pairs."""
    intents: dict[Side, Tensor]
    """side -> entities with phrases."""


class TokenizerTask(Task[TokenizerBatch]):
    """Learns the tables, codebooks and heads of a :class:`TokenizerNetwork`, selected by HR@20 on validation.

    Supervised by `pairs`, explained training pairs whose texts are `pair_vectors` [pairs, V], and by phrases.
    """

    higher_is_better = True
    whole = True

    def __init__(
        self,
        network: TokenizerNetwork,
        graph: Bipartite,
        valid: Ints,
        book: PhraseBook,
        pairs: Pairs,
        pair_vectors: Floats,
    ) -> None:
        self.module, self.network, self.config = network, network, network.config
        self.graph, self._valid = graph, valid
        self._pair_ends = dict(zip(SIDES, map(torch.from_numpy, (pairs.users, pairs.items)), strict=True))
        self._pair_vectors = torch.from_numpy(pair_vectors)
        self._phrase_vectors = torch.from_numpy(book.vectors)
        self._phrase_rows = {side: torch.from_numpy(book.rows[side]) for side in SIDES}
        self._speakers = {side: np.flatnonzero(book.known(side)) for side in SIDES}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, lazy on tables that are not propagated; without weight decay, as the paper."""
        return LazyAdam(self.network.parameters(), lr=self.config.learning_rate)

    def batches(self, epoch: int) -> Epoch[TokenizerBatch]:
        """Every training interaction once, in random order."""
        seed = self.config.seed, epoch
        return Epoch.shuffled(len(self.graph.edges), self.config.batch_size, seed, self._batch)

    def _batch(self, rows: Ints, rng: np.random.Generator) -> TokenizerBatch:
        """The interactions of `rows` with one uniform negative each where asked for, and a draw of texts."""
        limit = self.config.text_batch
        users, items = self.graph.edges[rows].T.copy()
        pairs = rng.permutation(len(self._pair_vectors))[:limit]
        intents = {side: torch.from_numpy(rng.permutation(self._speakers[side])[:limit]) for side in SIDES}
        in_batch = self.config.reconstruction == "softmax"
        negatives = items[:0] if in_batch else self._negatives(users, rng)
        of_users, of_items, drawn, chosen = map(torch.from_numpy, (users, items, negatives, pairs))
        return TokenizerBatch(of_users, of_items, drawn, chosen, intents)

    def _negatives(self, users: Ints, rng: np.random.Generator) -> Ints:
        """One uniform item per user that is not a training item of theirs (after 20 tries: any item)."""
        items = rng.integers(0, self.graph.items, len(users))
        for _ in range(20):
            taken = np.asarray(self.graph.incidence[users, items]).ravel() > 0
            if not taken.any():
                break
            items[taken] = rng.integers(0, self.graph.items, int(taken.sum()))
        return items

    def loss(self, batch: TokenizerBatch) -> Mapping[str, Tensor]:
        """Equation 9: reconstruction + VQ + alpha · macro + beta · micro."""
        states = self.network.states()
        # Only the interactions move the codebooks: the few entities with texts, drawn again at every step, would
        # pull the words together (docs/log.md).
        of_users = self.network.words(batch.users, "user", states, learn=True)
        of_items = self.network.words(batch.items, "item", states, learn=True)
        q_users, q_items = (self.network.represent(part.words_BSM) for part in (of_users, of_items))
        if self.config.reconstruction == "softmax":
            reconstruction = self._softmax(q_users, q_items, batch.items.to(q_items.device))
        else:
            drawn = self.network.words(batch.negatives, "item", states)
            negative = (q_users * self.network.represent(drawn.words_BSM)).sum(1)
            scaled = self.config.reconstruction == "minmax_rmse"
            reconstruction = reconstruction_rmse((q_users * q_items).sum(1), negative, scaled)
        parts = {"reconstruction": reconstruction, "vq": of_users.loss + of_items.loss}
        total = reconstruction + parts["vq"]
        if self.config.macro and self.config.alpha and len(batch.pairs) > 1:
            parts["macro"] = self._macro(batch.pairs, states)
            total = total + self.config.alpha * parts["macro"]
        if self.network.masked is not None:
            micro = [self._micro(rows, side, states) for side, rows in batch.intents.items() if len(rows)]
            if micro:
                parts["micro"] = torch.stack(micro).sum()
                total = total + self.config.beta * parts["micro"]
        return {"loss": total, **{name: part.detach() for name, part in parts.items()}}

    def _softmax(self, q_users: Tensor, q_items: Tensor, items: Tensor) -> Tensor:
        """The in-batch softmax, block by block, as a mean over the batch."""
        frequency, scale = self.network.log_frequency[items], self.network.log_scale.exp()
        parts = (q_users, q_items, items, frequency)
        blocks = zip(*(torch.split(part, self.config.negatives) for part in parts), strict=True)
        losses = [
            len(q) * reconstruction_softmax(q, wanted, own, share, scale) for q, wanted, own, share in blocks
        ]
        return sum(losses, scale.new_zeros(())) / len(items)

    def _macro(self, pairs: Tensor, states: States) -> Tensor:
        """Eq. 6 on f_s, the sum of both macro words, each through its head into the text space."""
        user, item = (
            self.network.heads[f"{side}_macro"](self.network.words(ends[pairs], side, states).words_BSM[:, 0])
            for side, ends in self._pair_ends.items()
        )
        texts = self._pair_vectors[pairs].to(user.device)
        return info_nce(texts, user + item, self.config.temperature, self.config.loss_average)

    def _micro(self, entities: Tensor, side: Side, states: States) -> Tensor:
        """Eq. 8 on the micro words of entities with phrases."""
        assert self.network.masked is not None
        words = self.network.words(entities, side, states).words_BSM[:, int(self.config.macro) :]
        phrases_BL = self._phrase_rows[side][entities]
        present_BL = (phrases_BL >= 0).to(words.device)
        intents_BLV = self._phrase_vectors[phrases_BL.clamp_min(0)].to(words.device)
        told_BAV = self.network.heads[f"{side}_micro"](words)
        loss: Tensor = self.network.masked(told_BAV, intents_BLV, present_BL)
        return loss

    def evaluate(self) -> Mapping[str, float]:
        """HR@20 and Recall@20 of the quantised representations on validation interactions, if any, and book health."""
        found, metrics = self.network.all_words(), {}
        if len(self._valid):
            q = {side: self.network.represent(part.words_BSM).cpu().numpy() for side, part in found.items()}
            hit, recall = hits_and_recall(q["user"], q["item"], self.graph, self._valid, 20)
            metrics = {"hr@20": hit, "recall@20": recall}
        codes = {side: part.codes_BS.cpu().numpy() for side, part in found.items()}
        for book, own in by_book(codes, self.config.books).items():
            metrics[f"perplexity/{book}"] = perplexity(own, self.config.codes)
        return metrics


@torch.no_grad()
def _fold_in(graph: Bipartite, network: TokenizerNetwork, items: EntityWords) -> Floats:
    """Ridge regression from the mean of a user's item words to the user's quantizer input, over all users."""
    known = np.flatnonzero(graph.user_degrees)
    features = (graph.to_users @ items.words_BSM.flatten(1).numpy())[known]
    features = np.concatenate([features, np.ones((len(known), 1), np.float32)], axis=1)
    wanted = torch.cat(list(network.slots(network.states()["user"], "user").values()), 1)
    if network.text is not None:  # the first text word reads the whole text, later ones what is left of it
        scaled = torch.from_numpy(network.text.points["user"]) * network.config.text_weight
        levels = wanted.new_zeros(len(wanted), network.config.text_first, network.code_dim)
        levels[:, 0, network.width :] = scaled
        wanted = torch.cat([levels, wanted], 1)
    return _ridge(features, wanted.flatten(1).numpy()[known])


def _ridge(features_NF: NDArray[np.floating], wanted_NW: NDArray[np.floating]) -> Floats:
    """[F, W] linear map, with a penalty of a thousandth of the features' mean square; doubles, some rows at a time."""
    width = features_NF.shape[1]
    gram, moments = np.zeros((width, width)), np.zeros((width, wanted_NW.shape[1]))
    for start in range(0, len(features_NF), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        features = features_NF[rows].astype(np.float64)
        gram += features.T @ features
        moments += features.T @ wanted_NW[rows].astype(np.float64)
    gram += np.eye(len(gram)) * (1e-3 * np.trace(gram) / len(gram))
    return np.linalg.solve(gram, moments).astype(np.float32)


@torch.no_grad()
def _with_text(
    network: TokenizerNetwork, text: TextWords, learnt: Books, found: Mapping[Side, EntityWords]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """All codebooks in slot order, and heads: back from text coordinates; of graph words the text that owners share."""
    books, heads = dict[str, Floats](), dict[str, Floats]()
    back_VT = text.basis / network.config.text_weight
    for side in SIDES:
        words_LKM = getattr(network, f"text_words_{side}").numpy()
        for book, words_KM in zip(network.config.text_books(side), words_LKM, strict=True):
            books[book] = words_KM
            heads[book] = np.pad(back_VT, ((0, 0), (network.width, 0)))
        micro = f"{side}_micro"
        books[micro] = learnt[micro]
        graph_NAM = found[side].words_BSM[:, len(words_LKM) :].numpy()
        owners_NA = np.repeat(text.points[side], graph_NAM.shape[1], axis=0)
        heads[micro] = text.basis @ _ridge(graph_NAM.reshape(len(owners_NA), -1), owners_NA).T
    return books, heads
