"""Which weights a model of this process writes with: its own, or a packed copy in 16 or 8 bits."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from forwhy.atomic import write_text
from forwhy.bridge.llama import Bits, fits
from forwhy.bridge.options import WritingEngine
from forwhy.documents import read_json
from forwhy.errors import UserError
from forwhy.models import cache_folder
from forwhy.training.engine import BF16, processor

_NEEDS: dict[Bits, tuple[str, ...]] = {
    "int8": ("avx512_vnni", "avx_vnni", "amx_int8"),
    "bf16": BF16,
}
"""Any of these, as torch names what a processor has, the faster engine first; without, it would be slower or wrong."""
_KEPT = "engine.json"
_REMEDY = "set explainer.engine to 'auto'"
log = logging.getLogger(__name__)


def has(bits: Bits) -> bool:
    """Whether the processor multiplies in these bits, and torch can let it."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if bits == "int8":
        kinds = torch.backends.quantized.supported_engines
        built = "fbgemm" in kinds and hasattr(torch, "quantize_per_channel")
    return built and any(processor().get(it) for it in _NEEDS[bits])


def chosen(engine: Literal["auto", "bf16", "int8"], model: PreTrainedModel) -> Bits | None:
    """The bits of the copy that this engine writes with; None where it writes with the model's own weights.

    `auto`: what `forwhy doctor --bench` found the fastest on this processor; without it `int8`, then `bf16`, where the
    processor has them and the model is a Llama.

    Raises:
        UserError: Asked for by name, and the processor or the model is not made for it.
    """
    if engine == "auto":
        those, kept = able(model), _kept()
        bits = next((it for it in those if it == kept), None if kept == "torch" or not those else those[0])
        log.info("explainer.engine: auto is %s here", bits or "torch")
        return bits
    if not has(engine):
        lacks = " or ".join(_NEEDS[engine])
        raise UserError(f"explainer.engine: {engine} needs a processor with {lacks}; {_REMEDY}")
    if not fits(model):
        what = f"{type(model).__name__} in {str(model.dtype).removeprefix('torch.')} on {model.device.type}"
        raise UserError(
            f"explainer.engine: {engine} is for Llamas in float32 on a CPU, not for {what}; {_REMEDY}"
        )
    return engine


def _place() -> Path:
    return cache_folder() / _KEPT


def keep(engine: WritingEngine) -> None:
    """Remember what is the fastest on this processor with this torch."""
    write_text(_place(), json.dumps({**_known_as(), "engine": engine}) + "\n")


def able(model: PreTrainedModel) -> list[Bits]:
    """Engines with a copy that this processor has for this model, the one that is faster as a rule first."""
    return [bits for bits in _NEEDS if has(bits)] if fits(model) else []


def named() -> str:
    """The processor, and what of it counts here."""
    has_too = [it for needs in _NEEDS.values() for it in needs if processor().get(it)]
    return f"{processor().get('cpu_name')} ({' '.join(has_too) or 'neither VNNI nor bf16'})"


def _known_as() -> dict[str, str]:
    return {"processor": str(processor().get("cpu_name")), "torch": torch.__version__}


def _kept() -> str | None:
    """What was measured on this processor with this torch."""
    try:
        document = read_json(_place())
    except (UserError, OSError):
        return None
    mine = isinstance(document, dict) and {k: document.get(k) for k in _known_as()} == _known_as()
    return str(document.get("engine")) if mine else None
