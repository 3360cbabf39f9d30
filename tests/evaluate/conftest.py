"""Tiny random encoders, seq2seq models and a regressor: made here, no network."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    BertTokenizer,
    GPT2Config,
    GPT2Model,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
WORDS = ["the", "user", "would", "enjoy", "cosy", "cafe", "quiet", "and", "dogs", ".", ",", "!", "[", "]"]
LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
SPREAD = 0.4
"""Of the weights: at the usual 0.02 every token would look the same."""


def save(folder: Path, kind: type[PreTrainedModel], config: object, words: PreTrainedTokenizerBase) -> Path:
    """A model folder with random weights, the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def bert_words() -> PreTrainedTokenizerBase:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS]
    return BertTokenizer(vocab={word: n for n, word in enumerate(vocabulary)}, model_max_length=64)


def framed_words(frame: str, limit: int) -> PreTrainedTokenizerBase:
    """Whole words and letters between `frame`'s special tokens; `model_max_length` unknown."""
    vocabulary = {word: n for n, word in enumerate([*SPECIAL, *WORDS, *string.ascii_lowercase])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if frame:
        core.post_processor = processors.TemplateProcessing(
            single=frame, special_tokens=[(token, SPECIAL.index(token)) for token in ("<s>", "</s>")]
        )
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>",
    )  # fmt: skip
    made.model_max_length = limit
    return made


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder of three layers that reads 64 tokens."""
    words = bert_words()
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, initializer_range=SPREAD, **SIZES)
    return save(tmp_path_factory.mktemp("models") / "bert", BertModel, config, words)


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder whose 40 positions are counted from 1, with a tokenizer that names no limit."""
    words = framed_words("<s> $A </s>", 10**30)
    config = RobertaConfig(
        vocab_size=len(words), max_position_embeddings=40, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        initializer_range=SPREAD, **SIZES,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("models") / "roberta", RobertaModel, config, words)


@pytest.fixture(scope="session", params=["bart", "t5"])
def seq2seq(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / request.param
    words = framed_words("<s> $A </s>" if request.param == "bart" else "$A </s>", 48)
    ids = {"vocab_size": len(words), "pad_token_id": 0, "eos_token_id": 2}
    if request.param == "bart":
        config = BartConfig(
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=48,
            bos_token_id=1, decoder_start_token_id=2, forced_eos_token_id=2, init_std=SPREAD, **ids,
        )  # fmt: skip
        return save(folder, BartForConditionalGeneration, config, words)
    config = T5Config(
        d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, decoder_start_token_id=0, **ids
    )
    return save(folder, T5ForConditionalGeneration, config, words)


@pytest.fixture(scope="session")
def frameless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A T5 whose tokenizer adds nothing: "" has no token at all."""
    words = framed_words("", 48)
    config = T5Config(
        d_model=32, d_kv=16, d_ff=48, num_layers=1, num_heads=2, decoder_start_token_id=0,
        vocab_size=len(words), pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("models") / "frameless", T5ForConditionalGeneration, config, words)


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model whose tokenizer puts a start token first and knows no line break."""
    words = framed_words("<s> $A", 256)
    config = LlamaConfig(
        vocab_size=len(words), max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
        initializer_range=SPREAD, **SIZES,
    )  # fmt: skip
    return save(tmp_path_factory.mktemp("models") / "started", LlamaForCausalLM, config, words)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder as encoder: bytes without a frame, without a padding token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = GPT2Tokenizer(
        vocab={letter: n for n, letter in enumerate([*alphabet, "<|endoftext|>"])}, merges=[]
    )
    config = GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=SPREAD
    )
    return save(tmp_path_factory.mktemp("models") / "gpt2", GPT2Model, config, words)


@pytest.fixture(scope="session")
def rater(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT regression checkpoint."""
    words = bert_words()
    config = BertConfig(
        vocab_size=len(words), max_position_embeddings=64, num_labels=1, initializer_range=SPREAD, **SIZES
    )
    return save(tmp_path_factory.mktemp("models") / "rater", BertForSequenceClassification, config, words)
