"""RQ-VAE: an autoencoder whose middle is a sum of codewords, one per level, each quantising what is left.

Source: Lee et al. 2022; TIGER section 3.1; settings as LC-Rec's (commitment .25, k-means start), but codewords follow
exponential means and dead ones restart, because gradient codebooks collapse on small catalogues.
Legend: N items, B batch, D width of the vectors, M width of the code, L levels.
"""

import logging

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from forwhy.progress import Progress
from forwhy.vocabulary.indices.clusters import checked_vectors
from forwhy.vocabulary.quantizer import Quantizer, kmeans, nearest

__all__ = ["RqVae", "RqVaeConfig", "rqvae_codes"]

log = logging.getLogger(__name__)


class RqVaeConfig(BaseModel):
    """How an RQ-VAE is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    width: int = Field(default=256, ge=2)
    """Codewords per level."""

    depth: int = Field(default=3, ge=1)
    """Levels."""

    hidden: tuple[int, ...] = (512, 256, 128)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""

    code_dim: int = Field(default=32, ge=1)
    """M: width of a codeword."""

    commitment: float = Field(default=0.25, ge=0.0)
    """Weight of the distance of each residual from its codeword."""

    learning_rate: float = Field(default=1e-3, gt=0.0)
    """Of Adam."""

    batch_size: int = Field(default=1024, ge=1)
    """Items per step."""

    epochs: int = Field(default=200, ge=1)
    """Passes over the items."""

    seed: int = Field(default=0, ge=0)
    """Of every random choice."""


class RqVae(nn.Module):
    """Encoder, L codebooks, decoder."""

    def __init__(self, dim: int, config: RqVaeConfig, restart_after: int) -> None:
        """`restart_after`: steps without a win after which a codeword moves to a random residual."""
        super().__init__()
        widths = [dim, *config.hidden, config.code_dim]
        self.encoder, self.decoder = _layers(widths), _layers(widths[::-1])
        self._books = nn.ModuleList(
            Quantizer(
                config.width, config.code_dim, commitment=config.commitment, restart_after=restart_after
            )
            for _ in range(config.depth)
        )

    @property
    def books(self) -> list[Quantizer]:
        """The codebooks, first level first."""
        return [book for book in self._books if isinstance(book, Quantizer)]

    def forward(self, x_BD: Tensor) -> Tensor:
        """Reconstruction error plus the levels' commitment, both as means; in training mode codebooks learn."""
        left_BM = self.encoder(x_BD)
        total_BM, loss = torch.zeros_like(left_BM), x_BD.new_zeros(())
        for book in self.books:
            found = book(left_BM)
            total_BM, loss = total_BM + found.vectors, loss + found.loss
            left_BM = left_BM - found.vectors.detach()
        return loss + F.mse_loss(self.decoder(total_BM), x_BD)

    @torch.no_grad()
    def start_codebooks(self, x_ND: Tensor, generator: torch.Generator) -> None:
        """Put each level's codewords at k-means centres of what the levels above leave."""
        left_NM = self.encoder(x_ND)
        for book in self.books:
            centres = kmeans(left_NM, len(book.codebook), generator)
            members = nearest(left_NM, centres)
            book.start_at(centres, members)
            left_NM = left_NM - centres[members]

    @torch.no_grad()
    def codes(self, x_ND: Tensor) -> Tensor:
        """[N, L] the codeword of every level."""
        left_NM, codes = self.encoder(x_ND), []
        for book in self.books:
            codes.append(nearest(left_NM, book.codebook))
            left_NM = left_NM - book.codebook[codes[-1]]
        return torch.stack(codes, dim=1)


def rqvae_codes(
    vectors_ND: NDArray[np.floating], config: RqVaeConfig, name: str = "vectors"
) -> NDArray[np.int32]:
    """Train on these vectors and give their codes, [N, L]; items may share one (see `published.unique_index`).

    The same input and seed give the same codes on one machine. 12,101 items of 384 coordinates take about a minute on
    one core at the defaults.

    Raises:
        UserError: vectors that are no table of finite numbers (`name` in the message).
    """
    x_ND = torch.from_numpy(checked_vectors(vectors_ND, name))
    x_ND = x_ND / x_ND.square().mean().sqrt().clamp_min(1e-12)
    generator = torch.Generator().manual_seed(config.seed)
    steps = -(-len(x_ND) // config.batch_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RqVae(x_ND.shape[1], config, restart_after=steps)
        model.start_codebooks(x_ND, generator)
        loss = _train(model, x_ND, config, generator)
    log.info("RQ-VAE on %s: last loss %.4f", name, loss)
    return model.eval().codes(x_ND).numpy().astype(np.int32)


def _train(model: RqVae, x_ND: Tensor, config: RqVaeConfig, generator: torch.Generator) -> float:
    """The mean loss of the last epoch."""
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    loss, mean = torch.zeros(()), 0.0
    with Progress("training the RQ-VAE", config.epochs) as progress:
        for _ in range(config.epochs):
            losses = []
            for rows in torch.split(torch.randperm(len(x_ND), generator=generator), config.batch_size):
                loss = model(x_ND[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss.detach()))
            mean = sum(losses) / len(losses)
            progress.advance(note=f"loss {mean:.4f}")
    return mean


def _layers(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
