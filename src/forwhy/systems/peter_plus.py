"""PETER+: PETER that also reads a sentence, here the profile of the item, as XRec adapts it (Ma et al. 2024, 4.1)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.evidence import Subject
from forwhy.explain.worded import WordedExplainer
from forwhy.explain.words import UNK
from forwhy.options import Presets
from forwhy.systems.explaining import Collaborative
from forwhy.systems.peter import PETER_PRESETS, PeterConfig, PeterNetwork


class PeterPlusConfig(PeterConfig):
    """PETER's, and how much of a profile is read."""

    presets: ClassVar[Presets] = {**PETER_PRESETS, "paper": {**PETER_PRESETS["paper"], "sentence": 15}}
    sentence: PositiveInt = 60
    """Words of the item's profile that are read, or where it has none of the user's; words of no training text are left
    out. Profiles that came with a data set may have been written from held-out reviews."""

    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    epochs: NonNegativeInt = 30
    patience: NonNegativeInt = 8

    @property
    def shows(self) -> frozenset[str]:
        """Profiles stand before the text."""
        return frozenset({"profiles"})


class PeterPlusExplainer(WordedExplainer[PeterPlusConfig]):
    """Writes as PETER, after a user, an item and the words of a profile."""

    system, title = "peter-plus", "PETER+"
    config_type, network_type, reads_ratings = PeterPlusConfig, PeterNetwork, True

    def _begin(self, dataset: Dataset) -> None:
        if not any(self.profiles.values()):
            raise UserError(
                f"data set '{dataset.name}' has no profiles, which system 'peter-plus' reads; set system = \"peter\", "
                "or write some: forwhy mine profiles DATA --extractive"
            )
        super()._begin(dataset)

    def _shown_words(self, subject: Subject) -> tuple[int, ...]:
        said = self._profiles(subject)
        known = [it for it in self.words.numbers(said["item"] or said["user"]) if it != UNK]
        return tuple(known[: self._settings.sentence])


class PeterPlus(Collaborative):
    """A small transformer reads a user, an item, what is known of the item, and the words so far."""

    system: Literal["peter-plus"] = "peter-plus"
    explainer: PeterPlusConfig = Field(default_factory=PeterPlusConfig)

    def new_explainer(self) -> PeterPlusExplainer:
        """Vectors and words, learned at once."""
        return PeterPlusExplainer(self.explainer)
