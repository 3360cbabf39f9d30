"""Options of the judge."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forwhy.errors import UserError


class JudgeConfig(BaseModel):
    """Who judges, what it may cost, and how patient we are. The key comes from FORWHY_JUDGE_KEY only."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str = Field(min_length=1)
    """The judge's name on its server; part of every vote's key."""

    url: str | None = None
    """Address of the interface, such as http://127.0.0.1:8000/v1; None reads FORWHY_JUDGE_URL."""

    budget: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Most that the votes of one evaluation may cost, whenever they were bought: in the currency of the
    prices, without prices in calls. The call that could exceed it is not made."""

    input_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Price of a million tokens that the judge reads."""

    output_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Price of a million tokens that the judge writes."""

    concurrency: int = Field(default=8, ge=1, le=256)
    """Calls under way at once; as many may be lost, and paid for again, when the process is killed."""

    timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Seconds after which a call is given up."""

    attempts: int = Field(default=5, ge=1)
    """Calls for one answer while the server is busy, late or broken."""

    asks: int = Field(default=3, ge=1)
    """Answers read for one pair until one of them is a score."""

    backoff: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Seconds before the second attempt, doubled before each further one, each drawn from half to one and a
    half of that; never less than the server's Retry-After."""

    max_tokens: int = Field(default=64, ge=16)
    """Most tokens of an answer. A score needs ten; a judge that thinks aloud first needs thousands."""

    structured: bool = True
    """Ask for an answer by JSON schema; a server that rejects this is asked without."""

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("one price is given: give both, of input and of output tokens, or none")
        return self

    @classmethod
    def of(cls, **options: Any) -> Self:  # noqa: ANN401 - validated here
        """The same from a caller's options.

        Raises:
            UserError: One line that names each option that does not fit.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            found = [f"{'.'.join(map(str, it['loc'])) or 'prices'}: {it['msg']}" for it in error.errors()]
            raise UserError(f"judge: {'; '.join(found)}") from None
