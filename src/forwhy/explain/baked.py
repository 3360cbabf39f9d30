"""A run's explainer as an ordinary model folder, and prompts for it: what `forwhy bake` writes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from forwhy.artifact import CARD, card, library_version
from forwhy.atomic import atomic_folder, refuse_foreign, stamps, write_signed
from forwhy.bridge.baking import PAIR, Spelling, write_model
from forwhy.data.dataset import Pairs
from forwhy.errors import UserError
from forwhy.explain.asking import Who
from forwhy.explain.base import Explainer
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.evidence import Subject
from forwhy.explain.served import BAKED, FORMAT, ServedReader, bridge_of, fingerprint
from forwhy.wheels import PACKAGED

EXAMPLES = "examples.jsonl"
log = logging.getLogger(__name__)


def spelling_of(explainer: Explainer[Any, Any]) -> Spelling:
    """How an explainer's prompts are written in ids; refused where a prompt is more than ids."""
    if not isinstance(explainer, BeatExplainer):
        wrong = (
            "what its model reads is no word" if explainer.config.base_model else "it has no language model"
        )
        raise UserError(f"system '{explainer.system}': {wrong}; bake a run of system 'beat' or 'because'")
    if isinstance(reader := cast("Any", explainer.reader), ServedReader):
        return reader.spelling
    if len(explainer.reader.bridge.deep):
        raise UserError(
            "explainer: its task tokens are trained in every layer, which no word can hold; train it with "
            "--set explainer.preset=baked (or --set explainer.prompt.task_depth=input)"
        )
    return Spelling(explainer.known, explainer.reader.prompt)


def prompts(
    explainer: BeatExplainer, spelling: Spelling, subjects: Sequence[Subject]
) -> Iterator[dict[str, Any]]:
    """For each pair its ids, `prompt_ids`, the same as one text, `prompt` (null where no text has these ids)."""
    catalogue = explainer.known.catalogue
    for subject in subjects:
        ids = spelling.ids(explainer._row(subject))
        user = None if subject.user is None else catalogue.users.values[subject.user]
        yield {
            "user_id": user,
            "item_id": catalogue.items.values[subject.item],
            "prompt": spelling.text(ids),
            "prompt_ids": ids,
        }


def prompt_of(explainer: Explainer[Any, Any], **who: Any) -> dict[str, Any]:  # noqa: ANN401 - as `explain` takes it
    """The prompt of one person and item; see :func:`prompts`."""
    spelling = spelling_of(explainer)
    host, subjects = explainer._subjects(None, cast("Who", who))
    (told,) = prompts(cast("BeatExplainer", host), spelling, subjects)
    return told


def bake(explainer: Explainer[Any, Any], folder: Path, pairs: Pairs) -> dict[str, Any]:
    """Write the folder, with these pairs as examples: their prompts, and what is written for them here.

    It replaces an older one of forwhy, and nothing else. Returns what was written, for a reader. Cost: the model's
    size twice on the disk for a moment, the examples, and a second.

    Raises:
        UserError: An explainer whose prompts are more than ids, a model that can't grow, a folder of somebody else's.
    """
    refuse_foreign(folder, BAKED)
    if not explainer.can_score:
        raise UserError('explainer.engine: a served model is baked already; set explainer.engine = "torch"')
    spelling = spelling_of(explainer)
    assert isinstance(explainer, BeatExplainer)
    reader, generation = explainer.reader, explainer.config.generation
    if generation.no_repeat:
        log.warning(
            "generation.no_repeat = %d is no part of a model: texts may say a thing twice",
            generation.no_repeat,
        )
    vectors_ND = spelling.vectors(reader.bridge)
    subjects = [replace(subject, text=None) for subject in explainer._scored(pairs)]
    told = prompts(explainer, spelling, subjects)
    texts = reader.write(explainer._rows(subjects), generation.model_copy(update={"no_repeat": 0}))
    examples = [{**one, "text": text} for one, text in zip(told, texts, strict=True)]
    base = reader.identity()
    about = {
        "system": explainer.system,
        "base_model": {"id": base["id"], "revision": base["revision"]},
        "words": len(spelling.names),
        "first_id": spelling.first,
        "fingerprint": fingerprint(bridge_of(explainer.content().tensors), reader.prompt.config),
        "generation": generation.model_dump(mode="json"),
    }
    with atomic_folder(folder) as made:
        write_model(reader.backbone, spelling, vectors_ND, generation, made)
        lines = (json.dumps(one, ensure_ascii=False) for one in examples)
        (made / EXAMPLES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (made / CARD).write_text(_card(explainer, about), encoding="utf-8")
        document = {"forwhy": library_version(), "format": FORMAT, "kind": "baked", "config": about}
        write_signed(made, BAKED, {**document, "files": stamps(made, BAKED)})
    return about


def _card(explainer: BeatExplainer, about: dict[str, Any]) -> str:
    base = about["base_model"]["id"]
    front = {"pipeline_tag": "text-generation", "base_model": base}
    if base in PACKAGED:
        front["license_name"] = PACKAGED[base].licence
    text = (
        f"{base}, {about['base_model']['revision']}, with {about['words']:,} more words in its input: behaviour and "
        f"task tokens of a run of system `{explainer.system}`. Its other weights are unchanged; its licence is the "
        f"base model's. Give it the ids of a prompt, or a chat turn of the role `{PAIR}`: `{EXAMPLES}` holds some, "
        "with the texts that forwhy writes for them. Decode greedily; the new words are then never written."
    )
    return card(
        "Explainer with its words baked in", text, {}, "behaviour-tokens", library="transformers", **front
    )
