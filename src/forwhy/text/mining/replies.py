"""What a reply must be to count: its form as pydantic models, its content as rules with a number."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict

from forwhy.text.chat.asking import Malformed, Repaired
from forwhy.text.chat.replies import fitting
from forwhy.text.fence import clean
from forwhy.text.mining.config import Kind, MiningConfig
from forwhy.text.mining.prompt import Prompt
from forwhy.text.mining.wording import count_words

__all__ = ["Parse", "max_tokens", "parser", "schema"]

Parse = Callable[[str], tuple[str, ...] | Repaired[tuple[str, ...]]]
"""Phrases in order, or one text."""

LONGEST = 4_000
"""Characters of a value that are looked at; far more than any that fits has."""
TOKENS_PER_WORD, TOKENS_PER_PHRASE = 2, 16
"""Enough for English; an answer cut short is asked for again with twice the tokens, and then four times."""


class Preferences(BaseModel):
    """Reply of the kind `intents`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    preferences: list[str]


class Profile(BaseModel):
    """Reply of the kind `profiles`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    profile: str


class Explanation(BaseModel):
    """Reply of the kind `explanations`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    explanation: str


MODELS: dict[Kind, type[BaseModel]] = {
    "intents": Preferences,
    "profiles": Profile,
    "explanations": Explanation,
}


def schema(kind: Kind) -> dict[str, Any]:
    """JSON schema of a reply."""
    return MODELS[kind].model_json_schema()


def max_tokens(config: MiningConfig) -> int:
    """Room for an English reply that counts, and the JSON around it."""
    most = {
        "intents": TOKENS_PER_PHRASE * config.phrases,
        "profiles": TOKENS_PER_WORD * config.profile_words,
        "explanations": TOKENS_PER_WORD * config.explanation_words,
    }
    return 64 + most[config.kind]


def parser(config: MiningConfig, prompt: Prompt) -> Parse:
    """Reads a reply; `Malformed` for one that does not fit, in words that quote nothing of it."""
    if config.kind == "intents":
        return fitting(Preferences, lambda reply: _phrases(reply.preferences, config, prompt))
    if config.kind == "profiles":
        return fitting(Profile, lambda reply: (_text(reply.profile, config.profile_words, prompt),))
    return fitting(Explanation, lambda reply: (_text(reply.explanation, config.explanation_words, prompt),))


def _phrases(listed: list[str], config: MiningConfig, prompt: Prompt) -> tuple[str, ...]:
    if not 1 <= len(listed) <= config.phrases:
        raise Malformed(f"{len(listed)} phrases, not 1 to {config.phrases}")
    phrases = tuple(_text(phrase, config.phrase_words, prompt) for phrase in listed)
    if len({phrase.casefold() for phrase in phrases}) < len(phrases):
        raise Malformed("a phrase stands twice")
    return phrases


def _text(value: str, words: int, prompt: Prompt) -> str:
    if "\n" in value.strip():
        raise Malformed("a text of more than one line")
    text = clean(value, LONGEST)
    if not any(letter.isalpha() for letter in text):
        raise Malformed("a text without a word")
    if prompt.quotes(text):
        raise Malformed("the example of the instruction instead of an answer")
    if count_words(text) > words:
        raise Malformed(f"{count_words(text)} words, not {words} at most")
    return text
