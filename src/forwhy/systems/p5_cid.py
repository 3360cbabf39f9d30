"""P5-CID (Hua et al. 2023): codes from who is taken with whom, by recursive spectral clustering; sequences alone.

Items that people take together share their first codes. The paper trains T5 on prompts. Here a language model, LLM-BS's
without contrast and texts, learns to write the codes of the next item: what differs is the index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from forwhy.systems.llm_bs import LlmBs


class P5Cid(LlmBs):
    """A language model that writes collaborative codes."""

    system: Literal["p5-cid"] = "p5-cid"  # type: ignore[assignment]
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "index": {"source": "behaviour", "method": "spectral", "width": "auto", "depth": 3},
        "recommender": {"contrast": {"semantic": 0.0, "behaviour": 0.0}},
    }
