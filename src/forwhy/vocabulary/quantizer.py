"""Vector quantisation: nearest codeword, straight-through gradients, living codebooks; and the RQ-VAE of item indices.

Source: BEAT eq. 4 and 5; van den Oord et al. 2017 (VQ-VAE); Fifty et al. 2024 (rotation trick); Lee et al. 2022 and
TIGER section 3.1 (RQ-VAE); Zheng et al. 2024 (LC-Rec) section 3.1; Wang et al. 2024 (LETTER) section 3.2.
Legend: B vectors, K codewords, M their width, N items, D width of their vectors, L levels.
"""

import logging
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from forwhy.progress import Progress
from forwhy.vocabulary.clusters import Codes, Floats, Ints, Vectors, checked_vectors, even_codes, split

GROUPS = 10
"""Clusters of a level's codewords, within which they are drawn together (LETTER)."""
log = logging.getLogger(__name__)


class Quantized(NamedTuple):
    """What quantising B vectors gives."""

    vectors: Tensor
    """[B, M] codewords, with gradients to the inputs."""
    codes: Tensor
    """[B] index of each codeword."""
    loss: Tensor
    """eq. 5, L_VQ as means: codebook term (gradient codebooks only) + eta · commitment."""


def nearest(x_BM: Tensor, codebook_KM: Tensor, block: int = 65536) -> Tensor:
    """[B] index of the codeword at the smallest L2 distance (eq. 4); O(B·K·M) time, block·K memory."""
    half_K = 0.5 * (codebook_KM * codebook_KM).sum(1)
    parts = [torch.addmm(-half_K, part, codebook_KM.T).argmax(1) for part in torch.split(x_BM, block)]
    return torch.cat(parts)


@torch.no_grad()
def kmeans(x_BM: Tensor, codes: int, generator: torch.Generator) -> Tensor:
    """[K, M] centres by 15 of Lloyd's iterations; those without members restart at random ones. Time O(B·K·M)."""
    rows = torch.randperm(len(x_BM), generator=generator)
    rows = rows.repeat(-(-codes // len(rows)))[:codes]
    noise = torch.randn(codes, x_BM.shape[1], generator=generator) * 1e-4
    centres = x_BM[rows] + noise.to(x_BM) * x_BM.std()
    for _ in range(15):
        members = nearest(x_BM, centres)
        counts = torch.bincount(members, minlength=codes)
        sums = torch.zeros_like(centres).index_add_(0, members, x_BM)
        filled = counts > 0
        centres[filled] = sums[filled] / counts[filled, None]
        empty = (~filled).nonzero().ravel()
        centres[empty] = x_BM[torch.randint(len(x_BM), (len(empty),), generator=generator)]
    return centres


class Quantizer(nn.Module):
    """One codebook. Training calls move it (EMA) or let gradients do so; evaluation calls only read it."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    idle: Tensor

    def __init__(
        self,
        codes: int,
        dim: int,
        *,
        commitment: float = 0.5,
        update: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        estimator: Literal["straight-through", "rotation"] = "straight-through",
        restart_after: int = 0,
    ) -> None:
        """`restart_after`: steps without a win after which a codeword restarts; 0 = never."""
        super().__init__()
        self.commitment, self.update, self.decay = commitment, update, decay
        self.estimator, self.restart_after = estimator, restart_after
        start = torch.empty(codes, dim).uniform_(-1 / codes, 1 / codes)
        if update == "gradient":
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("counts", torch.ones(codes))
            self.register_buffer("sums", start.clone())
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))

    @torch.no_grad()
    def start_at(self, x_BM: Tensor, generator: torch.Generator) -> Tensor:
        """Put the codewords at k-means centres of these vectors, whose codes, [B], are returned and set EMA counts."""
        self.codebook.copy_(kmeans(x_BM, len(self.codebook), generator))
        members = nearest(x_BM, self.codebook)
        if self.update == "ema":
            counts = torch.bincount(members, minlength=len(self.codebook)).to(self.counts)
            self.counts.copy_(counts.clamp_min(1e-3) / counts.mean())
            self.sums.copy_(self.codebook * self.counts[:, None])
        return members

    def forward(self, x_BM: Tensor, learn: bool = True, codes: Tensor | None = None) -> Quantized:
        """Quantise B vectors; in training mode, unless told not to `learn`, also update the codebook's statistics.

        `codes`, [B]: which codewords stand for them, the nearest where None.
        """
        codes = nearest(x_BM.detach(), self.codebook.detach()) if codes is None else codes
        words = F.embedding(codes, self.codebook)
        loss = self.commitment * F.mse_loss(x_BM, words.detach())
        if self.update == "gradient":
            loss = loss + F.mse_loss(words, x_BM.detach())
        if self.training and learn:
            self._learn(x_BM.detach(), codes)
        words = words.detach()
        straight = self.estimator == "straight-through"
        vectors = x_BM + (words - x_BM).detach() if straight else _rotate(x_BM, words)
        return Quantized(vectors, codes, loss)

    @torch.no_grad()
    def _learn(self, x_BM: Tensor, codes: Tensor) -> None:
        wins = torch.bincount(codes, minlength=len(self.codebook))
        self.idle.add_(1).masked_fill_(wins > 0, 0)
        if self.update == "ema":
            scale = len(wins) / len(codes)
            sums = torch.zeros_like(self.sums).index_add_(0, codes, x_BM)
            self.counts.lerp_(wins.to(x_BM) * scale, 1 - self.decay)
            self.sums.lerp_(sums * scale, 1 - self.decay)
            self.codebook.copy_(self.sums / self.counts.clamp_min(1e-6)[:, None])
        dead = (self.idle >= self.restart_after).nonzero().ravel()
        if not self.restart_after or not len(dead):
            return
        fresh = x_BM[torch.randint(len(x_BM), (len(dead),), device=x_BM.device)]
        self.codebook.data[dead] = fresh
        self.idle[dead] = 0
        if self.update == "ema":
            self.counts[dead] = 1.0
            self.sums[dead] = fresh


def _rotate(x_BM: Tensor, words_BM: Tensor) -> Tensor:
    """The codeword as a rotation and scaling of the input, held constant in the backward pass."""
    from_unit = F.normalize(x_BM.detach(), dim=1)
    to_unit = F.normalize(words_BM, dim=1)
    middle = F.normalize(from_unit + to_unit, dim=1)
    scale = words_BM.norm(dim=1, keepdim=True) / x_BM.detach().norm(dim=1, keepdim=True).clamp_min(1e-9)
    mirrored = x_BM - 2 * (x_BM * middle).sum(1, keepdim=True) * middle
    turned = mirrored + 2 * (x_BM * from_unit).sum(1, keepdim=True) * to_unit
    return torch.mul(turned, scale)


def parted_codes(codes_NL: Ints, x_NM: Floats, centres_KM: Floats) -> Ints:
    """The codes with other last ones where items share a name, so that none do where there are centres enough.

    `x_NM` is what the last level stands for, the centres its codewords. Among items alike in all levels above, each
    gets a centre of its own, the sum of squared distances being the least; more items than centres stay as they are.
    Time O(N·L·log N), and n²·K for each such group of n.
    """
    parted_NL, (_, above_N) = codes_NL.copy(), np.unique(codes_NL[:, :-1], axis=0, return_inverse=True)
    name_N = np.unique(codes_NL, axis=0, return_inverse=True)[1].ravel()
    shares_N = np.bincount(name_N)[name_N] > 1
    for group in np.unique(above_N.ravel()[shares_N]):
        rows = np.flatnonzero(above_N.ravel() == group)
        if len(rows) <= len(centres_KM):
            cost_nK = ((x_NM[rows, None] - centres_KM) ** 2).sum(2)
            parted_NL[rows, -1] = linear_sum_assignment(cost_nK)[1]
    return parted_NL


class RqVaeConfig(NamedTuple):
    """How an RQ-VAE is trained."""

    width: int = 256
    """Codewords per level."""
    depth: int = 3
    hidden: tuple[int, ...] = (512, 256, 128)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    code_dim: int = 32
    """M: width of a codeword."""
    batch_size: int = 1024
    """Items per step."""
    epochs: int = 200
    seed: int = 0
    uniform: bool = False
    """Whether the last level's codewords stand for equally many items, and no two items share a name (LC-Rec)."""
    collaborative: float = 0.0
    """Weight of the contrast with behaviour vectors: LETTER's alpha, .01 in its released code."""
    diversity: float = 0.0
    """Weight of what spreads the codewords of a level: LETTER's beta, .0001."""


def collaborative_loss(names_BM: Tensor, behaviour_BM: Tensor) -> Tensor:
    """Cross-entropy of each item's behaviour vector among the batch's, by inner product with its name (LETTER)."""
    return F.cross_entropy(names_BM @ behaviour_BM.T, torch.arange(len(names_BM), device=names_BM.device))


def diversity_loss(codes_B: Tensor, codebook_KM: Tensor, partners_K: Tensor) -> Tensor:
    """Cross-entropy of a codeword's partner, another of its cluster, among all but itself, by inner product (LETTER).

    So codewords of a cluster come together and clusters part: items spread evenly over them.
    """
    scores_BK = F.embedding(codes_B, codebook_KM) @ codebook_KM.T
    itself_BK = F.one_hot(codes_B, len(codebook_KM)).bool()
    return F.cross_entropy(scores_BK.masked_fill(itself_BK, -torch.inf), partners_K[codes_B])


def drawn_partners(codebook_KM: Tensor, random: np.random.Generator) -> Tensor:
    """[K] for each codeword another one of its cluster, drawn; clusters by balanced k-means, of two at least."""
    words_1KM = codebook_KM.detach().numpy()[None]
    cluster_K = split(words_1KM, min(GROUPS, len(codebook_KM) // 2), random, 8)[0]
    order_K = np.lexsort((random.random(len(cluster_K)), cluster_K))
    sizes = np.bincount(cluster_K)[cluster_K[order_K]]
    starts = np.searchsorted(cluster_K[order_K], cluster_K[order_K])
    partners_K = np.empty_like(order_K)
    partners_K[order_K] = order_K[starts + (np.arange(len(order_K)) - starts + 1) % sizes]
    return torch.from_numpy(partners_K)


class RqVae(nn.Module):
    """An autoencoder whose middle is a sum of codewords, one per level, each quantising what is left.

    Settings as LC-Rec's, but with living codebooks, as gradient ones collapse on small catalogues. With `diversity`
    they learn by gradient, and live by that term and by restarts.
    """

    def __init__(self, dim: int, config: RqVaeConfig, restart_after: int) -> None:
        """`restart_after`: steps without a win after which a codeword moves to a random residual."""
        super().__init__()
        self.config, self.random = config, np.random.default_rng(config.seed)
        widths = [dim, *config.hidden, config.code_dim]
        self.encoder, self.decoder = _layers(widths), _layers(widths[::-1])
        update = "gradient" if config.diversity else "ema"
        options: dict[str, Any] = {"commitment": 0.25, "restart_after": restart_after, "update": update}
        books = (Quantizer(config.width, config.code_dim, **options) for _ in range(config.depth))
        self.books = cast("Sequence[Quantizer]", nn.ModuleList(books))

    def forward(self, x_BD: Tensor, behaviour_BM: Tensor | None = None) -> Tensor:
        """Reconstruction error, the levels' commitment and LETTER's terms; in training mode codebooks learn."""
        left_BM = self.encoder(x_BD)
        total_BM, loss = torch.zeros_like(left_BM), x_BD.new_zeros(())
        for level, book in enumerate(self.books):
            found = book(left_BM, codes=self._even(level, left_BM))
            total_BM, loss = total_BM + found.vectors, loss + found.loss
            left_BM = left_BM - found.vectors.detach()
            if self.config.diversity:
                partners_K = drawn_partners(book.codebook, self.random)
                apart = diversity_loss(found.codes, book.codebook, partners_K)
                loss = loss + self.config.diversity * apart
        if behaviour_BM is not None:
            loss = loss + self.config.collaborative * collaborative_loss(total_BM, behaviour_BM)
        return loss + F.mse_loss(self.decoder(total_BM), x_BD)

    def _even(self, level: int, left_BM: Tensor) -> Tensor | None:
        """The last level's codes where its codewords are shared out; None: the nearest."""
        if not self.config.uniform or level < self.config.depth - 1:
            return None
        given = left_BM.detach().numpy(), self.books[level].codebook.numpy()
        return torch.from_numpy(even_codes(*given, self.random))

    @torch.no_grad()
    def codes(self, x_ND: Tensor, start: torch.Generator | None = None) -> Tensor:
        """[N, L] the codeword of every level; with `start` codewords first move to centres of what is left for them.

        With `uniform` no two items get the same, where there are codewords enough.
        """
        left_NM, codes = self.encoder(x_ND), []
        for level, book in enumerate(self.books):
            if start:
                book.start_at(left_NM, start)
            even_N = self._even(level, left_NM)
            codes.append(nearest(left_NM, book.codebook) if even_N is None else even_N)
            if even_N is not None:
                given = left_NM.numpy(), book.codebook.numpy()
                return torch.from_numpy(parted_codes(torch.stack(codes, dim=1).numpy(), *given))
            left_NM = left_NM - book.codebook[codes[-1]]
        return torch.stack(codes, dim=1)


def rqvae_codes(
    vectors_ND: Vectors, config: RqVaeConfig, name: str = "vectors", behaviour_NC: Vectors | None = None
) -> Codes:
    """Train on these vectors and give their codes, [N, L]; items may share one (see `index.unique_index`).

    Deterministic on one machine; 12,101 items of 384 coordinates take about a minute on one core at the defaults.
    `behaviour_NC`: who takes the items, for `collaborative`; brought to a codeword's width by its first directions.

    Raises:
        UserError: vectors that are no table of finite numbers (`name` in the message).
    """
    x_ND, taken_NM = _scaled(vectors_ND, name), None
    if behaviour_NC is not None and config.collaborative:
        taken_NM = _narrowed(_scaled(behaviour_NC, "behaviour vectors"), config.code_dim)
    generator = torch.Generator().manual_seed(config.seed)
    steps = -(-len(x_ND) // config.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RqVae(x_ND.shape[1], config, restart_after=steps)
        model.codes(x_ND, start=generator)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        mean = 0.0
        with Progress("training the RQ-VAE", config.epochs) as progress:
            for _ in range(config.epochs):
                losses = []
                for rows in torch.split(torch.randperm(len(x_ND), generator=generator), config.batch_size):
                    loss = model(x_ND[rows], None if taken_NM is None else taken_NM[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(float(loss.detach()))
                mean = sum(losses) / len(losses)
                progress.advance(note=f"loss {mean:.4f}")
    log.info("RQ-VAE on %s: last loss %.4f", name, mean)
    return model.eval().codes(x_ND).numpy().astype(np.int32)


def _scaled(vectors_ND: Vectors, name: str) -> Tensor:
    """Centred, their mean square 1."""
    x_ND = torch.from_numpy(checked_vectors(vectors_ND, name))
    return x_ND / x_ND.square().mean().sqrt().clamp_min(1e-12)


def _narrowed(x_NC: Tensor, width: int) -> Tensor:
    """[N, width] their first principal directions, which keep inner products best; zeros behind narrow ones."""
    _, _, turn_CC = torch.linalg.svd(x_NC.T @ x_NC)
    kept = (x_NC @ turn_CC[:width].T)[:, :width]
    return F.pad(kept, (0, width - kept.shape[1]))


def _layers(widths: list[int]) -> nn.Sequential:
    layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])
