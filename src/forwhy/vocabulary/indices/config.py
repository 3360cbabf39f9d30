"""Options of item indices. No torch here."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["IndexConfig"]


class IndexConfig(BaseModel):
    """How items get their indices. The defaults are the paper's: 256 codes a level, semantic, then behaviour."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    source: Literal["unit", "semantic", "behaviour", "random", "file"] = "unit"
    """What codes are made from. `unit`: semantic and behaviour codes one after the other (LLM-BS eq. 4, "DKI").
    `file`: a published `.index.json`."""

    method: Literal["kmeans", "rqvae"] = "kmeans"
    """`kmeans`: balanced hierarchical k-means, unique by construction. `rqvae`: a residual-quantised autoencoder as
    in TIGER; items whose codes collide get one more level."""

    width: int | Literal["auto"] = 256
    """Codes per level. `auto`: the least that `depth` levels need, so that every level is used evenly. With `rqvae`
    `auto` is 256."""

    depth: int | Literal["auto"] = "auto"
    """Levels of each source. `auto`: the least that can tell all items apart (with width `auto`: of 256 codes); 3
    with `rqvae`, as in TIGER."""

    order: Literal["semantic_first", "behaviour_first", "interleave"] = "semantic_first"
    """Of the two sources' levels in `unit`."""

    leaf_order: Literal["pca", "distance", "random"] = "pca"
    """How the items of a last cluster are numbered: along its first principal axis, by distance from its centre, or
    at random (the released code's arbitrary serial number)."""

    iterations: int = Field(default=16, ge=1)
    """Of k-means, per cluster that is split."""

    epochs: int = Field(default=200, ge=1)
    """Of the RQ-VAE."""

    seed: int = Field(default=0, ge=0)
    """Of every random choice."""

    file: Path | None = None
    """The `.index.json` of `source = "file"`."""

    collisions: Literal["extend", "report"] = "extend"
    """Items of one index in a file: `extend` tells them apart by one more level, `report` refuses the file."""

    @property
    def reads(self) -> tuple[Literal["semantic", "behaviour"], ...]:
        """Which vectors the codes are made from."""
        if self.source == "unit":
            return ("semantic", "behaviour")
        return (self.source,) if self.source in ("semantic", "behaviour") else ()

    @model_validator(mode="after")
    def _check(self) -> "IndexConfig":
        if (self.source == "file") != (self.file is not None):
            raise ValueError('source = "file" and the option file go together; give both or neither')
        for name, value, least in (("width", self.width, 2), ("depth", self.depth, 1)):
            if value != "auto" and value < least:
                raise ValueError(f'{name} = {value}: give "auto" or at least {least}')
        if self.method == "rqvae" and self.source in ("random", "file"):
            raise ValueError(f'method = "rqvae" learns from vectors; source = "{self.source}" has none')
        return self
