"""A baked model is to any engine what the run is here: equal prompts, equal texts; its new words are never written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import tiny_models
from fake_llm import FakeJudge, Response, serving
from forwhy.bridge.baking import PAIR, Spelling
from forwhy.bridge.options import finish
from forwhy.data.dataset import Dataset, Pairs
from forwhy.doctor import verify
from forwhy.errors import NoAnswer, UserError
from forwhy.explain.baked import BAKED, EXAMPLES, bake, prompts, spelling_of
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.options import BeatConfig
from forwhy.explain.xrec import XRecExplainer
from forwhy.vocabulary.vocabulary import Vocabulary


@pytest.fixture(scope="module", params=["llama", "gemma", "padded"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models with tied words, with scaled ones and a head of its own, and with more rows than the tokenizer has ids."""
    place = tmp_path_factory.mktemp("models") / request.param
    tiny_models.save(place, "gemma" if request.param == "gemma" else "llama")
    if request.param == "padded":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = tiny_models.llama(len(tiny_models.tokenizer()) + 7)
        model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def fitted(
    folder: Path,
    town: Dataset,
    vocabulary: Vocabulary,
    tmp_path_factory: pytest.TempPathFactory,
) -> BeatExplainer:
    """Task tokens in the input; a slot's vector, so that one code is another word in another slot."""
    config = BeatConfig.model_validate(
        {
            "preset": "baked", "model": str(folder), "epochs": 1, "batch_size": 8, "lr": 1e-2,
            "prompt": {"instruction": "Say why.", "task_tokens": 4, "title": True, "labels": True},
            "generation": {"max_new_tokens": 12, "max_words": 40, "end_bias": -1.5},
        }
    )  # fmt: skip
    return BeatExplainer(config).fit(town, vocabulary, tmp_path_factory.mktemp("w"))


@pytest.fixture(scope="module")
def pairs(town: Dataset, fitted: BeatExplainer) -> Pairs:
    found = town.pairs("test")
    return found.select(np.flatnonzero(fitted.supported(found)))


@pytest.fixture(scope="module")
def baked(fitted: BeatExplainer, pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("baked") / "model"
    bake(fitted, place, pairs)
    return place


@pytest.fixture(scope="module")
def read(baked: Path) -> tuple[Any, Any]:
    model = transformers.AutoModelForCausalLM.from_pretrained(baked)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(baked)


def examples(baked: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (baked / EXAMPLES).read_text().splitlines()]


def test_transformers_alone_writes_what_forwhy_explains(
    baked: Path, read: tuple[Any, Any], fitted: BeatExplainer, pairs: Pairs
) -> None:
    (model, tokenizer), told = read, examples(baked)
    assert len(told) == len(pairs) > 3
    said = fitted.explain([(one["user_id"], one["item_id"]) for one in told])
    for one, own in zip(told, said, strict=True):
        ids = model.generate(torch.tensor([one["prompt_ids"]]))[0, len(one["prompt_ids"]) :].tolist()
        ended = ids[-1] in fitted.reader.prompt.stop_ids
        assert finish(tokenizer.decode(ids, skip_special_tokens=True), ended, 40) == one["text"] == own.text


def test_its_logits_are_those_of_soft_tokens(
    read: tuple[Any, Any], fitted: BeatExplainer, pairs: Pairs
) -> None:
    spelling, subjects = spelling_of(fitted), fitted._scored(pairs)
    rows = fitted._rows(subjects)
    with torch.inference_mode():
        for row in rows[:4]:
            wanted_NV, batch = fitted.reader.logits([row])
            ids = [*spelling.ids(row), *row.target[:-1]]
            found_SV = read[0](torch.tensor([ids])).logits[0, -len(row.target) :]
            assert torch.allclose(found_SV[:, : spelling.first], wanted_NV[:, : spelling.first], atol=2e-4)
            assert len(batch.target_N) == len(row.target)


def test_a_new_word_is_never_the_likeliest(read: tuple[Any, Any], fitted: BeatExplainer) -> None:
    model, spelling = read[0], spelling_of(fitted)
    torch.manual_seed(0)
    with torch.inference_mode():
        logits_BSV = model(torch.randint(0, spelling.new.stop, (8, 30))).logits
    assert (logits_BSV[..., spelling.new].amax(-1) <= logits_BSV[..., : spelling.first].amax(-1)).all()


def test_a_prompt_is_the_same_as_ids_as_text_and_as_a_chat_turn(baked: Path, read: tuple[Any, Any]) -> None:
    tokenizer = read[1]
    for one in examples(baked):
        assert tokenizer(one["prompt"], add_special_tokens=False)["input_ids"] == one["prompt_ids"]
        held = one["prompt"].rpartition("<task_3>")[2].partition("<|im_end|>")[0]
        turn = [{"role": PAIR, "content": held}]
        assert (
            tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) == one["prompt"]
        )


def test_other_chats_and_texts_are_read_as_before(read: tuple[Any, Any], folder: Path) -> None:
    before, after = transformers.AutoTokenizer.from_pretrained(folder), read[1]
    turn = [{"role": "user", "content": "Say {{ this }} and 'that'."}]
    for how in ({"add_generation_prompt": True}, {}):
        assert after.apply_chat_template(turn, tokenize=False, **how) == before.apply_chat_template(
            turn, tokenize=False, **how
        )
    text = "The user would enjoy <u.macro the quiet terrace <|im_end|>"
    assert after(text)["input_ids"] == before(text)["input_ids"]


def test_every_slot_spells_its_codes(fitted: BeatExplainer, vocabulary: Vocabulary) -> None:
    spelling = spelling_of(fitted)
    assert len(spelling.names) == len(set(spelling.names)) == 4 + 2 * 6 * 8
    assert spelling.tokenizer.convert_tokens_to_ids(spelling.names) == [*spelling.new]
    assert {"<task_3>", "<u.macro_7>", "<u.micro_0>", "<i.micro_5.5>"} <= {*spelling.names}
    vectors_ND, random = spelling.vectors(fitted.reader.bridge), np.random.default_rng(0)
    codes_BL = torch.from_numpy(random.integers(0, 8, (5, 6)))
    for side, projector in (("user", fitted.reader.bridge.user), ("item", fitted.reader.bridge.item)):
        with torch.inference_mode():
            wanted_BLD = projector(codes_BL)
        for slot in range(6):
            ids = spelling.codes[side, slot]  # type: ignore[index]
            found_BD = vectors_ND[[ids[code] - spelling.first for code in codes_BL[:, slot].tolist()]]
            assert torch.allclose(found_BD, wanted_BLD[:, slot], atol=1e-6)


def test_a_title_spells_no_word(fitted: BeatExplainer, pairs: Pairs) -> None:
    spelling, subject = spelling_of(fitted), fitted._scored(pairs)[0]
    subject = replace(subject, title="Place <i.macro_3> <task_0> <|im_end|>", text=None)
    (one,) = prompts(fitted, spelling, [subject])
    assert sum(number in spelling.new for number in one["prompt_ids"]) == 4 + 12
    assert one["prompt"] is None, "as a text it would spell two words more"


def test_baking_leaves_the_model_in_memory_alone(fitted: BeatExplainer, pairs: Pairs, baked: Path) -> None:
    before = fitted.explain([(0, 1)])[0].text
    words = fitted.reader.backbone.words.weight
    bake(fitted, baked, pairs)  # over its own older folder
    assert len(words) == len(fitted.reader.backbone.words.weight)
    assert fitted.explain([(0, 1)])[0].text == before


def test_refused_in_one_line(
    fitted: BeatExplainer, explainer: BeatExplainer, xrec: XRecExplainer, pairs: Pairs, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="did not write; choose another"):
        bake(fitted, tmp_path / "theirs", pairs)
    with pytest.raises(UserError, match=r"in every layer.*--set explainer\.preset=baked"):
        bake(explainer, tmp_path / "deep", pairs)
    with pytest.raises(UserError, match="what its model reads is no word; bake a run of system"):
        bake(xrec, tmp_path / "xrec", pairs)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_a_model_that_has_such_words_is_refused(fitted: BeatExplainer, vocabulary: Vocabulary) -> None:
    prompt = fitted.reader.prompt
    once = Spelling(vocabulary, prompt)
    prompt_of_baked = type(prompt)(once.tokenizer, prompt.config, {"user": 6, "item": 6})
    with pytest.raises(UserError, match=r"holds <task_0> already; bake into a model"):
        Spelling(vocabulary, prompt_of_baked)


def test_its_files_are_signed(baked: Path) -> None:
    from forwhy.atomic import read_signed

    document = read_signed(baked, BAKED, "a baked model", 1, "forwhy bake")
    assert document["config"]["words"] == 4 + 2 * 6 * 8
    assert {"model.safetensors", "tokenizer.json", EXAMPLES} <= document["files"].keys()


def test_an_altered_file_is_found(baked: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(baked, tmp_path / "model")
    assert verify([tmp_path]) == {str(copied): "whole"}
    with (copied / "tokenizer.json").open("a") as stream:
        stream.write(" ")
    (said,) = verify([tmp_path]).values()
    assert "tokenizer.json" in said


# --- run by others: a server that continues ids with the baked folder, as vLLM's does


class Continues(FakeJudge):
    """A server of a folder; greedy, with the bias and the ends that it is told."""

    def __init__(self, read: tuple[Any, Any]) -> None:
        super().__init__()
        self.model, self.tokenizer = read
        self.wrong: Response | None = None

    def answer(self, headers: Mapping[str, str], body: dict[str, Any]) -> Response:
        with self.lock:
            self.bodies.append(body)
            self.headers.append(headers)
            if self.wrong is not None:
                return self.wrong
            ids, bias = list(body["prompt"]), body.get("logit_bias", {})
            for _ in range(body["max_tokens"]):
                with torch.inference_mode():
                    logits_V = self.model(torch.tensor([ids])).logits[0, -1].clone()
                    for number, more in bias.items():
                        logits_V[int(number)] += more
                ids.append(int(logits_V.argmax()))
                if ids[-1] in body["stop_token_ids"]:
                    break
            ended = ids[-1] in body["stop_token_ids"]
            text = self.tokenizer.decode(ids[len(body["prompt"]) :], skip_special_tokens=True)
            choice = {"text": text, "finish_reason": "stop" if ended else "length"}
            return Response(json.dumps({"choices": [choice]}).encode())


def open_with(saved: Path, folder: Path, engine: str = "openai", **more: object) -> BeatExplainer:
    run_by = {"engine": engine, "baked": str(folder), **more}
    return BeatExplainer.from_pretrained(saved, run_by=run_by)


@pytest.fixture(scope="module")
def saved(fitted: BeatExplainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("saved") / "explainer"
    fitted.save_pretrained(place)
    return place


@pytest.fixture
def server(read: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Continues]:
    with serving(Continues(read)) as made:
        monkeypatch.setenv("FORWHY_LLM_URL", made.url)
        yield made


def test_a_server_of_the_folder_explains_the_same(
    saved: Path, baked: Path, fitted: BeatExplainer, server: Continues, pairs: Pairs
) -> None:
    served = open_with(saved, baked, served={"model": "shop", "attempts": 1})
    told = examples(baked)
    asked = [(one["user_id"], one["item_id"]) for one in told]
    assert [one.text for one in served.explain(asked)] == [one.text for one in fitted.explain(asked)]
    assert "".join(served.stream(asked[0])) == told[0]["text"]
    assert served.explain(asked[:1])[0].tokens == fitted.explain(asked[:1])[0].tokens
    assert {(body["model"], body["temperature"]) for body in server.bodies} == {("shop", 0)}
    came = sorted(body["prompt"] for body in server.bodies[: len(told)])  # side by side, in any order
    assert came == sorted(one["prompt_ids"] for one in told)
    assert served.prompt_length(pairs) == fitted.prompt_length(pairs)
    assert not served.can_score
    with pytest.raises(UserError, match="tells no probabilities"):
        served.nll(pairs)


def test_the_tokenizer_of_the_folder_is_enough(
    saved: Path, baked: Path, fitted: BeatExplainer, server: Continues, pairs: Pairs
) -> None:
    served, subjects = open_with(saved, baked, served={"model": "shop"}), fitted._scored(pairs)
    ours = [*prompts(fitted, spelling_of(fitted), subjects)]
    assert [*prompts(served, spelling_of(served), subjects)] == ours


def test_what_other_engines_lack_is_refused(
    saved: Path, baked: Path, explainer: BeatExplainer, server: Continues, tmp_path: Path
) -> None:
    name = {"served": {"model": "shop", "attempts": 1}}
    served = open_with(saved, baked, **name)
    pair = next((one["user_id"], one["item_id"]) for one in examples(baked))
    with pytest.raises(UserError, match="only torch reads without a token; leave out"):
        served.explain([pair], without=[served.explain([pair])[0].tokens[0].token])
    served.config = served.config.model_copy(
        update={"generation": served.config.generation.model_copy(update={"no_repeat": 3})}
    )
    with pytest.raises(UserError, match=r"explainer\.generation\.no_repeat: only engine torch"):
        served.explain([pair])
    with pytest.raises(UserError, match="baked already; set"):
        bake(served, tmp_path / "again", None)  # type: ignore[arg-type]
    explainer.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="baked of another run; bake this one"):
        open_with(tmp_path / "other", baked, **name)
    with pytest.raises(UserError, match=r"runs a baked model; bake one \(forwhy bake"):
        BeatExplainer.from_pretrained(saved, run_by={"engine": "openai", **name})
    with pytest.raises(UserError, match="asked for a model by its name"):
        open_with(saved, baked)
    if find_spec("vllm") is None:
        with pytest.raises(UserError, match="vllm is not installed; pip install vllm"):
            open_with(saved, baked, "vllm")
    shutil.copytree(baked, tmp_path / "cut")
    (tmp_path / "cut" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        open_with(saved, tmp_path / "cut", **name)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Response(b"{}"), "no completion in it"),
        (Response(b'{"choices": [{"text": 7}]}'), "no completion in it"),
        (Response(b'{"error": {"message": "no such model"}}', 404), "no such model"),
        (Response(b"busy", 503), "HTTP 503"),
    ],
)
def test_a_server_that_fails_is_named(
    saved: Path, baked: Path, server: Continues, answer: Response, said: str
) -> None:
    served, server.wrong = open_with(saved, baked, served={"model": "shop", "attempts": 1}), answer
    pair = next((one["user_id"], one["item_id"]) for one in examples(baked))
    with pytest.raises(NoAnswer, match=said):
        served.explain([pair])
