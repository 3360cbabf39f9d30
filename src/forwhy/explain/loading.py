"""An explainer of any system from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from forwhy.errors import UserError
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.config import BeatConfig, ExplainerConfig, XRecConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.explain.spoken import BeatWordsExplainer
from forwhy.explain.store import load
from forwhy.explain.xrec import XRecExplainer

EXPLAINERS: dict[str, type[SoftExplainer[Any, Any, Any]]] = {
    kind.system: kind for kind in (BeatExplainer, BeatWordsExplainer, XRecExplainer)
}


def explainer_of(config: ExplainerConfig) -> SoftExplainer[Any, Any, Any]:
    """The explainer, not fitted yet, that a config is about."""
    if isinstance(config, XRecConfig):
        return XRecExplainer(config)
    if isinstance(config, BeatConfig) and config.reader == "words":
        return BeatWordsExplainer(config)
    return BeatExplainer(cast("BeatConfig", config))


def load_explainer(
    folder: Path, model: str | None = None, device: str | None = None
) -> SoftExplainer[Any, Any, Any]:
    """What :meth:`SoftExplainer.save_pretrained` wrote, whichever system's it is.

    Raises:
        UserError: As `from_pretrained`, or a system that this version does not know.
    """
    stored = load(Path(folder))
    if stored.system not in EXPLAINERS:
        raise UserError(
            f"{folder}: holds an explainer of system {stored.system!r}, not known here; fit it again"
        )
    return EXPLAINERS[stored.system].from_stored(stored, model, device)
