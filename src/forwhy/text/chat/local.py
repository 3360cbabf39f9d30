"""A local causal language model that answers: its chat template, greedy decoding, one question at a time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Self

from forwhy.errors import UserError
from forwhy.models import DType, load_causal_lm
from forwhy.text.chat.base import STOPPED, Answer, ChatConfig, Message, Question, Tally
from forwhy.text.hostile import PlainText, answer_end, framed, own_ids

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_ANSWER = "\nAnswer:"  # ends a prompt where there is no chat template


class Turns:
    """Conversations as ids: the template's own control tokens count, what is written in messages never does.

    Where the template has no system role, the system text is in front of the first user turn; without a template the
    texts follow each other, a blank line between two. One that drops texts is refused.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer, self._plain = tokenizer, PlainText(tokenizer)
        self._system = False
        if tokenizer.chat_template:
            framed(tokenizer, [("user", "")])
            with suppress(UserError):
                framed(tokenizer, [("system", ""), ("user", "")])
                self._system = True
        self.ends = frozenset({answer_end(tokenizer), tokenizer.eos_token_id} - {None})
        """Ids that end an answer."""

    def ids(self, messages: tuple[Message, ...]) -> list[int]:
        """The prompt, up to where the answer begins."""
        if not self._tokenizer.chat_template:
            begin = self._tokenizer.bos_token_id
            ids = [begin] if begin is not None and begin in self._tokenizer("a")["input_ids"][:1] else []
            text = "\n\n".join(message.content.strip() for message in messages)
            return ids + self._plain.exact(text + _ANSWER)
        turns = messages if self._system else _merged(messages)
        first, *after = framed(self._tokenizer, [(message.role, "") for message in turns])
        ids = own_ids(self._tokenizer, first)
        for message, piece in zip(turns, after, strict=True):
            ids += self._plain.exact(message.content.strip()) + own_ids(self._tokenizer, piece)
        return ids


def _merged(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    first, *others = [turn for turn in messages if turn.role != "system"] or [Message("user", "")]
    system = [turn.content.strip() for turn in messages if turn.role == "system"]
    return (replace(first, content="\n\n".join([*system, first.content.strip()])), *others)


class LocalChat:
    """A local model as a `Chat`, loaded when this is made; one step of it per token. Schemas are not enforced."""

    concurrency = 1

    def __init__(self, name: str, config: ChatConfig) -> None:
        from forwhy.training.engine import resolve_device

        device = resolve_device(config.device)
        dtype: DType = "float32" if device.type == "cpu" else "bfloat16"
        loaded = load_causal_lm(config.model, dtype=dtype, device=str(device))
        self.model = name
        self._lm, self._tokenizer, self._ledger = loaded.model, loaded.tokenizer, config.ledger()
        self._turns, self._asking, self._stopped = Turns(loaded.tokenizer), Lock(), Event()
        settings = loaded.model.config.get_text_config()
        self._room: int | None = getattr(settings, "max_position_embeddings", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the answer under way at its next token; nothing is asked any more."""
        self._stopped.set()

    def ask(self, question: Question) -> Answer:
        """The most probable answer, token by token; `rejected` where the model cannot read so much."""
        ids = self._turns.ids(question.messages)
        if self._room is not None and len(ids) + question.max_tokens > self._room:
            needed = f"{len(ids)} tokens and {question.max_tokens} of answer"
            return Answer(reason="rejected", detail=f"{needed}; the model takes {self._room}")
        with self._asking:
            if self._stopped.is_set():
                return Answer(reason="server", detail=STOPPED)
            bound = Tally(1, len(ids), question.max_tokens)
            return self._ledger.call(bound, lambda: self._answer(ids, question.max_tokens))

    def _answer(self, ids: list[int], most: int) -> Answer:
        import torch

        try:
            written = self._written(ids, most)
        except torch.OutOfMemoryError as error:
            detail = f"out of memory: {error}".splitlines()[0]
            return Answer(reason="rejected", detail=detail, used=Tally(1, len(ids)))
        used = Tally(1, len(ids), len(written))
        if self._stopped.is_set():
            return Answer(reason="server", detail=STOPPED, used=used)
        if not written or written[-1] not in self._ends():
            return Answer(reason="truncated", used=used)
        how = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return Answer(str(self._tokenizer.decode(written[:-1], **how)).strip(), used=used)

    def _ends(self) -> list[int]:
        own: Any = self._lm.generation_config.eos_token_id
        return sorted(self._turns.ends | {*([own] if isinstance(own, int) else own or [])})

    def _written(self, ids: list[int], most: int) -> list[int]:
        import torch
        from transformers import GenerationConfig, StoppingCriteriaList

        def stopped(ids_BS: Tensor, *_: object, **__: object) -> Tensor:
            return torch.full((len(ids_BS),), self._stopped.is_set(), device=ids_BS.device)

        ends, ids_1S = self._ends(), torch.tensor([ids], device=self._lm.device)
        ending = {"eos_token_id": ends, "pad_token_id": ends[0]}
        config = GenerationConfig(do_sample=False, max_new_tokens=most, **ending)
        stops = StoppingCriteriaList([stopped])
        asked: dict[str, Any] = {"input_ids": ids_1S, "attention_mask": torch.ones_like(ids_1S)}
        with torch.inference_mode():
            out_1T = self._lm.generate(**asked, generation_config=config, stopping_criteria=stops)
        written: list[int] = out_1T[0, len(ids) :].tolist()
        return written
