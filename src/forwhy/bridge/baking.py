"""Behaviour words baked into a copy of a language model: rows of its own input embedding, read by their ids.

A soft token of BEAT is a fixed function of its slot and code, and a task token is a constant. So each can be a word of
the model. Whatever engine takes token ids then reads them: transformers, vLLM, a server. What has no id stays out:
vectors in every layer (XRec, `prompt.task_depth = "every-layer"`), and what is done between tokens (`no_repeat`,
guidance).

Shapes: N new words, D model width, V words of the model before, T words after, K codes of a slot.
"""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.options import GenerationConfig
from forwhy.bridge.projectors import Bridge
from forwhy.bridge.prompt import Prompt, Row
from forwhy.columns import SIDES, Side
from forwhy.errors import UserError
from forwhy.progress import without_bars
from forwhy.text.hostile import framed
from forwhy.vocabulary.vocabulary import Vocabulary, token_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PAIR = "pair"
"""Role of a chat turn whose content stands behind the instruction and the task tokens."""
_CLOSE = 1e-4
log = logging.getLogger(__name__)


class Spelling:
    """How task and behaviour tokens are written in a model whose last words they are: names, ids, vectors."""

    def __init__(self, vocabulary: Vocabulary, prompt: Prompt, first: int | None = None) -> None:
        """Names are the vocabulary's; where slots share a book, those of its second slot end in `.2>`, and so on.

        `first`: the id of the first one, where the tokenizer is a baked one and has them all.
        """
        self.prompt, self.first = prompt, len(prompt.tokenizer) if first is None else first
        self.names = [f"<task_{number}>" for number in range(len(prompt.task_ids))]
        self.codes: dict[tuple[Side, int], range] = {}
        """Side and slot -> the ids of its codes."""
        for side in SIDES:
            for slot, book in enumerate(books := vocabulary.slots(side)):
                again = books[:slot].count(book)
                ending = f".{again + 1}>" if again else ">"
                begin = self.first + len(self.names)
                self.codes[side, slot] = range(begin, begin + len(vocabulary.codebooks[book]))
                own = (token_name(book, code) for code in range(len(vocabulary.codebooks[book])))
                self.names += [name.removesuffix(">") + ending for name in own]
        self.tokenizer = _with_words(prompt, self.names) if first is None else prompt.tokenizer

    @property
    def new(self) -> range:
        """The ids of all new words."""
        return range(self.first, self.first + len(self.names))

    def ids(self, row: Row) -> list[int]:
        """All ids of a row's prompt, from the first one of the chat template to the header of the answer."""
        held: dict[Side, tuple[float, ...]] = {"user": row.user, "item": row.item}
        sides = cast("list[Side]", self.prompt.config.order.split("-"))
        soft = iter(
            [self.codes[side, slot][int(code)] for side in sides for slot, code in enumerate(held[side])]
        )
        rest = [number if number >= 0 else next(soft) for number in self.prompt.layout(row)]
        return [*self.prompt.prefix_ids, *self.new[: len(self.prompt.task_ids)], *rest]

    def text(self, ids: list[int]) -> str | None:
        """A prompt as the one text that the extended tokenizer reads as these ids; None where no text does."""
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text if self.tokenizer(text, add_special_tokens=False)["input_ids"] == ids else None

    @torch.inference_mode()
    def vectors(self, bridge: Bridge) -> Tensor:
        """[N, D] what the model is given for each new word, float32 on the CPU."""
        own = {"user": bridge.user, "item": bridge.item}
        slots = (own[side].of_slot(slot, len(ids)) for (side, slot), ids in self.codes.items())
        return torch.cat([part.float().cpu() for part in (bridge.task(), *slots)])


def _with_words(prompt: Prompt, names: list[str]) -> PreTrainedTokenizerBase:
    """A tokenizer that reads the names, and whose chat template takes a turn of the role `pair`."""
    from tokenizers import AddedToken

    made = deepcopy(prompt.tokenizer)
    taken = [name for name in names if made.convert_tokens_to_ids(name) not in (None, made.unk_token_id)]
    if taken:
        raise UserError(
            f"model: its tokenizer holds {taken[0]} already; bake into a model that has no such words"
        )
    made.add_tokens([AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True)
    if made.chat_template:
        begin, end = framed(prompt.tokenizer, [("user", f"{prompt.config.instruction}\n")])
        begin += "".join(names[: len(prompt.task_ids)])
        parts = json.dumps(begin, ensure_ascii=False), json.dumps(end, ensure_ascii=False)
        said = f"{{{{ {parts[0]} }}}}{{{{ messages[0]['content'] }}}}{{{{ {parts[1]} }}}}"
        asked = f"{{% if messages and messages[0]['role'] == '{PAIR}' %}}{said}{{% else %}}"
        made.chat_template = f"{asked}{made.chat_template}{{% endif %}}"
    return made


def write_model(
    backbone: Backbone, spelling: Spelling, vectors_ND: Tensor, config: GenerationConfig, folder: Path
) -> None:
    """An ordinary transformers folder: weights, tokenizer, how to generate, and the base model's notices.

    The base model in memory stays as it is; the copy shares all weights but the two that grow. Its head gets the mean
    of the model's own rows for each new word: a mean is never the largest, so greedy decoding never writes one.

    Raises:
        UserError: Quantised weights, inputs per layer, or an embedding that is more than scaled rows.
    """
    from transformers import GenerationConfig as Generation

    model = _grown(backbone.model, vectors_ND, spelling.first)
    ends = sorted(spelling.prompt.stop_ids)
    how: dict[str, Any] = {
        "max_new_tokens": config.max_new_tokens,
        "eos_token_id": ends,
        "pad_token_id": ends[0],
    }
    if config.end_bias:
        how["sequence_bias"] = [[[end], config.end_bias] for end in ends]
    model.generation_config = Generation(do_sample=False, suppress_tokens=[*spelling.new], **how)
    with without_bars():
        model.save_pretrained(str(folder))
    spelling.tokenizer.save_pretrained(str(folder))
    _copy_notices(backbone.source.path, folder)


def _grown(model: PreTrainedModel, vectors_ND: Tensor, first: int) -> PreTrainedModel:
    """A model of the same kind with these words from `first` on, for saving; it shares what does not grow."""
    words, head = cast("nn.Embedding", model.get_input_embeddings()), model.get_output_embeddings()
    text = model.config.get_text_config()
    if type(head) is not nn.Linear or getattr(model, "hf_quantizer", None) is not None:
        raise UserError(
            "model: its output layer is not a plain one; bake the unquantised model, in fp32 or bf16"
        )
    if getattr(text, "hidden_size_per_layer_input", 0):
        raise UserError(
            "model: each of its layers has word vectors of its own; take a model with one table of words"
        )
    own_VD, end = words.weight.detach(), first + len(vectors_ND)
    words_TD = _longer(own_VD, max(len(own_VD), end))
    words_TD[first:end] = (vectors_ND / _scale(words)).to(words_TD)
    state = dict(model.state_dict())
    state[f"{_name_of(model, words)}.weight"] = words_TD
    for part, own in head.named_parameters():
        grown = _longer(own.detach(), len(words_TD))
        grown[first:end] = own[:first].detach().float().mean(0).to(own)
        state[f"{_name_of(model, head)}.{part}"] = grown
    config = deepcopy(model.config)
    config.tie_word_embeddings = config.get_text_config().tie_word_embeddings = False
    config.get_text_config().vocab_size = len(words_TD)
    with torch.device("meta"):
        made = type(model)(config)
    made.load_state_dict(state, assign=True)
    return made


def _longer(own: Tensor, rows: int) -> Tensor:
    """With zeros behind, so many rows in all."""
    found = own.new_zeros(rows, *own.shape[1:])
    found[: len(own)] = own
    return found


def _scale(words: nn.Embedding) -> float:
    """By what a model multiplies its word vectors (Gemma: the root of their width)."""
    rows_nD = words.weight.detach()[:256]
    given_nD = words(torch.arange(len(rows_nD), device=rows_nD.device)).detach().float()
    scale = float((given_nD * rows_nD).sum() / (rows_nD.float() ** 2).sum())
    if not torch.allclose(given_nD, scale * rows_nD.float(), rtol=0.01, atol=_CLOSE):
        raise UserError("model: what it makes of a word is more than a row of its table; take another model")
    return scale


def _name_of(model: nn.Module, part: nn.Module) -> str:
    return str(next(name for name, module in model.named_modules() if module is part))


def _copy_notices(source: Path, folder: Path) -> None:
    """Licence, notice and terms that came with the base model."""
    for path in sorted(source.iterdir()):
        if (
            path.is_file()
            and path.suffix.lower() in {"", ".md", ".txt", ".html", ".pdf"}
            and _is_notice(path.name)
        ):
            (folder / path.name).write_bytes(path.read_bytes())


def _is_notice(name: str) -> bool:
    return any(word in name.lower() for word in ("licen", "notice", "terms", "copying", "use_policy"))
