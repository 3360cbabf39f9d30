"""LC-Rec (Zheng et al. 2024): codes of what items say that never collide, and tasks that tie them to a language model.

The last level of an RQ-VAE shares its codewords evenly among the items (uniform semantic mapping), so that no name ends
in a code that says nothing. A language model, LLM-BS's without its contrast, learns sequences, to turn an item's text
into its codes and its codes into the title. The paper's asymmetric and preference tasks are `recommender.tasks.fused`
and `recommender.tasks.preference`, its Llama any `recommender.backbone.name`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from forwhy.systems.llm_bs import LlmBs


class LcRec(LlmBs):
    """A language model that learns what its codes mean."""

    system: Literal["lc-rec"] = "lc-rec"  # type: ignore[assignment]
    reads_attributes: ClassVar[bool] = True
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "index": {"source": "semantic", "method": "uniform"},
        "recommender": {
            "contrast": {"semantic": 0.0, "behaviour": 0.0},
            "tasks": {"item_to_index": 1.0, "index_to_item": 1.0},
        },
    }
