"""Mining by asking a language model: prompts in, checked replies out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.text.chat.asking import Task, ask_all
from forwhy.text.chat.base import Chat, Message, Question
from forwhy.text.chat.budget import Prices
from forwhy.text.chat.cache import ReplyCache
from forwhy.text.chat.config import ChatConfig
from forwhy.text.chat.estimate import estimate
from forwhy.text.fence import fenced
from forwhy.text.mining.config import MiningConfig
from forwhy.text.mining.prompt import DATA, Prompt, load_prompt
from forwhy.text.mining.replies import max_tokens, parser, schema
from forwhy.text.mining.stage import Found, Stage, Values, stages_of
from forwhy.text.mining.subjects import Subject

__all__ = ["LanguageMiner", "Questions", "estimates"]

TAGS = {"reviews": "review", "items": "item", "metadata": "item"}


class Questions:
    """What is asked about each subject of a stage.

    Args:
        config: What is mined.
        side: Of whom; no matter for explanations.
        path: A prompt of the user's own.

    Raises:
        UserError: the prompt file; see `load_prompt`.
    """

    def __init__(self, config: MiningConfig, side: Side, path: Path | None = None) -> None:
        self._config = config
        self._name = prompt_name(config, side)
        self.prompt: Prompt = load_prompt(self._name, _numbers(config), path)
        self._schema: dict[str, Any] = schema(config.kind)
        self.sha256 = self.prompt.sha256(self._schema)
        """Of the prompt: wording, rule about data and form of the reply."""

    def tasks(self, subjects: Sequence[Subject]) -> list[Task[Values]]:
        """One question for each."""
        parse, tokens = parser(self._config, self.prompt), max_tokens(self._config)
        return [Task(Question(self._messages(one), tokens, self._schema), parse) for one in subjects]

    def _messages(self, subject: Subject) -> tuple[Message, ...]:
        places = DATA[self._name]
        return self.prompt.messages({place: fenced(TAGS[place], subject.data(place)) for place in places})


def prompt_name(config: MiningConfig, side: Side) -> str:
    """Which prompt of `prompt.DATA` a stage has."""
    names = {"intents": f"intents-{side}", "profiles": f"profile-{side}", "explanations": "explanation"}
    return names[config.kind]


def _numbers(config: MiningConfig) -> dict[str, int]:
    """Places of numbers, for the kind's prompts."""
    words = {
        "intents": config.phrase_words,
        "profiles": config.profile_words,
        "explanations": config.explanation_words,
    }
    most = {"most": config.phrases} if config.kind == "intents" else {}
    return {**most, "words": words[config.kind]}


class LanguageMiner:
    """Asks a chat model; every answer is in the cache before the next is asked for.

    Args:
        chat: Open; see `forwhy.text.chat.open_chat`.
        cache: Open.
        asks: Answers read for one question until one fits.
        prompt: A file in the place of the packaged prompt (of one kind and side).
        prices: For the cost of the answers.
    """

    def __init__(
        self,
        chat: Chat,
        cache: ReplyCache,
        asks: int = 3,
        prompt: Path | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._chat, self._cache, self._asks, self._prompt = chat, cache, asks, prompt
        self._prices = prices
        self.model = chat.model

    def check(self, config: MiningConfig, side: Side) -> str:
        """SHA-256 of the prompt of a stage.

        Raises:
            UserError: its file is not a prompt.
        """
        return Questions(config, side, self._prompt).sha256

    def find(self, stage: Stage) -> Found:
        """Replies to all questions of a stage; see `ask_all`."""
        questions = Questions(stage.config, stage.side, self._prompt)
        replies = ask_all(
            self._chat, questions.tasks(stage.subjects), self._cache, self._asks, stage.title, self._prices
        )
        return Found([reply.value or reply.reason or "malformed" for reply in replies], replies.asked)


def estimates(
    dataset: Dataset, config: MiningConfig, chat: ChatConfig, cache: ReplyCache, prompt: Path | None = None
) -> list[dict[str, Any]]:
    """What each stage would ask, as plain JSON values (`Estimate` and `about`); asks nothing.

    User profiles are counted with the item profiles there are by now.

    Raises:
        UserError: as mining itself, before it asks.
    """
    found = []
    for stage in stages_of(dataset, config):
        tasks = Questions(config, stage.side, prompt).tasks(stage.subjects)
        found.append({"about": stage.about, **asdict(estimate(tasks, chat, cache))})
    return found
