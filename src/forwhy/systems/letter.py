"""LETTER (Wang et al. 2024): TIGER's network on codes that know who takes what, and that spread over their codewords.

An RQ-VAE reads what items say. A contrast draws each item's sum of codewords to its vector in a network of the next
item (alpha); codewords of a cluster stand together, clusters apart (beta). The published codes are read with
`index = { source = "file", file = "X.index.json" }`. The paper's temperature in the softmax is left at 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from forwhy.systems.tiger import Tiger


class Letter(Tiger):
    """TIGER, its codes drawn to behaviour and spread over their codewords."""

    system: Literal["letter"] = "letter"  # type: ignore[assignment]
    usual: ClassVar[Mapping[str, Mapping[str, Any]]] = {"index": {"source": "semantic", "method": "letter"}}
