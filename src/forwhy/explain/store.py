"""A fitted explainer as a folder: projectors, the vocabulary inside, the name of their model."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError

import forwhy.artifact as artifact
from forwhy.bridge.backbone import Backbone
from forwhy.bridge.reader import Reader
from forwhy.errors import UserError
from forwhy.explain.assembly import build_reader, load_backbone
from forwhy.explain.config import BeatConfig
from forwhy.models import tokenizer_hash
from forwhy.training import TrainingResult
from forwhy.vocabulary.vocabulary import Vocabulary

KIND = "explainer"
_VOCABULARY = "vocabulary"
_START = "start."


@dataclass(frozen=True)
class Loaded:
    """What a folder holds, with the model found and checked."""

    config: BeatConfig
    vocabulary: Vocabulary
    reader: Reader
    starts: dict[str, list[int]]


def save(
    folder: Path,
    config: BeatConfig,
    reader: Reader,
    vocabulary: Vocabulary,
    starts: Mapping[str, Sequence[int]],
    result: TrainingResult | None,
) -> None:
    """Write the artifact; never weights of the base model."""
    tensors = {name: value.detach().cpu().numpy() for name, value in reader.bridge.state_dict().items()}
    tensors |= {f"{_START}{book}": np.asarray(ids, dtype=np.int32) for book, ids in starts.items()}
    document = {
        "beat": config.model_dump(mode="json"),
        "base_model": base_model(reader.backbone),
        "start_words": {book: _spelled(reader, ids) for book, ids in starts.items()},
        "metrics": {} if result is None else result.best_metrics,
    }
    with tempfile.TemporaryDirectory(prefix="forwhy-") as temporary:
        inside = Path(temporary) / _VOCABULARY
        vocabulary.save_pretrained(inside)
        card = _card(document, vocabulary)
        artifact.save(Path(folder), KIND, document, tensors, {}, card, parts={_VOCABULARY: inside})


def load(folder: Path, model: str | None, device: str | None) -> Loaded:
    """Read the artifact, load its model, and refuse another."""
    saved = artifact.load(folder, KIND)
    wanted = saved.config["base_model"]
    try:
        config = BeatConfig.model_validate(saved.config["beat"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{folder / artifact.CONFIG}: option '{place}': {first['msg']}; fit it again"
        ) from error
    update: dict[str, Any] = {
        "model": model or wanted["id"],
        "revision": None if model else wanted["revision"],
    }
    config = config.model_copy(update=update | ({"device": device} if device else {}))
    backbone = load_backbone(config)
    _same_model(folder, wanted, base_model(backbone))
    vocabulary = Vocabulary.from_pretrained(folder / _VOCABULARY)
    starts = {
        name.removeprefix(_START): ids.tolist()
        for name, ids in saved.tensors.items()
        if name.startswith(_START)
    }
    reader = build_reader(config, vocabulary, backbone, starts)
    state = {name: torch.from_numpy(v) for name, v in saved.tensors.items() if not name.startswith(_START)}
    reader.bridge.load_state_dict(state)
    return Loaded(config, vocabulary, reader, starts)


def base_model(backbone: Backbone) -> dict[str, Any]:
    """What a projector depends on: which model and revision, what its token ids mean, its word vectors."""
    return {
        "id": backbone.source.id,
        "revision": backbone.source.revision,
        "tokenizer": tokenizer_hash(backbone.tokenizer),
        "embeddings": _embeddings_hash(backbone),
        "width": backbone.width,
    }


def _same_model(folder: Path, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Tokenizer and embeddings must agree; a model of the same content may lie elsewhere."""
    if all(wanted[key] == found[key] for key in ("tokenizer", "embeddings", "width")):
        return
    raise UserError(
        f"{folder}: trained with base model '{wanted['id']}' ({_short(wanted)}), not for '{found['id']}' "
        f"({_short(found)}); load it with its own model, or fit an explainer for the other"
    )


def _short(model: Mapping[str, Any]) -> str:
    tokenizer, embeddings = model["tokenizer"][:8], model["embeddings"][:8]
    return f"width {model['width']}, tokenizer {tokenizer}, embeddings {embeddings}"


def _embeddings_hash(backbone: Backbone) -> str:
    """SHA-256 of 64 word vectors, rounded to bfloat16: the same in every precision the model is loaded in."""
    weight = backbone.words.weight.detach()
    rows = weight[:: max(1, len(weight) // 64)][:64]
    return hashlib.sha256(rows.to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes()).hexdigest()


def _spelled(reader: Reader, ids: Sequence[int]) -> list[str]:
    """Token strings of the start words; empty for none."""
    return [reader.prompt.decode([number]).strip() if number >= 0 else "" for number in ids]


def _card(document: Mapping[str, Any], vocabulary: Vocabulary) -> str:
    base, metrics = document["base_model"], document["metrics"]
    numbers = "\n".join(f"- validation {name}: {value:.4f}" for name, value in metrics.items()) or "- none"
    return (
        f"# BEAT explainer for {base['id']}\n\n"
        "Projectors that let a frozen language model read behaviour tokens and say why a user would like\n"
        "an item.\n"
        f"Weights of the base model are not included; it is fetched under its own licence.\n\n"
        f"- base model: {base['id']}, revision {base['revision']}\n"
        f"- users {len(vocabulary.users):,}, items {len(vocabulary.items):,}\n"
        f"- preset: {document['beat']['preset']}\n\n"
        f"## Measured\n\n{numbers}\n\n"
        "## Limits\n\n"
        "Texts are generated and can be wrong about an item. They speak of users and items of the training\n"
        "data; validation numbers picked the state and are no test.\n"
    )
