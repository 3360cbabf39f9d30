"""Options of the bridge. No torch here."""

import re
from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from forwhy.options import Options


class PromptConfig(Options):
    """What the model is told around the behaviour tokens."""

    instruction: str = Field(
        default=(
            "You explain recommendations. Below stand behaviour tokens that a recommender system has "
            "learned: those of a user, first the overall taste and then the single interests, and those of"
            " an item, first what it is overall and then the single things people come to it for. Read "
            "them as words. Say in one or two plain sentences, at most 50 words, why this user would enjoy"
            " this item. Name what the item offers and what the user likes. Do not mention tokens, scores "
            "or the recommender itself."
        ),
        min_length=1,
    )
    """Constant and first in the prompt, so its keys and values are computed once: its length costs almost nothing."""
    order: Literal["user-item", "item-user"] = "user-item"
    """Which side's tokens stand nearer to the explanation: the second one."""
    labels: bool = False
    """Write `User:` and `Item:` before the tokens (about two more positions per side and pair)."""
    title: bool = False
    """Show the item's title. The papers do; it tells the model about the item what the tokens should tell."""
    title_tokens: PositiveInt = 24
    """Longest title, in tokens of the model; the rest is cut."""
    profiles: bool = False
    """Show the texts that say in words who the user is and who would like the item, where there are any.
    Profiles that came with a data set may have been written from held-out reviews."""
    profile_tokens: PositiveInt = 96
    """Longest profile, in tokens of the model; the rest is cut."""
    task_tokens: NonNegativeInt = 8
    """Shared trainable tokens before the behaviour tokens, the same for every pair (a soft instruction)."""
    task_depth: Literal["input", "every-layer"] = "every-layer"
    """Where the task tokens are trained: as input vectors only, or their keys and values in each layer too (prefix
    tuning, Li and Liang 2021; layers x 2 x task tokens x key-value width numbers). The model's weights stay frozen."""
    task_words: str = "Explain in one or two short sentences why this user would enjoy this item"
    """The task tokens start at the embeddings of these words, repeated when there are fewer than `task_tokens`."""
    target_tokens: PositiveInt = 128
    """Longest explanation trained on or scored, in tokens of the model, end token excluded."""


class ProjectorConfig(Options):
    """How a code becomes a vector that the model reads in place of a word."""

    kind: Literal["mlp", "linear"] = "mlp"
    """`mlp`: linear, GELU, linear. `linear`: the released code's two linears with nothing in between."""
    hidden: NonNegativeInt = 0
    """Width between the two layers; 0 = half of code width + model width, as in the released code."""
    start: Literal["words", "none"] = "words"
    """`words`: each code starts at the embedding of a real word, a keyword of the code that is one token of
    the model, and the network learns what to add. `none`: the network alone, from random."""
    scale: Literal["word-norm", "word-size", "raw"] = "word-norm"
    """`word-norm`: every output is brought to the mean norm of the model's word embeddings. `word-size`: the network's
    output is multiplied by the size of a word embedding's coordinate, the norm is free. `raw`: as is."""
    alpha: PositiveFloat = 1.0
    """Factor on what the network adds to the start, in units of a word embedding."""
    zero_last: bool = True
    """The last layer starts at zero, so that training starts at the words. Needs `start = "words"`."""
    standardise: bool = True
    """Centre each codebook and give it unit variance before the network: codewords come in any size."""
    slot_embedding: bool = True
    """Add a trained vector per slot, so that one code may mean different things in different slots."""
    code_offsets: bool = False
    """A trained vector per code, starting at zero, added to its output: 4 x 512 x model width more numbers."""
    train_codebooks: bool = False
    """Train the codewords too, as the released code does; the vocabulary itself stays as it was."""
    token_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Chance per behaviour token of being hidden from the model in a training step."""


class SarConfig(Options):
    """Semantic alignment regularisation (BEAT eq. 10, 11)."""

    gamma: NonNegativeFloat = 0.0
    """Weight of SAR beside the NLL; 0 leaves it out."""
    candidates: Literal["sample", "codebook"] = "codebook"
    """What an explanation's words are matched with: the pair's own twelve tokens (released code) or all
    projected codes of both sides (eq. 10)."""
    metric: Literal["cosine", "l2"] = "l2"
    """Nearest by largest cosine (released code) or smallest distance (eq. 10)."""
    pairs: NonNegativeInt = 256
    """Word pairs drawn per explanation (eq. 11's sampled set); 0 = all i < j."""
    average: Literal["mean", "sum"] = "mean"
    """`sum`: over an explanation's pairs, as eq. 11 says, beside the NLL's sum over tokens (eq. 12). In units of the
    mean NLL, SAR then weighs pairs / tokens times as much: 5.7 times with 256 pairs and 45 tokens."""
    states: Literal["input", "last"] = "input"
    """Vectors of words and tokens that are compared: those that the model is given, or what its last layer makes of
    them ("encoded by the LLM"), at the cost of reading the text and the candidates once more."""


class GenerationConfig(Options):
    """Greedy decoding."""

    max_words: PositiveInt = 60
    """Longest explanation in words; a longer one is cut at its last sentence end within the limit."""
    max_new_tokens: PositiveInt = 96
    """Longest explanation in tokens of the model, whatever the words."""
    no_repeat: int = Field(default=0, ge=0)
    """No run of this many tokens is said twice in an explanation: greedy decoding of a small model can
    loop. 0 = no such rule, 1 = no token twice."""
    end_bias: float = 0.0
    """Added to the log-odds of ending, in nats: the most probable text is shorter than those it was learned
    from, and a negative value makes it longer. 0 leaves the model alone."""
    batch_size: PositiveInt = 16
    """Pairs decoded together; the next take the places of those that are done. Memory: batch x positions x the
    model's key-value size, twice that while places are taken."""


WritingEngine = Literal["torch", "auto", "bf16", "int8"]
"""What writes in this process: the model as it is, or a copy of its weights in fewer bits."""
InjectionMode = Literal["projected", "identity"]
"""`projected`: queries, keys and values are W(x + a) + b (XRec eq. 12). `identity`: W x + b + a, as in the
released code."""


class AdapterConfig(Options):
    """How a graph vector becomes a vector that the model reads and that is injected (XRec)."""

    experts: PositiveInt = 8
    """Linear maps that are mixed. The paper's number."""
    top: NonNegativeInt = 0
    """Experts in use for one vector, those of largest gate; 0 = all, as in the released code."""
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Chance per coordinate of an expert's input of being zero in training."""
    noise: bool = True
    """Add noise to the gate in training, of a size that is learned."""
    noise_floor: NonNegativeFloat = 0.01
    """Least size of the noise, the paper's noise factor; the learned part starts at log 2."""
    start_std: PositiveFloat = 0.02
    """Deviation of the experts' weights at the start."""
    standardise: bool = True
    """Centre the vectors and divide them by their overall deviation: graph vectors come in any size."""
    scale: Literal["raw", "word-size"] = "word-size"
    """`word-size`: the output is multiplied by the size of a word embedding's coordinate, so that one learning
    rate fits every model. `raw`: as is, as in the released code."""

    @model_validator(mode="after")
    def _top_of_experts(self) -> Self:
        if self.top > self.experts:
            raise ValueError(f"top = {self.top} of {self.experts} experts; lower it, or 0 for all")
        return self


# --- How a text ends

_SENTENCE_END = re.compile(r"[.!?][\"'\u201d\u2019)\]]*(?=\s|$)")


def finish(text: str, ended: bool, max_words: int) -> str:
    """White space collapsed; a text too long or cut off ends at its last sentence end within the cap, where one is."""
    words = text.split()
    kept = " ".join(words[:max_words])
    if ended and len(words) <= max_words:
        return kept
    ends = [match.end() for match in _SENTENCE_END.finditer(kept)]
    return kept[: ends[-1]] if ends else kept
