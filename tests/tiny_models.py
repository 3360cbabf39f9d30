"""Tiny random language models: made here, no network.

The models know nothing; what is tested with them are equalities, not sense.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.options import ProjectorConfig, PromptConfig
from forwhy.bridge.projectors import Bridge, SideProjector
from forwhy.bridge.prompt import Prompt, Row
from forwhy.bridge.reader import Reader

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "You explain recommendations. Say in one or two plain sentences why this user would enjoy this item.",
    "The user would enjoy the coffee and the quiet terrace. The staff is friendly, the cake is fresh.",
    "Explain in one or two short sentences why this user would enjoy this item",
    "pizza sushi tacos burgers noodles wine beer garden music museum books games pool hiking",
] * 4


def tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE with ChatML markers as special tokens."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    made.chat_template = CHAT if chat else None
    return made


def llama(vocabulary: int) -> PreTrainedModel:
    """Grouped queries, two layers."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def gemma(vocabulary: int) -> PreTrainedModel:
    """Scaled embeddings, and sliding windows far shorter than the prompt."""
    config = Gemma3TextConfig(
        vocab_size=vocabulary,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=12,
        sliding_window=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    return Gemma3ForCausalLM(config)


def save(folder: Path, kind: str = "llama", chat: bool = True, seed: int = 0) -> Path:
    """A model folder as `load_causal_lm` reads it."""
    words = tokenizer(chat)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (llama if kind == "llama" else gemma)(len(words))
    model.generation_config.eos_token_id = words.eos_token_id
    model.generation_config.pad_token_id = words.pad_token_id
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


TEXTS = [
    "The user would enjoy the quiet terrace.",
    "Coffee.",
    "The staff is friendly, the cake is fresh. Really.",
]
TITLES = ["Coffee garden", "", "A museum of music and books and games"]


def reader(backbone: Backbone, prompt: PromptConfig | None = None, **options: object) -> Reader:
    """Random projectors for 8 codes per book, 1 + 2 slots on each side."""
    config = ProjectorConfig.model_validate(options)
    random = np.random.default_rng(0)
    sides = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(2):
            books = {name: random.normal(size=(8, 10)).astype(np.float32) for name in ("macro", "micro")}
            starts = {name: random.integers(3, 400, 8).tolist() for name in books}
            start_CD = backbone.embed(torch.tensor([*starts["macro"], *starts["micro"]])).detach()
            slots = ["macro", "micro", "micro"]
            sides.append(SideProjector(books, slots, config, start_CD, backbone.word_norm))
    made = Prompt(backbone.tokenizer, prompt or PromptConfig(task_tokens=4))
    bridge = Bridge.at_start(*sides, made, backbone)
    return Reader(backbone, made, bridge)


def rows(reader: Reader, count: int = 16, texts: bool = True) -> list[Row]:
    """Rows of different lengths."""
    random = np.random.default_rng(1)
    codes = random.integers(0, 8, (count, 2, 3)).tolist()
    return [
        reader.prompt.row(*codes[n], TITLES[n % 3], TEXTS[n % 3] * (1 + n % 2) if texts else None)
        for n in range(count)
    ]


SIZES = {
    "vocab_size": 40,
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {"num_key_value_heads": 2}
WINDOWED = {"head_dim": 8, "sliding_window": 4, "num_hidden_layers": 3, **GROUPED}
FAMILIES = {
    "Llama": ("LlamaConfig", GROUPED),
    "LlamaMHA": ("LlamaConfig", {}),
    "Qwen2": ("Qwen2Config", GROUPED),
    "Qwen3": ("Qwen3Config", {"head_dim": 8, **GROUPED}),
    "Mistral": ("MistralConfig", GROUPED),
    "Gemma2": ("Gemma2Config", WINDOWED),
    "Gemma3": ("Gemma3TextConfig", WINDOWED),
    "Phi3": ("Phi3Config", GROUPED),
    "GPTNeoX": ("GPTNeoXConfig", {}),
    "GPT2": ("GPT2Config", {}),
}


def family_model(family: str, **changes: object) -> PreTrainedModel:
    """A small random model of a family, its weights frozen."""
    name, options = FAMILIES[family]
    config = getattr(transformers, name)(**{**SIZES, **options, **changes})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    return model.requires_grad_(False).eval()
