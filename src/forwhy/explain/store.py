"""A fitted explainer as a folder: its bridge, what it knows of users and items, the name of its model."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

import forwhy.artifact as artifact
from forwhy.bridge.backbone import Backbone
from forwhy.bridge.reader import Reader
from forwhy.columns import Side
from forwhy.errors import UserError
from forwhy.explain.config import ExplainerConfig
from forwhy.models import tokenizer_hash

if TYPE_CHECKING:
    from forwhy.explain.soft import SoftExplainer

KIND = "explainer"
_BRIDGE = "bridge."
PROFILES = "profiles"
Profiles = Mapping[Side, Mapping[int, str]]
"""Side -> internal number -> text that says who they are."""


@dataclass(frozen=True)
class Stored:
    """What a folder holds beside what is known of users and items."""

    folder: Path
    system: str
    """Which system's explainer it is."""
    options: Mapping[str, Any]
    base_model: Mapping[str, Any]
    bridge: Mapping[str, torch.Tensor]
    """The trained state."""
    extra: Mapping[str, NDArray[np.int32]]
    tables: Mapping[str, pl.DataFrame]

    def config(self, kind: type[ExplainerConfig], model: str | None, device: str | None) -> ExplainerConfig:
        """The options, with the model of the same content that lies elsewhere, and another device.

        Raises:
            UserError: Options that this version does not know.
        """
        try:
            config = kind.model_validate(self.options)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{self.folder / artifact.CONFIG}: option '{place}': {first['msg']}; fit it again"
            ) from error
        wanted = self.base_model
        update: dict[str, Any] = {
            "model": model or wanted["id"],
            "revision": None if model else wanted["revision"],
        }
        return config.model_copy(update=update | ({"device": device} if device else {}))

    def check(self, backbone: Backbone) -> None:
        """Refuse another model: tokenizer and embeddings must agree, wherever it lies.

        Raises:
            UserError: Naming both models.
        """
        wanted, found = self.base_model, base_model(backbone)
        if all(wanted[key] == found[key] for key in ("tokenizer", "embeddings", "width")):
            return
        raise UserError(
            f"{self.folder}: trained with base model '{wanted['id']}' ({_short(wanted)}), not for "
            f"'{found['id']}' ({_short(found)}); load it with its own model, or fit an explainer for the other"
        )


def save(folder: Path, explainer: SoftExplainer[Any, Any, Any]) -> None:
    """Write the artifact; never weights of the base model."""
    state = explainer.state().items()
    tensors = {f"{_BRIDGE}{name}": value.detach().cpu().numpy() for name, value in state}
    document = {
        "system": explainer.system,
        "options": explainer.config.model_dump(mode="json"),
        "base_model": explainer.base_model(),
        "start_words": {
            name.rpartition(".")[2]: _spelled(explainer.reader, ids)
            for name, ids in explainer.extra().items()
        },
        "metrics": {} if explainer.result is None else explainer.result.best_metrics,
    }
    with tempfile.TemporaryDirectory(prefix="forwhy-") as temporary:
        inside = Path(temporary) / explainer.part
        explainer.known.save_pretrained(inside)
        card, parts = _card(explainer, document), {explainer.part: inside}
        artifact.save(folder, KIND, document, tensors | explainer.extra(), explainer.tables(), card, parts)


def load(folder: Path, wanted: str | None = None) -> Stored:
    """Read the artifact of an explainer, of any system or of the one wanted.

    Raises:
        UserError: Truncated, altered or foreign folder, or another system's explainer.
    """
    saved = artifact.load(folder, KIND)
    system = saved.config.get("system")
    if system is None or wanted not in (None, system):
        raise UserError(
            f"{folder}: holds an explainer of system {system!r}, not {wanted or 'a known one'!r}; fit it again"
        )
    bridge = {
        name.removeprefix(_BRIDGE): torch.from_numpy(value)
        for name, value in saved.tensors.items()
        if name.startswith(_BRIDGE)
    }
    extra = {name: value for name, value in saved.tensors.items() if not name.startswith(_BRIDGE)}
    options, base = saved.config["options"], saved.config["base_model"]
    return Stored(folder, str(system), options, base, bridge, extra, saved.tables)


def profile_table(profiles: Profiles) -> pl.DataFrame:
    """Profiles as a table."""
    rows = [(side, number, text) for side, texts in profiles.items() for number, text in texts.items()]
    schema = {"side": pl.String, "entity": pl.Int64, "text": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def read_profiles(table: pl.DataFrame) -> dict[Side, dict[int, str]]:
    """Profiles from their table."""
    found: dict[Side, dict[int, str]] = {"user": {}, "item": {}}
    for side, entity, text in table.iter_rows():
        found[side][entity] = text
    return found


def base_model(backbone: Backbone) -> dict[str, Any]:
    """What a projector depends on: which model and revision, what its token ids mean, its word vectors."""
    return {
        "id": backbone.source.id,
        "revision": backbone.source.revision,
        "tokenizer": tokenizer_hash(backbone.tokenizer),
        "embeddings": _embeddings_hash(backbone),
        "width": backbone.width,
    }


def _short(model: Mapping[str, Any]) -> str:
    tokenizer, embeddings = model["tokenizer"][:8], model["embeddings"][:8]
    return f"width {model['width']}, tokenizer {tokenizer}, embeddings {embeddings}"


def _embeddings_hash(backbone: Backbone) -> str:
    """SHA-256 of 64 word vectors, rounded to bfloat16: the same in every precision the model is loaded in."""
    weight = backbone.words.weight.detach()
    rows = weight[:: max(1, len(weight) // 64)][:64]
    return hashlib.sha256(rows.to(torch.bfloat16).cpu().view(torch.int16).numpy().tobytes()).hexdigest()


def _spelled(reader: Reader[Any], ids: NDArray[np.int32]) -> list[str]:
    """Token strings of the start words; empty for none."""
    return [reader.prompt.decode([int(number)]).strip() if number >= 0 else "" for number in ids]


def _card(explainer: SoftExplainer[Any, Any, Any], document: Mapping[str, Any]) -> str:
    known = explainer.known
    base, metrics = document["base_model"], document["metrics"]
    numbers = "\n".join(f"- validation {name}: {value:.4f}" for name, value in metrics.items()) or "- none"
    return (
        f"# {explainer.title} explainer for {base['id']}\n\n"
        f"Lets a frozen language model read {explainer.stands} and say why a user would like an item.\n"
        f"Weights of the base model are not included; it is fetched under its own licence.\n\n"
        f"- base model: {base['id']}, revision {base['revision']}\n"
        f"- users {len(known.users):,}, items {len(known.items):,}\n"
        f"- preset: {document['options']['preset']}\n\n"
        f"## Measured\n\n{numbers}\n\n"
        "## Limits\n\n"
        "Texts are generated and can be wrong about an item. They speak of users and items of the training\n"
        "data; validation numbers picked the state and are no test.\n"
    )
