"""The two packaged models, no code of theirs: equalities with the plain model on real weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.options import GenerationConfig, PromptConfig
from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader
from forwhy.models import load_causal_lm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["smollm2-135m", "gemma3-270m"])
def reader(
    request: pytest.FixtureRequest, real_tokenizers: dict[str, Path], make_reader: Callable[..., Reader]
) -> Reader:
    if request.param not in real_tokenizers:
        pytest.skip(f"{request.param} is not cached; `python -m forwhy.models {request.param}` fetches it")
    backbone = Backbone(load_causal_lm(str(real_tokenizers[request.param])))
    return make_reader(backbone, PromptConfig(instruction="Say why.", task_tokens=3))


def test_without_behaviour_tokens_logits_are_the_plain_models(reader: Reader) -> None:
    prompt, backbone = reader.prompt, reader.backbone
    row = Row((), (), target=prompt.target("The staff is friendly."))
    ids = torch.tensor([[*prompt.prefix_ids, *prompt.tail_ids, *row.target[:-1]]])
    with torch.no_grad():
        expected = backbone.model(input_ids=ids).logits[0, -len(row.target) :]
        logits, _ = Reader[None](backbone, prompt, None).logits([row])
    torch.testing.assert_close(logits, expected, atol=2e-3, rtol=1e-4)
    assert torch.equal(logits.argmax(dim=-1), expected.argmax(dim=-1))


def test_batch_of_one_equals_batch_of_sixteen(reader: Reader, make_rows: Callable[..., list[Row]]) -> None:
    rows = make_rows(reader)
    together, tokens = reader.nll(rows, 16)
    alone, _ = reader.nll(rows[::5], 1)
    np.testing.assert_allclose(together[::5] / tokens[::5], alone / tokens[::5], atol=1e-4)


def test_greedy_text_is_that_of_generate_alone_and_in_a_batch(
    reader: Reader, make_rows: Callable[..., list[Row]]
) -> None:
    rows = [replace(row, target=()) for row in make_rows(reader)]
    config = GenerationConfig(max_new_tokens=10)
    together = reader.write(rows, config)
    assert [reader.write([row], config)[0] for row in rows[:2]] == together[:2]
    prompt, backbone = reader.prompt, reader.backbone
    with torch.no_grad():
        batch = prompt.collate(rows)
        head = torch.cat([backbone.embed(torch.tensor(prompt.prefix_ids)), reader.bridge.task()])
        embeds = torch.cat([head.expand(len(rows), -1, -1), reader.inputs(batch, reader.soft(rows))], dim=1)
    stop = sorted(prompt.stop_ids)
    made = backbone.model.generate(
        inputs_embeds=embeds,
        attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
        max_new_tokens=10,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=stop[0],
    ).tolist()
    for ids, text in zip(made, together, strict=True):
        assert prompt.decode(ids).split()[: len(text.split())] == text.split()
