"""Strings to unit vectors: a frozen sentence encoder, or word hashing for tests.

Shapes: N texts, D dimensions. Torch is imported only when a text must really be encoded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forwhy.errors import UserError
from forwhy.models import LoadedModel, ModelSource, cache_folder, load_text_encoder, locate
from forwhy.progress import Progress, track
from forwhy.shards import CLUSTER, Work, spread
from forwhy.store import Row, Store

log = logging.getLogger(__name__)

BATCH = 64
"""Texts in one forward pass; they are of nearly equal length, so little is spent on padding."""
SEGMENT = 32
"""Batches between two writes of the cache: what a killed run loses at most."""
CHARACTERS_PER_TOKEN = 20
"""Longer texts are cut before tokenising: one of 100,000 characters costs no more than the longest read."""
HASH_DIM = 128
LLM_PREFIX, LLM_TOKENS, LLM_BATCH = "llm:", 512, 16
"""A language model reads at most this many tokens of a text, so many texts at once: its layers are wide."""


class TextEncoder(Protocol):
    """What turns strings into vectors."""

    dim: int
    """Length D of a vector."""
    name: str
    """Model and revision: vectors of two encoders with one name are interchangeable."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [N, D] rows of norm 1; a blank text gives a row of zeros."""


def text_encoder(name: str = "minilm", cache: Path | None = None, device: str = "cpu") -> TextEncoder:
    """Return an encoder by name; its vectors are kept in `cache`, by default `vectors` in the models' cache folder.

    `name`: `minilm` (all-MiniLM-L6-v2, D = 384), `hash` (no model, for tests), a folder or a Hub id; or `llm:` and the
    name of a causal language model (`llm:smollm2-135m`), see `LanguageModelEncoder`. Also the `name` of an encoder, as
    artifacts record it, with the revision after the last `@`. Refused: what `forwhy.models.locate` does not find, and a
    model that pools otherwise than by mean or first token.
    """
    if hashing := re.fullmatch(r"hash(?:-(\d+))?", name):
        return HashEncoder(int(hashing[1] or HASH_DIM))
    kind = LanguageModelEncoder if name.startswith(LLM_PREFIX) else SentenceEncoder
    model = name.removeprefix(LLM_PREFIX)
    recorded, _, revision = ("", "", "") if Path(model).is_dir() else model.rpartition("@")
    source = locate(recorded or model, revision if recorded else None)
    return kind(source, cache if cache is not None else cache_folder() / "vectors", device)


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows (or one vector) at norm 1; those of zeros stay."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-9), np.float32)


class HashEncoder:
    """The sum of one fixed random direction per word: texts are similar as far as they share words."""

    def __init__(self, dim: int = HASH_DIM) -> None:
        self.dim = dim
        self.name = f"hash-{dim}"

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [N, D] rows of norm 1; a text without a word gives zeros. The same on every machine."""
        rows = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row += _direction(word, self.dim)
        return unit(rows)


@cache
def _direction(word: str, dim: int) -> NDArray[np.float32]:
    seed = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(seed, "big")).standard_normal(dim).astype(np.float32)


class SentenceEncoder:
    """A Hugging Face encoder, pooled as its `1_Pooling/config.json` says (by mean if it says nothing).

    About 100 sentences of 25 words a second on one core with `minilm`. Equal sets of texts give equal bytes;
    a text encoded in other company may differ by 1e-7.
    """

    prefix, batch, longest = "", BATCH, sys.maxsize
    keeps = True
    """Whether vectors are kept on disk; a service turns it off, where strangers say what is encoded."""

    def __init__(self, source: ModelSource, cache: Path, device: str = "cpu") -> None:
        self.dim = int(_read_json(source.path / "config.json")["hidden_size"])
        self.name = f"{self.prefix}{source.id}@{source.revision}"
        self._first_token = _pools_first_token(source.path)
        self._limit = min(_token_limit(source.path), self.longest)
        self._source, self._device = source, device
        self._loaded: LoadedModel | None = None
        self._turn = threading.Lock()  # a fast tokenizer can't be used by two threads
        key = hashlib.sha256(self.name.encode()).hexdigest()[:16]
        self._cache = VectorCache(cache / f"{key}.db", self.dim)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [N, D] rows of norm 1, zeros for blank texts; each text is encoded once, then read."""
        distinct = sorted({text for text in texts if text.strip()})
        known = self._cache.find(distinct)
        # In this order a killed run has stored whole batches, so the rest is cut into the same ones again.
        missing = sorted((text for text in distinct if text not in known), key=lambda text: (len(text), text))
        with self._turn:
            for chunk, vectors in self._encode_missing(missing):
                if self.keeps:
                    self._cache.add(chunk, vectors)
                known.update(zip(chunk, vectors, strict=True))
        zero = np.zeros(self.dim, dtype=np.float32)
        return np.array([known.get(text, zero) for text in texts], np.float32).reshape(-1, self.dim)

    def _encode_missing(self, texts: list[str]) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        if not texts:
            return
        if (cluster := os.environ.get(CLUSTER)) and len(texts) > self.batch:
            yield from self._spread(texts, cluster)
            return
        source = self._source
        self._loaded = self._loaded or load_text_encoder(source.id, source.revision, device=self._device)
        with Progress("reading texts", len(texts)) as progress:
            for start in range(0, len(texts), self.batch * SEGMENT):
                chunk = texts[start : start + self.batch * SEGMENT]
                rows = []
                for first in range(0, len(chunk), self.batch):
                    rows.append(self._batch(self._loaded, chunk[first : first + self.batch]))
                    progress.advance(len(rows[-1]))
                yield chunk, np.concatenate(rows)

    def _spread(self, texts: list[str], cluster: str) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
        """The same batches, by the machines of a cluster, each of which reads with a model of its own."""
        parts = [texts[start : start + self.batch] for start in range(0, len(texts), self.batch)]
        address = None if cluster == "local" else cluster
        done = spread(partial(_encoding, self.name), parts, address)
        for number, rows in track(done, "reading texts", total=len(parts)):
            yield parts[number], rows["vector"].to_numpy()

    def _batch(self, loaded: LoadedModel, texts: list[str]) -> NDArray[np.float32]:
        import torch

        inputs = loaded.tokenizer(
            [text[: self._limit * CHARACTERS_PER_TOKEN] for text in texts],
            padding=True,
            truncation=True,
            max_length=self._limit,
            split_special_tokens=True,  # text is hostile: "[SEP]" in a review is five plain characters
            return_tensors="pt",
        ).to(self._device)
        with torch.inference_mode():
            hidden_NTD = loaded.model(**inputs).last_hidden_state.float()
            if self._first_token:
                pooled_ND = hidden_NTD[:, 0]
            else:
                weight_NT1 = inputs["attention_mask"].unsqueeze(-1).to(hidden_NTD.dtype)
                pooled_ND = (hidden_NTD * weight_NT1).sum(1) / weight_NT1.sum(1)
        return unit(pooled_ND.cpu().numpy())


def _encoding(name: str) -> Work:
    """The work of one machine: texts to rows with their vectors. What is kept is the caller's to keep."""
    encoder = text_encoder(name)
    assert isinstance(encoder, SentenceEncoder)
    encoder.keeps = False

    def work(texts: list[str]) -> pl.DataFrame:
        kind = pl.Array(pl.Float32, encoder.dim)
        return pl.DataFrame({"vector": encoder.encode(texts)}, {"vector": kind})

    return work


class LanguageModelEncoder(SentenceEncoder):
    """A causal language model's last hidden states, averaged over the first 512 tokens (LLM-BS, section on DKI)."""

    prefix, batch, longest = LLM_PREFIX, LLM_BATCH, LLM_TOKENS

    def _batch(self, loaded: LoadedModel, texts: list[str]) -> NDArray[np.float32]:
        if loaded.tokenizer.pad_token is None:  # padding is masked and comes last, where no token sees it
            loaded.tokenizer.pad_token = loaded.tokenizer.eos_token
        loaded.tokenizer.padding_side = "right"
        return super()._batch(loaded, texts)


def _token_limit(folder: Path) -> int:
    settings = folder / "sentence_bert_config.json"
    limit = _read_json(settings).get("max_seq_length") if settings.exists() else None
    return int(limit or _read_json(folder / "config.json").get("max_position_embeddings", 512))


def _pools_first_token(folder: Path) -> bool:
    settings = folder / "1_Pooling" / "config.json"
    if not settings.exists():
        return False
    found = _read_json(settings).items()
    modes = [key for key, value in found if key.startswith("pooling_mode") and value is True]
    if modes not in ([], ["pooling_mode_mean_tokens"], ["pooling_mode_cls_token"]):
        remedy = "use an encoder that pools by mean or first token"
        raise UserError(f"{settings}: pooling {sorted(modes)} is not known; {remedy}")
    return modes == ["pooling_mode_cls_token"]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch or save the model again") from error
    if not isinstance(document, dict):
        raise UserError(f"{path}: not a JSON object; fetch or save the model again")
    return document


# --- Text vectors on disk, found again by content: SHA-256 of the text, in one file per encoder revision.

_ASKED = 500  # texts in one query


def digest(text: str) -> bytes:
    """Return the content key of one text. Lone surrogates, which no encoding holds, are kept apart too."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class VectorCache:
    """Vectors of texts seen before. Only a cache: a full disk or a damaged file is logged, and the work goes on."""

    def __init__(self, path: Path, dim: int) -> None:
        self._path, self._bytes = path, 4 * dim

    def find(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the vectors of those texts that are stored."""
        by_digest = {digest(text): text for text in texts}
        wanted, found = sorted(by_digest), list[Row]()
        with self._warned(), self._store() as store:
            for start in range(0, len(wanted), _ASKED):
                part = wanted[start : start + _ASKED]
                places = ", ".join("?" * len(part))
                found += store.read(f"SELECT * FROM vectors WHERE digest IN ({places})", *part)
        vectors = ((by_digest[key], np.frombuffer(vector, dtype=np.float32)) for key, vector in found)
        return {text: vector for text, vector in vectors if vector.nbytes == self._bytes}

    def add(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store vectors [n, D]."""
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        with self._warned(), self._store() as store:
            store.write((digest(text), row.tobytes()) for text, row in zip(texts, rows, strict=True))

    def _store(self) -> Store:
        return Store(self._path, "vectors", ("digest BLOB", "vector BLOB"), "text vectors")

    @contextmanager
    def _warned(self) -> Iterator[None]:
        try:
            yield
        except UserError as error:
            log.warning("text vectors are not kept: %s", error)
