"""PETER against torch's own transformer encoder, built from its description alone; its losses; PETER+'s sentence."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from forwhy.errors import UserError
from forwhy.explain.words import BOS, EOS, WordBatch, WordRow
from forwhy.systems.peter import PeterConfig, PeterNetwork
from forwhy.systems.peter_plus import PeterPlusConfig

CPU = torch.device("cpu")
WORDS = 15
PLAIN = [
    WordRow(1, 2, (4, 5, 6, 7, EOS), rating=4.0),
    WordRow(0, 1, (8, EOS)),
    WordRow(3, 3, (9, 9, 4), rating=1.0),
]
SHOWN = [replace(row, shown=shown) for row, shown in zip(PLAIN, [(10, 11), (), (12, 13, 14)], strict=True)]


@pytest.fixture
def network() -> PeterNetwork[PeterConfig]:
    torch.manual_seed(0)
    made = PeterNetwork(4, 5, WORDS, True, PeterConfig(dims=8, heads=2, layers=2, feedforward=12))
    with torch.no_grad():
        for parameter in made.parameters():  # biases and norms too, or nothing would tell them apart
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def theirs(network: PeterNetwork[PeterConfig]) -> nn.TransformerEncoder:
    """The same weights in torch's own encoder."""
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.2, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    state = {}
    for number, own in enumerate(network.layers):
        parts = {
            "self_attn.in_proj_": own.read, "self_attn.out_proj.": own.join, "linear1.": own.up, "linear2.": own.down,
            "norm1.": own.norms[0], "norm2.": own.norms[1],
        }  # fmt: skip
        for name, part in parts.items():
            for kind in ("weight", "bias"):
                state[f"layers.{number}.{name}{kind}"] = getattr(part, kind)
    encoder.load_state_dict(state)
    return encoder


def states(network: PeterNetwork[PeterConfig], row: WordRow) -> Tensor:
    """[S, D] of one pair, without padding: the mask is written out cell by cell."""
    words = [*row.shown, BOS, *row.target[:-1]]
    vectors = [network.users.weight[row.user], network.items.weight[row.item]]
    vectors += [network.words.weight[word] for word in words]
    placed = []
    for place, vector in enumerate(vectors):
        waves = [
            (math.sin if column % 2 == 0 else math.cos)(place / 10_000 ** (2 * (column // 2) / 8))
            for column in range(8)
        ]
        placed.append(vector * math.sqrt(8) + torch.tensor(waves))
    count = len(placed)
    hidden = torch.tensor(
        [[key > query and (query, key) != (0, 1) for key in range(count)] for query in range(count)]
    )
    found: Tensor = theirs(network)(torch.stack(placed)[None], mask=hidden)[0]
    return found


@pytest.mark.parametrize("rows", [PLAIN, SHOWN], ids=["peter", "peter-plus"])
def test_losses_are_those_of_torchs_own_encoder(
    network: PeterNetwork[PeterConfig], rows: list[WordRow]
) -> None:
    text, context, rating = [], [], []
    for row in rows:
        state = states(network, row)
        said = state[2 + len(row.shown) :]
        logs = network.out(said).log_softmax(-1)
        text += [-logs[place, word] for place, word in enumerate(row.target)]
        bag = network.out(state[1]).log_softmax(-1)
        context += [-bag[word] for word in row.target if word != EOS]
        assert network.rating is not None
        if math.isfinite(row.rating):
            rating.append((network.rating(state[0])[0] - row.rating) ** 2)
    parts = [torch.stack(part).mean() for part in (text, context, rating)]
    found = network.losses(WordBatch.of(rows, CPU))
    for name, expected in zip(("nll", "context", "rating"), parts, strict=True):
        torch.testing.assert_close(found[name], expected, msg=name)
    torch.testing.assert_close(found["loss"], parts[0] + parts[1] + 0.1 * parts[2])


@pytest.mark.parametrize("rows", [PLAIN, SHOWN], ids=["peter", "peter-plus"])
def test_word_by_word_is_all_at_once(network: PeterNetwork[PeterConfig], rows: list[WordRow]) -> None:
    batch = WordBatch.of(rows, CPU)
    with torch.no_grad():
        whole = network.logits(batch).split([len(row.target) for row in rows])
        state, word = network.begin(batch), torch.full((len(rows),), BOS)
        for place in range(batch.target_BT.shape[1]):
            logits, state = network.step(word, state)
            for number, row in enumerate(rows):
                if place < len(row.target):
                    torch.testing.assert_close(logits[number], whole[number][place], rtol=1e-4, atol=1e-5)
            word = batch.target_BT[:, place]


def test_nothing_looks_at_padding_or_ahead(network: PeterNetwork[PeterConfig]) -> None:
    batch = WordBatch.of(SHOWN, CPU)
    shares = network.shares(batch)
    torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:2]))
    assert shares[1, :, 2:5].abs().max() == 0, "its sentence is empty"
    assert shares[0, :, 4].abs().max() == 0, "a word shorter than the longest"
    assert shares[2, 0, 6:].abs().max() == 0, "<bos> sees no word of the text"
    assert shares[2, 0, 2:5].min() > 0


def test_without_ratings_there_is_no_term() -> None:
    network = PeterNetwork(4, 5, WORDS, False, PeterConfig(dims=8))
    assert set(network.losses(WordBatch.of(PLAIN, CPU))) == {"loss", "nll", "context"}
    assert not any(name.startswith("rating") for name, _ in network.named_parameters())


def test_presets_are_what_was_published() -> None:
    for paper in (PeterConfig(preset="paper"), PeterPlusConfig(preset="paper")):
        assert (paper.dims, paper.heads, paper.layers, paper.feedforward, paper.dropout) == (
            512,
            2,
            2,
            2048,
            0.2,
        )
        assert (paper.optimizer, paper.lr, paper.schedule, paper.gradient_clip) == (
            "sgd",
            1.0,
            "plateau",
            1.0,
        )
        assert (paper.batch_size, paper.context, paper.rating, paper.words, paper.least) == (
            128,
            1.0,
            0.1,
            15,
            1,
        )
    assert PeterPlusConfig().shows == {"profiles"}
    assert not PeterConfig().shows
    with pytest.raises(UserError, match="dims = 9 is no multiple of 2 heads; change either"):
        PeterConfig(dims=9)
