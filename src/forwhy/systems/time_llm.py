"""Time-LLM: patches of vectors said in prototypes of words, which a frozen language model reads (Jin et al. 2024).

Reprogramming (section 3.1 of the paper): a linear map over the word table makes V' text prototypes E'; patches attend
to these with several heads, Q = P W_Q, K = E' W_K, V = E' W_V, Z = softmax(Q K^T / sqrt(d_k)) V, and a linear layer
brings the heads to the model's width, a token for each patch. The instruction stands before them (prompt as prefix).

Adapted: no series of time. A patch is a piece of a graph vector, pieces overlapping by half, or the codeword of a slot;
nothing is said of trends and lags; the output is words, so the paper's output projection is the model's own head. The
map reads a fixed set of words, the commonest that begin a word in the tokenizer (it numbers the commonest first), not
all: over 49,152 words it would be 49 million numbers for 1,000 prototypes, a third of SmolLM2-135M.

Shapes: B pairs, S vectors of a node, d width of a vector, P patches, p width of a patch, H heads, e width of a head, W
words, T prototypes, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt

from forwhy.columns import Side
from forwhy.explain.nodes import CodeNodeExplainer, NodeConfig, NodeExplainer, Nodes, presets
from forwhy.lazy import Network, torch
from forwhy.options import Presets
from forwhy.systems.nodes import NodeSystem

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from forwhy.bridge.backbone import Backbone

_BEGINS = ("\u0120", "\u2581")
"""What tokenizers write before a token that begins a word."""


class TimeLlmConfig(NodeConfig):
    """Sizes of patches, heads and prototypes."""

    presets: ClassVar[Presets] = presets(prototypes=1000, words=8192, head_width=128, patch_width=32)
    patch: PositiveInt = 16
    """Numbers of a graph vector in a patch; the next begins at half of it. At most the vector's width."""
    patch_width: PositiveInt = 64
    """Width that a patch is brought to before it asks."""
    heads: PositiveInt = 8
    """Heads of the attention."""
    head_width: PositiveInt = 32
    """d_k: width of a head's keys and values."""
    prototypes: PositiveInt = 128
    """V': what words are summed up in."""
    words: PositiveInt = 2048
    """Words that the prototypes are made of. A step makes them anew: 2 x prototypes x words x width operations."""


class Reprogrammed(Network):
    """[B, S, d] -> [B, P, D]."""

    words_WD: Tensor

    def __init__(self, config: TimeLlmConfig, dims: int, cut: bool, words_WD: Tensor) -> None:
        """`dims`: d; `cut`: whether a vector is cut into patches, or is one; `words_WD` in units of a coordinate."""
        super().__init__()
        nn, inner = torch.nn, config.heads * config.head_width
        self.heads, self.patch = config.heads, min(config.patch, dims) if cut else dims
        self.register_buffer("words_WD", words_WD, persistent=False)
        width = words_WD.shape[1]
        self.embedding = nn.Linear(self.patch, config.patch_width)
        self.mapping = nn.Linear(len(words_WD), config.prototypes)
        self.query = nn.Linear(config.patch_width, inner)
        self.key, self.value = nn.Linear(width, inner), nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)

    def patches(self, vectors_BSd: Tensor) -> Tensor:
        """[B, P, p]."""
        pieces_BSPp = vectors_BSd.unfold(2, self.patch, max(1, self.patch // 2))
        return pieces_BSPp.flatten(1, 2)

    def prototypes(self) -> Tensor:
        """[T, D], each a weighted sum of words."""
        prototypes_TD: Tensor = self.mapping(self.words_WD.T).T
        return prototypes_TD

    def forward(self, vectors_BSd: Tensor) -> Tensor:
        """A token for each patch. Time O(T W D + B P T H e)."""
        prototypes_TD = self.prototypes()
        asked_BPI = self.query(self.embedding(self.patches(vectors_BSd)))
        query_BHPe = asked_BPI.unflatten(2, (self.heads, -1)).transpose(1, 2)
        key_HTe, value_HTe = (
            layer(prototypes_TD).unflatten(1, (self.heads, -1)).transpose(0, 1)
            for layer in (self.key, self.value)
        )
        shares_BHPT = (query_BHPe @ key_HTe.transpose(1, 2) / key_HTe.shape[2] ** 0.5).softmax(dim=-1)
        tokens_BPD: Tensor = self.out((shares_BHPT @ value_HTe).transpose(1, 2).flatten(2))
        return tokens_BPD


def common_words(tokenizer: PreTrainedTokenizerBase, count: int) -> list[int]:
    """Ids of the tokens that begin a word of letters, the commonest first; all tokens where a tokenizer marks none."""
    spelled = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    begin = [n for n, it in enumerate(spelled) if it and it.startswith(_BEGINS) and it[1:].isalpha()]
    return (begin or list(range(len(spelled))))[:count]


class TimeLlmExplainer(NodeExplainer):
    """Reads patches of a user's and an item's vector, each as a mixture of prototypes of words."""

    system, title = "time-llm", "Time-LLM"
    config_type = TimeLlmConfig
    config: TimeLlmConfig
    cuts: ClassVar[bool] = True
    """Whether a vector is cut into patches."""

    def _maker(self, nodes: Mapping[Side, Nodes], backbone: Backbone) -> Reprogrammed:
        ids_W = torch.tensor(common_words(backbone.tokenizer, self.config.words))
        unit = backbone.word_norm / backbone.width**0.5
        words_WD = backbone.embed(ids_W).float().cpu() / unit
        return Reprogrammed(self.config, nodes["user"].shape[1], self.cuts, words_WD)

    def _count(self, nodes: Nodes) -> int:
        vectors, dims = nodes.shape
        patch = min(self.config.patch, dims) if self.cuts else dims
        return int(vectors * (1 + (dims - patch) // max(1, patch // 2)))


class TimeLlmOfCodes(CodeNodeExplainer, TimeLlmExplainer):
    """Time-LLM of behaviour tokens: the codeword of a slot is a patch."""

    cuts = False


class TimeLlm(NodeSystem):
    """Vectors said in prototypes of words."""

    system: Literal["time-llm"] = "time-llm"
    explainer: TimeLlmConfig = Field(default_factory=TimeLlmConfig)

    def new_explainer(self) -> TimeLlmExplainer:
        """Of graph vectors or of behaviour tokens."""
        return (TimeLlmOfCodes if self.reads_words else TimeLlmExplainer)(self.explainer)
