"""LLM-BS: a language model that recommends by writing the codes of items that exist; learnt, saved, asked.

Shapes: I items, E width of a vector.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from forwhy.artifact import Artifact, Content
from forwhy.data.dataset import Dataset
from forwhy.data.histories import Sequences
from forwhy.errors import UserError
from forwhy.models import load_causal_lm
from forwhy.recommend.generative import GenerativeRecommender, Parts, Vectors, tensors_of
from forwhy.recommend.halves import likeliest_share
from forwhy.recommend.llmbs.network import Contrast, LlmBsNetwork, Tokens, bare_tokens, scratch_model
from forwhy.recommend.llmbs.texts import TextTasks, add_tokens, learn_tokenizer, of_itself, read_tokens, widen
from forwhy.recommend.llmbs.training import Annealing, LlmBsTask
from forwhy.recommend.options import LlmBsConfig
from forwhy.training.engine import kept_generators, resolve_device, seed_everything
from forwhy.vocabulary.index import ItemIndex
from forwhy.wheels import PACKAGED

Start = tuple[PreTrainedModel, Tokens, dict[str, Any]]
"""A model with an index in its vocabulary, tokenizer, what it was before, what it wrote then."""
log = logging.getLogger(__name__)


class LlmBsRecommender(GenerativeRecommender):
    """A language model that knows the items' codes: trained whole, then with an annealing adapter.

    Text tasks run where items have text, CON's part for the sources that `vectors` are given of. What it lists and how
    it scores: see `GenerativeRecommender`.
    """

    kind: ClassVar[str] = "llm-bs"
    title: ClassVar[str] = "LLM-BS"
    options: ClassVar[type[LlmBsConfig]] = LlmBsConfig
    config: LlmBsConfig
    network: LlmBsNetwork

    def __init__(
        self,
        *parts: Any,  # noqa: ANN401
        tokenizer: Tokenizer | None = None,
        adapter: Annealing | None = None,
        base: Mapping[str, Any] | None = None,
        plain: Sequence[list[int]] = (),
        **more: Any,  # noqa: ANN401
    ) -> None:
        """Put together what was fitted or read; `parts`, `more`: as of every generative recommender.

        `base`: name and revision of the model that training began with, and its licence where known; `plain`: what it
        wrote before.
        """
        super().__init__(*parts, **more)
        self.tokenizer, self.adapter, self.base = tokenizer, adapter, dict(base or {})
        self.plain = plain

    @classmethod
    def _begun(cls, dataset: Dataset, index: ItemIndex, config: LlmBsConfig, vectors: Vectors) -> Parts:
        lm, tokens, more = _start(dataset, index, config)
        contrast, wanted = None, config.contrast.weights.keys()
        if missing := sorted(wanted - vectors.keys()):
            log.info("contrast: no %s vectors were given; left out", " and no ".join(missing))
        if wanted & vectors.keys():
            width = lm.get_input_embeddings().weight.shape[1]
            contrast = Contrast(width, len(index), vectors, config.contrast)
        return LlmBsNetwork(lm, tokens, config.softmax, contrast, _cut(index, config)), more

    def _train(self, dataset: Dataset, sequences: Sequences, folder: Path, identity: str) -> None:
        network, config = self.network, self.config
        texts, tasks = None, config.tasks
        told = tasks.any and any(map(str.strip, dataset.item_texts()))
        if self.tokenizer is not None and (told or self.plain):
            knows = (network.tokens, self.tokenizer)
            texts = TextTasks(dataset, sequences.train, *knows, tasks, config.window, config.seed, self.plain)
        if tasks.any and not told:
            log.warning("data set '%s': no item has text; no task of item texts is trained", dataset.name)
        loop = {"accumulation": config.accumulation, "precision": config.precision}
        trained = self._adapter(con=True) if config.backbone.trained == "adapter" and self.base else None
        rate = None if trained is None else config.learning_rate
        task = LlmBsTask(network, sequences, self._trie, config, texts, trained, rate)
        self.metrics["full"] = task.learn(folder / "full", "llm-bs", identity, **loop).summary()
        if trained is not None:
            trained.fold()
        network.contrast = None  # its part ends with this stage (section 3.4.3)
        if config.annealing.epochs:
            self._anneal(sequences, folder, identity, loop)
        if network.cut:
            first_B, second_B = task.of_halves().double().numpy()
            network.share = likeliest_share(first_B, second_B)

    def _anneal(self, sequences: Sequences, folder: Path, identity: str, loop: dict[str, Any]) -> None:
        """The adapter on sequences alone (equation 8)."""
        network, config = self.network, self.config
        self.adapter = self._adapter()
        # The start counts as a state: an adapter that does not help stays no change.
        loop |= {"epochs": config.annealing.epochs, "patience": 0, "evaluate_first": True}
        rate = config.annealing.learning_rate
        task = LlmBsTask(network, sequences, self._trie, config, adapter=self.adapter, rate=rate)
        identity += config.annealing.model_dump_json()
        self.metrics["annealing"] = task.learn(folder / "annealing", "annealing", identity, **loop).summary()

    def _adapter(self, con: bool = False) -> Annealing:
        """A new one around the model, which has to be on its device by then."""
        self.network.lm.to(resolve_device(self.config.device))
        with kept_generators():
            seed_everything(self.config.seed, 1 + con)
            return Annealing(self.network.lm, self.network.tokens, self.config.annealing, con)

    # --- talking

    @contextmanager
    def talking(self) -> Iterator[tuple[Any, Tokenizer]]:
        """Model and tokenizer with the adapter off inside the block: the first stage's model, which also knows text.

            with recommender.talking() as (model, tokenizer):
                ...

        Raises:
            UserError: the model has no text tokens.
        """
        if self.tokenizer is None:
            raise UserError(
                "this model knows no text: train a named backbone, or a scratch one with text tasks"
            )
        with self.switched(False):
            yield self.network.lm, self.tokenizer

    def switched(self, on: bool) -> AbstractContextManager[None]:
        """The adapter on or off inside the block; without one nothing changes."""
        return nullcontext() if self.adapter is None else self.adapter.switched(on)

    # --- saving

    def content(self) -> Content:
        """All weights are in it: the card names the base model's licence."""
        shared, network = super().content(), self.network
        own = {"model": network.lm.config.to_dict(), "adapter": self.adapter is not None}
        own |= {"base": self.base, "share": network.share}
        parts = {} if self.tokenizer is None else {"tokenizer": self.tokenizer}
        return replace(shared, config={**shared.config, **own}, parts={**shared.parts, **parts})

    def _weights(self) -> Mapping[str, Tensor]:
        """The first stage's weights under the model's own names, each table once; the adapter's apart from them."""
        found, seen = {}, set()
        for name, value in self.network.lm.state_dict().items():
            plain = name.replace(".base_layer.", ".").replace(".parametrizations.weight.original", ".weight")
            is_adapter = ".lora_" in name or ".parametrizations.weight.0." in name
            if not is_adapter and value.data_ptr() not in seen:
                seen.add(value.data_ptr())
                found[f"network.{plain}"] = value
        trained = {} if self.adapter is None else self.adapter.trained.state_dict()
        return found | {f"adapter.{name}": value for name, value in trained.items()}

    @classmethod
    def _restored(cls, stored: Artifact, index: ItemIndex, config: LlmBsConfig, at: torch.device) -> Parts:
        tokens, tokenizer = bare_tokens(index), None
        if stored.part("tokenizer").is_dir():
            folder = str(stored.part("tokenizer"))
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            tokens = read_tokens(tokenizer, index, config.spoken_instruction)
        shape = dict(stored.config["model"])
        known = AutoConfig.for_model(shape.pop("model_type"), **shape)
        lm = AutoModelForCausalLM.from_config(known, dtype=torch.float32)
        absent, unknown = lm.load_state_dict(tensors_of(stored, "network."), strict=False)
        # An embedding that is also the head has two names and was saved once.
        if unknown or len(absent) > lm.config.tie_word_embeddings:
            raise UserError(
                f"{stored.folder}: this version of transformers names its weights otherwise; train it again"
            )
        network = LlmBsNetwork(lm.to(at), tokens, config.softmax, cut=_cut(index, config))
        network.share, adapter = stored.config.get("share", 0.5), None
        if stored.config["adapter"]:
            adapter = Annealing(lm, tokens, config.annealing)
            adapter.trained.load_state_dict(tensors_of(stored, "adapter."))
        return network, {"tokenizer": tokenizer, "adapter": adapter, "base": stored.config["base"]}

    def _origin(self) -> str:
        base = self.base
        if not base:
            return "\n\nThe model was trained from random weights."
        return (
            f"\n\nThe weights are those of {base['id']} (revision {base['revision']}), all of them trained further. "
            f"They fall under its licence: {base.get('licence', 'see the card of the base model')}."
        )


def _start(dataset: Dataset, index: ItemIndex, config: LlmBsConfig) -> Start:
    """A named model with new rows, or a scratch one, whose vocabulary is the index and, for text tasks, the texts."""
    if not config.backbone.scratch:
        loaded = load_causal_lm(config.backbone.name, config.backbone.revision)
        loaded.model.requires_grad_(True)
        plain = of_itself(loaded.model, loaded.tokenizer, config.tasks.plain)
        tokens = add_tokens(loaded.tokenizer, index, config.spoken_instruction)
        widen(loaded.model, tokens, config.seed)
        base = {"id": loaded.source.id, "revision": loaded.source.revision}
        if packaged := PACKAGED.get(loaded.source.id):
            base["licence"] = packaged.licence
        return loaded.model, tokens, {"tokenizer": loaded.tokenizer, "base": base, "plain": plain}
    tokens, tokenizer = bare_tokens(index), None
    if config.tasks.any and (texts := [text for text in dataset.item_texts() if text.strip()]):
        tokenizer = learn_tokenizer(texts, config.backbone.text_tokens)
        tokens = add_tokens(tokenizer, index, config.spoken_instruction)
    return scratch_model(config.backbone, tokens.size), tokens, {"tokenizer": tokenizer}


def _cut(index: ItemIndex, config: LlmBsConfig) -> int:
    """Levels of the first half where halves are decoded in parallel; 0 where they are not, or there is one source."""
    if config.halves == "joined":
        return 0
    sources = [source for source, _ in groupby(index.sources)]
    if len(sources) == 1:
        log.warning("halves: the index is of %s alone, so there is one; it is decoded as it is", *sources)
        return 0
    cut = index.sources.count(sources[0])
    names = [len(np.unique(half, axis=0)) for half in (index.codes[:, :cut], index.codes[:, cut:])]
    if len(sources) > 2 or min(names) < len(index):
        raise UserError(
            f"halves: an index of {', '.join(sources)} does not name each item twice: take source = 'unit', "
            "method = 'kmeans', and one source after the other"
        )
    return cut
