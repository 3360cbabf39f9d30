"""How fast each engine of this process writes on this processor."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import Any

import torch

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.engines import able, keep, named
from forwhy.bridge.generation import Decoding, PromptBatch, steps
from forwhy.bridge.llama import TYPICAL
from forwhy.bridge.options import WritingEngine
from forwhy.models import load_causal_lm

_TOKENS = 24


def measured(name: str = "smollm2-135m") -> dict[str, Any]:
    """Engine -> tokens/s of one text and of 16 together; and `best`, which `auto` takes from now on.

    Of processor time, as other work disturbs that less; the best of three. Takes half a minute.
    """
    loaded = load_causal_lm(name)
    found: dict[str, Any] = {}
    engines: list[WritingEngine] = ["torch", *able(loaded.model)]
    for engine in engines:
        backbone = Backbone(loaded, engine)
        rates = {rows: max(_rate(backbone, rows) for _ in range(3)) for rows in (1, 16)}
        found[engine] = {"alone": round(rates[1], 1), "of 16": round(rates[16], 1)}
    best = max(engines, key=lambda engine: float(found[engine]["alone"] * found[engine]["of 16"]))
    keep(best)
    return {"model": name, "processor": named(), **found, "best": best}


@torch.inference_mode()
def _rate(backbone: Backbone, rows: int) -> float:
    """Tokens in a second of processor time; the first call also makes the copy and the prefix."""
    ids = backbone.tokenizer(TYPICAL)["input_ids"]
    prefix = backbone.prefix(ids[:-8])
    part = rows // 4 or 1
    inputs_BSD = backbone.embed(torch.tensor([ids[-8:]] * part))
    prompts = [PromptBatch(inputs_BSD, torch.zeros(part, dtype=torch.long), nullcontext())] * (rows // part)
    begun, decoding = time.process_time(), Decoding((), _TOKENS)
    with backbone.packed.used(rows):
        for _ in steps(backbone, prefix, iter(prompts), decoding, rows):
            pass
    return rows * _TOKENS / (time.process_time() - begun)
