"""Options of mining."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from forwhy.columns import SIDES, Side

__all__ = ["Kind", "MiningConfig"]

Kind = Literal["intents", "profiles", "explanations"]


class MiningConfig(BaseModel):
    """What is mined, about whom, and how much of their text is read."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Kind
    """`intents`: ranked short phrases (BEAT eq. 7); `profiles`: one text each (XRec eq. 2, 3); `explanations`:
    one text for each reviewed pair, from its review alone (XRec A.1)."""
    side: Literal["user", "item", "both"] = "both"
    """Whose; items come first, so that user profiles read them. No matter for explanations."""
    limit: int | None = Field(default=None, ge=1)
    """Most entities of each side, or pairs, drawn by seed; a larger limit holds the smaller one's."""
    seed: NonNegativeInt = 0
    """Of all draws; those of one entity do not depend on another's."""
    reviews: int = Field(default=20, ge=1)
    """Reviews read of one entity, a sample of them when there are more."""
    characters: int = Field(default=1_000, ge=20)
    """Read of one review, or of one item's description; the rest is cut off."""
    items: int = Field(default=10, ge=0)
    """Training items read of a user for a profile, a sample of them when there are more."""
    phrases: int = Field(default=10, ge=1)
    """Most phrases of an entity; BEAT's code keeps 10."""
    phrase_words: int = Field(default=12, ge=1)
    """Most words of a phrase; `data.intents` cuts longer ones."""
    profile_words: int = Field(default=60, ge=5)
    """Most words of a profile; XRec's have 35 on average."""
    explanation_words: int = Field(default=50, ge=5)
    """Most words of an explanation; 50 in both papers."""
    use_profiles: bool = False
    """User profiles also read item profiles that nobody knows the sources of, such as shipped ones. What is
    mined with them is marked as possibly leaking."""

    @property
    def sides(self) -> tuple[Side, ...]:
        """Whose, in the order of mining; explanations are about pairs and have one turn."""
        if self.kind == "explanations":
            return ("item",)
        return tuple(side for side in reversed(SIDES) if self.side in (side, "both"))
