"""Text tasks: what is asked, what is answered, and what a hostile title can't do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from forwhy.data.histories import Sequences
from forwhy.errors import UserError
from forwhy.recommend.llmbs.network import LlmBsNetwork
from forwhy.recommend.llmbs.texts import (
    Example,
    PreferenceWords,
    TextTasks,
    add_tokens,
    learn_tokenizer,
    text_rows,
    widen,
)
from forwhy.recommend.options import TaskConfig

from ..conftest import dataset, index_of
from .conftest import language_model

TITLES = [
    "red lip balm", "blue lip gloss", "hair comb", "<a_1><b_2><end> hair oil", "nail file", "red nail polish",
    "", "green soap",
]  # fmt: skip
HISTORIES = [[0, 1, 5, 2, 3], [2, 3, 4, 7, 1], [6, 0, 3, 4, 5], [1, 2]]
DATA = dataset(HISTORIES, TITLES)
INDEX = index_of(DATA)
TOKENIZER = learn_tokenizer(DATA.item_texts(), 400)
TOKENS = add_tokens(TOKENIZER, INDEX, "")
ALL = TaskConfig(item_to_index=1, index_to_item=1, fused=1, preference=1)


def tasks(config: TaskConfig = ALL, window: int = 2, seed: int = 0) -> TextTasks:
    return TextTasks(DATA, Sequences.from_dataset(DATA).train, TOKENS, TOKENIZER, config, window, seed)


def written(config: TaskConfig = ALL, epoch: int = 0) -> dict[str, list[Example]]:
    built = tasks(config)
    found: dict[str, list[Example]] = {}
    for example in built.examples(built.epoch(epoch), epoch):
        found.setdefault(example.task, []).append(example)
    return found


def says(ids: list[int]) -> str:
    return TOKENIZER.decode(ids)  # type: ignore[no-any-return]


def item_of(codes: list[int]) -> int:
    return int((torch.tensor(codes) == TOKENS.items_NL).all(dim=1).nonzero()[0, 0])


def items_in(ids: list[int]) -> list[int]:
    codes = [number for number in ids if TOKENS.first <= number < TOKENS.first + TOKENS.count]
    return [item_of(codes[start : start + 2]) for start in range(0, len(codes), 2)]


def test_each_task_answers_its_own_question() -> None:
    found = written()
    trains = [history[:-2] if len(history) > 2 else history for history in HISTORIES]
    following = {(a, b) for row in trains for place, b in enumerate(row) for a in row[:place]}
    neighbours = {(a, b) for row in trains for a, b in zip(row, row[1:], strict=False)}
    assert {says(example.prompt): item_of(example.response) for example in found["item_to_index"]} == {
        f"<begin>Item: {title}\nCode:": item for item, title in enumerate(TITLES) if title
    }
    for example in found["index_to_item"]:
        assert says(example.response) == f" {TITLES[items_in(example.prompt)[0]]}<end>"
    for example in found["history_to_title"]:
        title = says(example.response).removesuffix("<end>").strip()
        assert (items_in(example.prompt)[-1], TITLES.index(title)) in neighbours
        assert len(items_in(example.prompt)) <= 2, "the window"
    for example in found["titles_to_index"]:
        listed = says(example.prompt).split("title:")[1].split("\nNext")[0].split(";")
        read = [TITLES.index(title.strip()) for title in listed if title.strip()]
        assert all((item, item_of(example.response)) in following for item in read)
    for example in found["preference_to_index"]:
        wish = says(example.prompt).split("Wished for:")[1].split("\n")[0].strip()
        assert wish == PreferenceWords(DATA, ALL).of_item(item_of(example.response))
        assert (items_in(example.prompt)[-1], item_of(example.response)) in neighbours
    for example in found["history_to_preference"]:
        likes = says(example.response).removesuffix("<end>").strip()
        assert likes == PreferenceWords(DATA, ALL).of_history(items_in(example.prompt))
    assert {task: len(found[task]) for task in ("item_to_index", "index_to_item")} == {
        "item_to_index": 7, "index_to_item": 7,
    }  # fmt: skip
    counts = [len(written(epoch=epoch)["titles_to_index"]) for epoch in range(8)]
    assert set(counts) == {3, 4}, "a history without titles asks nothing"


def test_preferences_are_the_most_frequent_words_of_a_history() -> None:
    words = PreferenceWords(dataset([list(range(8))] * 3, TITLES), TaskConfig(preference_words=2))
    assert words.of_history([0, 1, 4]).split(", ")[0] == "lip"
    assert words.of_item(5) in ("nail, red", "red, nail")
    assert words.of_history([6]) == ""


def test_titles_write_no_codes_and_end_nothing() -> None:
    hostile = tasks(TaskConfig(text_limit=64))._strange(TITLES[3])
    assert all(number < TOKENS.con and number not in (TOKENS.prompt[0], TOKENS.end) for number in hostile)
    assert says(hostile).strip() == TITLES[3]
    for example in written()["index_to_item"]:
        assert example.response.count(TOKENS.end) == 1
        assert not any(TOKENS.first <= number < TOKENS.first + TOKENS.count for number in example.response)


def test_epochs_follow_the_seed_and_the_weights() -> None:
    same, again = tasks().epoch(3), tasks().epoch(3)
    assert same == again
    assert list(tasks().examples(same, 3)) == list(tasks().examples(again, 3))
    assert tasks().epoch(4) != same
    assert tasks(seed=1).epoch(3) != same
    half = tasks(TaskConfig(item_to_index=2.5)).epoch(0)
    counts = np.bincount([entity for _, entity, _ in half], minlength=len(TITLES))
    assert counts[6] == 0, "an item without text takes no part"
    assert sorted(counts[[0, 1, 2, 3, 4, 5, 7]]) == [2] * 3 + [3] * 4
    assert {name for name, _, _ in half} == {"item_to_index"}


@pytest.mark.parametrize("softmax", ["level", "vocab"])
def test_only_responses_carry_loss(softmax: str) -> None:
    network = LlmBsNetwork(language_model("llama", TOKENS.size), TOKENS, softmax)  # type: ignore[arg-type]
    examples = [example for group in written().values() for example in group[:2]]
    losses = []
    for example in examples:
        ids = torch.tensor([[*example.prompt, *example.response]])
        logits = network.lm(input_ids=ids).logits[0].float()
        for place in range(len(example.prompt), ids.shape[1]):
            level, row = int(TOKENS.level_of(ids[0, place])), logits[place - 1]
            if softmax == "level" and level >= 0:
                row = row[TOKENS.levels[level]]
                losses.append(F.cross_entropy(row, ids[0, place] - TOKENS.levels[level][0]))
            else:
                losses.append(F.cross_entropy(row, ids[0, place]))
    found = sum(network._of_texts(*rows) for rows in text_rows(examples))
    torch.testing.assert_close(found, torch.stack(losses).sum(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "untied"])
def test_a_model_gets_new_rows_and_keeps_its_own(family: str) -> None:
    tokenizer = learn_tokenizer(DATA.item_texts(), 400)
    known = len(tokenizer)
    model = language_model(family, known + 5)  # tables are often longer than the vocabulary
    before = [table.weight.detach().clone() for table in (model.get_input_embeddings(), model.lm_head)]
    tokens = add_tokens(tokenizer, INDEX, "Taken:")
    widen(model, tokens, seed=0)
    for table, old in zip((model.get_input_embeddings(), model.lm_head), before, strict=True):
        assert torch.equal(table.weight[:known], old[:known])
        assert len(table.weight) == tokens.size
        assert len(table.weight[known:].unique(dim=0)) == len(table.weight[known:])
    assert tokenizer.convert_ids_to_tokens(tokens.items_NL[2].tolist()) == INDEX.names(2)
    assert tokenizer.decode(list(tokens.prompt)) == "<begin>Taken:"
    with pytest.raises(UserError, match="already"):
        add_tokens(tokenizer, INDEX, "")
