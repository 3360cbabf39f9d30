"""Options of a language model that is asked: who answers, what it may cost, and how patient we are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from forwhy.errors import UserError
from forwhy.text.chat.budget import Ledger, Prices


@dataclass(frozen=True)
class Speaker:
    """For whom a server answers: what messages call it, and where its address and key come from."""

    who: str
    url_name: str
    """Environment variable of the address."""
    key_name: str
    """Environment variable of the key."""
    schema_name: str = "answer"
    """Name of the JSON schema in the request."""


LLM = Speaker("LLM", "FORWHY_LLM_URL", "FORWHY_LLM_KEY")


class AskingConfig(BaseModel):
    """What every use of a model has. The key comes from the environment only."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    speaker: ClassVar[Speaker] = LLM

    model: str = Field(min_length=1)
    """The model's name on its server; part of the key of every answer that is kept."""

    url: str | None = None
    """Address of the interface, such as http://127.0.0.1:8000/v1; None reads it from the environment."""

    input_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Price of a million tokens that the model reads."""

    output_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Price of a million tokens that the model writes."""

    concurrency: int = Field(default=8, ge=1, le=256)
    """Calls under way at once; as many may be lost, and paid for again, when the process is killed."""

    requests_per_minute: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Most calls in a minute, evenly spaced; 0 = as many as the server takes."""

    timeout: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Seconds after which a call is given up."""

    attempts: int = Field(default=5, ge=1)
    """Calls for one answer while the server is busy, late or broken."""

    asks: int = Field(default=3, ge=1)
    """Answers read for one question until one of them has the form that was asked for."""

    backoff: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Seconds before the second attempt, doubled before each further one, each drawn from half to one and a
    half of that; never less than the server's Retry-After."""

    structured: bool = True
    """Ask for an answer by JSON schema; a server that rejects this is asked without."""

    @model_validator(mode="after")
    def _both_prices(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("one price is given: give both, of input and of output tokens, or none")
        return self

    @property
    def prices(self) -> Prices | None:
        """Both prices, or None without them."""
        if self.input_price is None or self.output_price is None:
            return None
        return Prices(self.input_price, self.output_price)

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
            raise UserError(f"{cls.speaker.who}: {'; '.join(found)}") from None


class ChatConfig(AskingConfig):
    """A model that reads reviews: on a server (`url` or FORWHY_LLM_URL, key in FORWHY_LLM_KEY), else local.

    A local model is what `forwhy.models.locate` finds; it is asked one question at a time, and of the
    options only `model`, `device`, `asks`, the budget and the prices concern it. Temperature is always 0.
    """

    budget_tokens: int | None = Field(default=None, gt=0)
    """Most tokens, read and written, of one run; answers that are kept cost nothing. The call that could
    exceed it is not made."""

    device: str = "auto"
    """Of a local model: `auto` (this process's GPU, else the CPU), or a torch device such as `cuda:1`."""

    def ledger(self) -> Ledger:
        """A fresh account under this budget."""
        return Ledger(self.budget_tokens, self.prices, "tokens")
