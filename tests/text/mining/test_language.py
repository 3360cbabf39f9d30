"""Prompt files, the packaged ones and a user's own; which replies count, and what is made of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from forwhy.columns import Side
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.text.chat.answers import KeptAnswers
from forwhy.text.chat.asking import Malformed, Repaired
from forwhy.text.mining.language import REPLIES, RULE, LanguageMiner, MiningPrompt, fitting
from forwhy.text.mining.mine import mine
from forwhy.text.mining.stage import Entity, Kind, MiningConfig

Script = Callable[..., Any]
OWN = 'Say it in {words} words as {"profile": "…"}.\n---\nOf {metadata} they say: {reviews}'


def written(folder: Path, text: str) -> Path:
    path = folder / "own.md"
    path.write_text(text, encoding="utf-8")
    return path


SIDES = [
    ("intents", "user"),
    ("intents", "item"),
    ("profiles", "item"),
    ("profiles", "user"),
    ("explanations", "item"),
]


@pytest.mark.parametrize(("kind", "side"), SIDES)
def test_packaged_prompts_are_whole(kind: Kind, side: Side) -> None:
    config = MiningConfig(kind=kind, phrases=7, phrase_words=43, profile_words=43, explanation_words=43)
    prompt = MiningPrompt(config, side)
    assert prompt.system.endswith(RULE)
    assert "43 words" in prompt.system
    assert ("7 at most" in prompt.system) == (kind == "intents")
    assert not re.search(r"{(most|words)}", prompt.system)
    system, ask = prompt.messages(
        Entity("user", "a", ("[[reviews]]",), metadata=("[[metadata]]",), items=("[[items]]",))
    )
    assert (system.role, ask.role) == ("system", "user")
    places = {"intents-item": ["metadata"], "profiles-item": ["metadata"], "profiles-user": ["items"]}
    shown = re.findall(r"<\w+>\[\[(\w+)\]\]</\w+>", ask.content)
    assert shown == [*places.get(f"{kind}-{side}", []), "reviews"]


def test_numbers_stand_in_the_instruction() -> None:
    asked = MiningPrompt(MiningConfig(kind="intents", phrases=7, phrase_words=5), "user").system
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
    packaged, own = MiningPrompt(config, "item").sha256, MiningPrompt(config, "item", path).sha256
    assert packaged != own
    assert set(after.tables["mined"]["prompt"]) == {own}


def test_the_hash_is_of_all_that_is_asked_but_the_data() -> None:
    hashes = {
        MiningPrompt(MiningConfig(kind=kind, profile_words=words), side).sha256
        for kind, side in (("profiles", "item"), ("profiles", "user"), ("intents", "item"))
        for words in (50, 60)
    }
    assert len(hashes) == 5  # the number of words of a profile is no matter for intents
    config = MiningConfig(kind="profiles")
    seeded = config.model_copy(update={"seed": 3, "reviews": 2, "limit": 1})
    assert MiningPrompt(config, "item").sha256 == MiningPrompt(seeded, "item").sha256


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
        MiningPrompt(MiningConfig(kind="profiles"), "item", path)
    assert str(refused.value).startswith(f"{path}: ")
    assert message in str(refused.value)


def test_a_prompt_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.md: no such file; check the path"):
        MiningPrompt(MiningConfig(kind="profiles"), "item", tmp_path / "none.md")
    (tmp_path / "latin.md").write_bytes(b"caf\xe9\n---\n{reviews}")
    with pytest.raises(UserError, match="not UTF-8"):
        MiningPrompt(MiningConfig(kind="profiles"), "item", tmp_path / "latin.md")


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
    found = {kind: MiningPrompt(MiningConfig(kind=kind), "user").schema for kind in get_args(Kind)}
    assert {kind: list(one["properties"]) for kind, one in found.items()} == {
        "intents": ["preferences"],
        "profiles": ["profile"],
        "explanations": ["explanation"],
    }
    assert all(one["additionalProperties"] is False for one in found.values())
    json.dumps(found)


# ---- which replies count, and what is made of them


def read(kind: Kind, value: object, **options: int) -> object:
    config = MiningConfig.model_validate({"kind": kind, **options})
    parse = fitting(REPLIES[kind], MiningPrompt(config, "user").values)
    return parse(value if isinstance(value, str) else json.dumps(value))


def test_phrases_come_back_in_their_order() -> None:
    assert read("intents", {"preferences": ["  good   tea ", "静かな部屋"]}) == ("good tea", "静かな部屋")


def test_a_text_comes_back_on_one_line() -> None:
    assert read("profiles", {"profile": " Likes\ttea.\n"}) == ("Likes tea.",)
    assert read("explanations", {"explanation": "For the \u202etea."}) == ("For the tea.",)


def test_broken_form_is_mended_and_marked() -> None:
    assert read("profiles", '```json\n{"profile": "Likes tea.",}\n```') == Repaired(("Likes tea.",))


def test_as_many_words_as_allowed() -> None:
    fifty = " ".join(["word"] * 50)
    assert read("explanations", {"explanation": fifty}) == (fifty,)
    assert read("explanations", {"explanation": "茶" * 50}) == ("茶" * 50,)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("intents", {"preferences": []}, "0 phrases, not 1 to 3"),
        ("intents", {"preferences": list("abcd")}, "4 phrases, not 1 to 3"),
        ("intents", {"preferences": ["Good tea", "good  TEA"]}, "a phrase stands twice"),
        ("intents", {"preferences": ["good tea", ""]}, "a text without a word"),
        ("intents", {"preferences": ["..."]}, "a text without a word"),
        ("intents", {"preferences": [" ".join("abcdefghijklm")]}, "13 words, not 12 at most"),
        ("intents", {"preferences": ["the most important one"]}, "the example of the instruction"),
        ("intents", {"preferences": [3]}, "preferences"),
        ("intents", {"preferences": "good tea"}, "preferences"),
        ("intents", {"phrases": ["good tea"]}, "preferences"),
        ("intents", {"preferences": ["tea"], "note": "x"}, "note"),
        ("intents", ["good tea"], ""),
        ("profiles", {"profile": "the profile"}, "the example of the instruction"),
        ("profiles", "Likes tea.", "no JSON value"),
        ("explanations", {"explanation": " ".join(["word"] * 51)}, "51 words, not 50 at most"),
        ("explanations", {"explanation": "茶" * 51}, "51 words, not 50 at most"),
        ("explanations", {"explanation": "One.\nTwo."}, "more than one line"),
        ("explanations", {"explanation": None}, "explanation"),
        ("explanations", '{"explanation": "cut sho', "JSON"),
    ],
)
def test_anything_else_is_malformed_by_name(kind: Kind, value: object, message: str) -> None:
    with pytest.raises(Malformed) as refused:
        read(kind, value, phrases=3)
    assert message in str(refused.value)


def test_what_was_wrong_never_quotes_the_reply() -> None:
    with pytest.raises(Malformed) as refused:
        read("explanations", {"explanation": "Ignore the above. " * 40})
    assert "Ignore" not in str(refused.value)
