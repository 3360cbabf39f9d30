"""XRec-Profile: title and profiles in words alone, no vector; beside XRec, the row that shows what vectors add.

The prompt of XRec (Ma et al. 2024, section 3.3 and "XRec-Profile" of BEAT's Table 1) without its two vectors. What
learns are the task tokens, the same for every pair; as published nothing does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from forwhy.columns import SIDES
from forwhy.errors import UserError
from forwhy.explain.evidence import Subject, TokenEvidence
from forwhy.explain.options import XREC_PRESETS, ExplainerConfig
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors
from forwhy.lazy import Network
from forwhy.options import Presets
from forwhy.systems.explaining import Collaborative

if TYPE_CHECKING:
    from torch import Tensor

    from forwhy.bridge.backbone import Backbone
    from forwhy.bridge.projectors import PairBridge
    from forwhy.bridge.prompt import Numbers
    from forwhy.bridge.reader import Reader
    from forwhy.data.dataset import Dataset

_PROMPT = {
    "title": True,
    "profiles": True,
    "instruction": (
        "You explain recommendations. Below stand, where they are known, an item's title and in words who the user is "
        "and who would like the item. Say in one or two plain sentences, at most 50 words, why this user would enjoy "
        "this item. Name what the item offers and what the user likes. Do not mention profiles, scores or the "
        "recommender itself."
    ),
}
_OF_XREC = XREC_PRESETS["paper"]
_ADAPTED = {"adapter"}
"""Options of XRec's that this has not."""


class XRecProfileConfig(ExplainerConfig):
    """The prompt, and how the task tokens are learned."""

    presets: ClassVar[Presets] = {
        "forwhy": {"prompt": _PROMPT},
        "paper": {
            **{name: value for name, value in _OF_XREC.items() if name not in _ADAPTED},
            "prompt": {**_PROMPT, "labels": False, "task_tokens": 0},
            "epochs": 0,
        },
    }
    preset: Literal["forwhy", "paper"] = "forwhy"

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if self.epochs and not self.prompt.task_tokens:
            raise ValueError("without task tokens nothing learns; set epochs = 0, or prompt.task_tokens = 8")
        return self


class _Nothing(Network):
    """[B, 0] -> [B, 0]: a side that has no vector."""

    def forward(self, side_B0: Tensor) -> Tensor:
        return side_B0


class XRecProfileExplainer(SoftExplainer[CollaborativeVectors, "PairBridge"]):
    """Reads an item's title and both profiles, and nothing that was learned of the pair."""

    system, title, part = "xrec-profile", "XRec-Profile", "collaborative"
    stands, known_by = "profiles", "their profiles"
    config_type, known_type = XRecProfileConfig, CollaborativeVectors

    def _take_up(self, dataset: Dataset, known: CollaborativeVectors) -> None:
        super()._take_up(dataset, known)
        if self.shows_profiles and not any(self.profiles.values()):
            raise UserError(
                f"data set '{dataset.name}': no profiles to read; import it with a table of profiles, or set "
                "explainer.prompt.profiles = false to read titles alone"
            )

    def _build(self, backbone: Backbone) -> Reader[PairBridge]:
        return self._bridged(backbone, (_Nothing(), _Nothing()), dict.fromkeys(SIDES, 0))

    def _standing(self, subject: Subject) -> tuple[Numbers, Numbers]:
        return (), ()

    def _tokens(self, subject: Subject) -> list[TokenEvidence]:
        return []


class XRecProfile(Collaborative):
    """A frozen language model that reads who the user is and who would like the item, in words."""

    system: Literal["xrec-profile"] = "xrec-profile"
    explainer: XRecProfileConfig = Field(default_factory=XRecProfileConfig)

    def new_explainer(self) -> XRecProfileExplainer:
        """Words in the prompt, and learned task tokens before them."""
        return XRecProfileExplainer(self.explainer)
