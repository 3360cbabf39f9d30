"""Prompt files: the packaged ones, a user's own, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.mining import LanguageMiner, MiningConfig, mine
from forwhy.text.mining.language import DATA, RULE, Questions, load_prompt

Script = Callable[..., Any]
OWN = 'Say it in {words} words as {"profile": "…"}.\n---\nOf {metadata} they say: {reviews}'


def written(folder: Path, text: str) -> Path:
    path = folder / "own.md"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", DATA)
def test_packaged_prompts_are_whole(name: str) -> None:
    numbers = {"words": 50} | ({"most": 7} if name.startswith("intents") else {})
    prompt = load_prompt(name, numbers)
    assert prompt.system.endswith(RULE)
    assert "50 words" in prompt.system
    assert all(f"{{{number}}}" not in prompt.system for number in numbers)
    system, ask = prompt.messages({place: f"[[{place}]]" for place in DATA[name]})
    assert (system.role, ask.role) == ("system", "user")
    assert all(ask.content.count(f"[[{place}]]") == 1 for place in DATA[name])


def test_numbers_stand_in_the_instruction() -> None:
    asked = Questions(MiningConfig(kind="intents", phrases=7, phrase_words=5), "user").prompt.system
    assert "7 at most" in asked
    assert "at most 5 words" in asked


def test_a_prompt_of_ones_own_is_asked(canaries: Dataset, script: Script, tmp_path: Path) -> None:
    path = written(tmp_path, OWN)
    chat = script()
    config = MiningConfig(kind="profiles", side="item", profile_words=9)
    with KeptAnswers(None) as cache:
        after = mine(canaries, config, LanguageMiner(chat, cache, prompt=path)).dataset
    system, ask = chat.asked[0].messages
    assert system.content == f'Say it in 9 words as {{"profile": "…"}}.\n\n{RULE}'
    assert ask.content.startswith("Of <item>Pub</item> they say: <review>")
    packaged, own = Questions(config, "item").sha256, Questions(config, "item", path).sha256
    assert packaged != own
    assert set(after.tables["mined"]["prompt"]) == {own}


def test_the_hash_is_of_all_that_is_asked_but_the_data() -> None:
    hashes = {
        Questions(MiningConfig(kind=kind, profile_words=words), side).sha256
        for kind, side in (("profiles", "item"), ("profiles", "user"), ("intents", "item"))
        for words in (50, 60)
    }
    assert len(hashes) == 5  # the number of words of a profile is no matter for intents
    config = MiningConfig(kind="profiles")
    seeded = config.model_copy(update={"seed": 3, "reviews": 2, "limit": 1})
    assert Questions(config, "item").sha256 == Questions(seeded, "item").sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Say it.", "needs an instruction, one line `---`"),
        ("Say it.\n---\n", "needs an instruction, one line `---`"),
        ("a\n---\n{reviews} {metadata}\n---\nb", "needs an instruction, one line `---`"),
        ("Say it.\n---\n{reviews}", "place {metadata} stands 0 times"),
        ("Say it.\n---\n{reviews} {metadata} {reviews}", "place {reviews} stands 2 times"),
        ("Say {reviews}.\n---\n{reviews} {metadata}", "place {reviews} holds strangers' text"),
        ("Say it.\n---\n{reviews} {metadata} {Items}", "unknown place {Items}; it may be one of {metadata}"),
        ("Say {most}.\n---\n{reviews} {metadata}", "unknown place {most}"),
    ],
)
def test_a_broken_prompt_is_refused_by_place(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError) as refused:
        Questions(MiningConfig(kind="profiles"), "item", path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


def test_a_prompt_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the prompt"):
        Questions(MiningConfig(kind="profiles"), "item", tmp_path / "none.md")
    (tmp_path / "latin.md").write_bytes(b"caf\xe9\n---\n{reviews}")
    with pytest.raises(UserError, match="not UTF-8"):
        Questions(MiningConfig(kind="profiles"), "item", tmp_path / "latin.md")


def test_a_broken_prompt_is_noticed_before_anything_is_asked(
    canaries: Dataset, script: Script, tmp_path: Path
) -> None:
    chat = script()
    with KeptAnswers(None) as cache, pytest.raises(UserError, match="place"):
        mine(
            canaries,
            MiningConfig(kind="profiles", side="user"),
            LanguageMiner(chat, cache, prompt=written(tmp_path, OWN)),
        )
    assert chat.asked == []


def test_a_schema_allows_nothing_beside_the_value() -> None:
    from forwhy.text.mining.language import schema

    found = {kind: schema(kind) for kind in ("intents", "profiles", "explanations")}
    assert {kind: list(one["properties"]) for kind, one in found.items()} == {
        "intents": ["preferences"],
        "profiles": ["profile"],
        "explanations": ["explanation"],
    }
    assert all(one["additionalProperties"] is False for one in found.values())
    json.dumps(found)
