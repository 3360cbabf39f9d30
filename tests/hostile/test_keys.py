"""A run folder, a recipe or a data set from a stranger decides nothing about where our keys go."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import fake_llm
from fake_llm import FakeJudge, FakeLLM
from forwhy.cli import main
from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.evaluate.judge import Judge, JudgeConfig
from forwhy.explain.options import BeatConfig
from forwhy.options import checked
from forwhy.text.chat.base import ChatConfig, Message, Question
from forwhy.text.chat.client import open_chat

KEY = "sk-a-key-of-somebody"
ASKED = Question((Message("user", "tea?"),), 16)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLM]:
    monkeypatch.setenv("FORWHY_LLM_KEY", KEY)
    monkeypatch.delenv("FORWHY_LLM_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_llm.serving(FakeLLM()) as llm:
        yield llm  # type: ignore[misc]


def stored(url: str) -> ChatConfig:
    """As it comes out of a recipe or an artifact."""
    words = {"chat": {"model": "m", "url": url, "attempts": 1}}
    config = checked(BeatConfig, {"reader": "words", "words": words}, "recipe.toml").words.chat
    assert config is not None
    return config


def ask(config: ChatConfig) -> str:
    with open_chat(config) as chat:
        return chat.ask(ASKED).text


def keys(server: FakeLLM) -> list[str | None]:
    return [headers.get("Authorization") for headers in server.headers]


def test_an_address_of_a_folder_gets_no_key(server: FakeLLM) -> None:
    with pytest.raises(UserError, match=r"^LLM: .* stands in a recipe or run.*export FORWHY_LLM_URL") as told:
        ask(stored(server.url))
    assert KEY not in str(told.value)
    assert len(str(told.value)) <= 300
    assert not server.headers


def test_however_it_is_copied(server: FakeLLM) -> None:
    config = stored(server.url)
    for copied in (config.model_copy(update={"attempts": 2}), config.model_copy(deep=True)):
        with pytest.raises(UserError, match="stands in a recipe"):
            ask(copied)
    with pytest.raises(UserError, match="stands in a recipe"):
        ask(checked(ChatConfig, {**config.model_dump()}, ""))
    for forged in ("_chosen", "chosen"):
        with pytest.raises(UserError, match="chosen"):
            checked(ChatConfig, {**config.model_dump(), forged: True}, "")


def test_the_environment_may_name_the_same_address(server: FakeLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWHY_LLM_URL", f"{server.url}/")
    assert ask(stored(server.url)) == "you said: tea?"
    with pytest.raises(UserError, match="stands in a recipe"):
        ask(stored(server.url.replace("/v1", "/v1/other")))
    monkeypatch.setenv("FORWHY_LLM_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(UserError, match="stands in a recipe"):
        ask(stored(server.url))
    assert keys(server) == [f"Bearer {KEY}"]


def test_without_a_key_it_is_asked_and_named(
    server: FakeLLM, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("FORWHY_LLM_KEY")
    with caplog.at_level(logging.INFO, "forwhy"), open_chat(stored(server.url)) as chat:
        assert server.url in caplog.text  # before the first call
        assert "without a key" in caplog.text
        chat.ask(ASKED)
    assert keys(server) == [None]


def test_a_program_gives_its_own_address(server: FakeLLM, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "forwhy"):
        assert ask(ChatConfig(model="m", url=server.url)) == "you said: tea?"
    assert "with the key of FORWHY_LLM_KEY" in caplog.text
    assert KEY not in caplog.text
    assert keys(server) == [f"Bearer {KEY}"]


def test_a_judge_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWHY_JUDGE_KEY", KEY)
    monkeypatch.delenv("FORWHY_JUDGE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_llm.serving(FakeJudge()) as judge:
        given = {"model": "m", "url": judge.url}
        with pytest.raises(UserError, match="stands in a recipe or run, so FORWHY_JUDGE_KEY"):
            Judge(checked(JudgeConfig, given, "run"))(["tea"], ["tea"])
        assert (
            Judge(checked(JudgeConfig, given, "").typed())(["tea"], ["tea"]).counts["gptscore"][0, 0] == 100
        )
        assert [headers["Authorization"] for headers in judge.headers] == [f"Bearer {KEY}"]


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main([str(argument) for argument in arguments])
    return int(leaving.value.code or 0)


def test_the_attack(
    server: FakeLLM,
    tiny_recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Somebody sends a run whose explainer asks their server; its folder is whole and signed."""
    monkeypatch.delenv("FORWHY_LLM_KEY")
    run = tmp_path / "run"
    words = {"reader": "words", "words.chat.model": "m", "words.chat.url": server.url}
    given = [f"--set=explainer.{name}={value}" for name, value in words.items()]
    assert call("run", tiny_recipe, *given, "--until", "explainer", "--out", run) == 0
    monkeypatch.setenv("FORWHY_LLM_KEY", KEY)
    pairs = Dataset.load(tiny_recipe.parent / "town").table("explanations")
    (user, item), *_ = pairs.select("user_id", "item_id").rows()
    capsys.readouterr()
    assert call("explain", run, "--user", user, "--item", item) == 2
    assert "stands in a recipe or run" in capsys.readouterr().err
    monkeypatch.setenv("FORWHY_LLM_URL", server.url)
    assert call("explain", run, "--user", user, "--item", item) == 0
    assert server.url in capsys.readouterr().err
    assert keys(server)[-1] == f"Bearer {KEY}"
    assert not any(keys(server)[:-1])
