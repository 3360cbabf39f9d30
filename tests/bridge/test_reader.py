"""What the bridge computes against the plain model, for a Llama and for a Gemma with sliding windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from forwhy.bridge.backbone import Backbone, taking
from forwhy.bridge.generation import Decoding
from forwhy.bridge.options import GenerationConfig, PromptConfig
from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader

Readers = Callable[..., Reader]
Rows = Callable[..., list[Row]]
SHORT = GenerationConfig(max_new_tokens=12, max_words=60)


def plain_inputs(reader: Reader, row: Row) -> torch.Tensor:
    """One row's whole prompt and text as the plain model would be given it, [1, T, D]."""
    backbone, prompt = reader.backbone, reader.prompt
    batch = prompt.collate([row])
    head = backbone.embed(torch.tensor(prompt.prefix_ids))
    return torch.cat([head, reader.bridge.task(), reader.inputs(batch, reader.soft([row]))[0]])[None]


@torch.no_grad()
def plain_logits(reader: Reader, row: Row) -> torch.Tensor:
    """The plain model's logits for the row's targets."""
    logits = reader.backbone.model(inputs_embeds=plain_inputs(reader, row)).logits[0]
    return logits[-len(row.target) :]


def test_without_behaviour_tokens_logits_are_the_plain_models(
    backbone: Backbone, make_reader: Readers
) -> None:
    prompt = make_reader(backbone, PromptConfig(task_tokens=0)).prompt
    reader = Reader[None](backbone, prompt, None)
    row = Row((), (), target=prompt.target("The staff is friendly."))
    ids = [*prompt.prefix_ids, *prompt.tail_ids, *row.target[:-1]]
    with torch.no_grad():
        expected = backbone.model(input_ids=torch.tensor([ids])).logits[0, -len(row.target) :]
        logits, batch = reader.logits([row])
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)
    assert batch.target_N.tolist() == list(row.target)


@pytest.mark.parametrize("order", ["user-item", "item-user"])
@pytest.mark.parametrize("title", [False, True])
def test_cached_prefix_and_padding_change_nothing(
    backbone: Backbone, make_reader: Readers, make_rows: Rows, title: bool, order: str
) -> None:
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=title, labels=title, order=order))
    rows = make_rows(reader, 5)
    with torch.no_grad():
        logits, batch = reader.logits(rows)
    expected = torch.cat([plain_logits(reader, row) for row in rows])
    torch.testing.assert_close(logits, expected, atol=5e-5, rtol=1e-5)
    assert batch.row_N.tolist() == [n for n, row in enumerate(rows) for _ in row.target]


def test_task_tokens_in_every_layer_are_additions_to_the_plain_models_cache(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    """Against transformers' own cache, filled by one plain pass and changed by hand."""
    config = PromptConfig(task_tokens=3, task_depth="every-layer")
    reader, shallow = (
        make_reader(backbone, config),
        make_reader(backbone, PromptConfig(task_tokens=3, task_depth="input")),
    )
    row = make_rows(reader, 1)[0]
    with torch.no_grad():
        torch.testing.assert_close(reader.logits([row])[0], shallow.logits([row])[0])
        for number, parameter in enumerate(reader.bridge.deep):
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
        batch = reader.prompt.collate([row])
        whole, rest = plain_inputs(reader, row), reader.inputs(batch, reader.soft([row]))
        cache = backbone.model(inputs_embeds=whole[:, : -rest.shape[1]], use_cache=True).past_key_values
        for layer, deep, (keys, values) in zip(
            cache.layers, reader.bridge.deep, backbone.prefix(reader.prompt.prefix_ids).layers, strict=True
        ):
            layer.keys[:, :, -3:] += deep[0] * keys.std()
            layer.values[:, :, -3:] += deep[1] * values.std()
        expected = backbone.model(inputs_embeds=rest, **taking(backbone.model, cache)).logits[
            0, -len(row.target) :
        ]
        torch.testing.assert_close(reader.logits([row])[0], expected, atol=5e-5, rtol=1e-5)
    assert not torch.allclose(expected, plain_logits(shallow, row), atol=1e-2)


def test_gradients_reach_the_bridge_only_and_are_the_plain_ones(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    reader = make_reader(backbone, PromptConfig(task_tokens=4, task_depth="input"), zero_last=False)
    rows = make_rows(reader, 4)
    reader.loss(rows).backward()
    ours = {name: p.grad.clone() for name, p in reader.bridge.named_parameters()}
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    reader.bridge.zero_grad()
    targets = torch.tensor([number for row in rows for number in row.target])
    logits = [backbone.model(inputs_embeds=plain_inputs(reader, r)).logits[0, -len(r.target) :] for r in rows]
    torch.nn.functional.cross_entropy(torch.cat(logits), targets).backward()
    for name, parameter in reader.bridge.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-5, rtol=1e-3, msg=name)
        assert float(ours[name].abs().sum()) > 0, name


def test_batch_of_one_equals_batch_of_sixteen(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=True))
    rows = make_rows(reader)
    together, tokens = reader.nll(rows, 16)
    alone, _ = reader.nll(rows, 1)
    np.testing.assert_allclose(together, alone, atol=1e-4 * tokens.max())
    np.testing.assert_allclose(together / tokens, alone / tokens, atol=1e-4)
    assert tokens.tolist() == [len(row.target) for row in rows]
    asked = make_rows(reader, texts=False)
    assert reader.write(asked, SHORT) == [reader.write([row], SHORT)[0] for row in asked]


def generated(reader: Reader, rows: list[Row], **options: object) -> list[list[int]]:
    """What `generate` writes for each row alone, at most 12 tokens, up to token 2."""
    written = []
    for row in rows:
        embeds = plain_inputs(reader, row)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        made = reader.backbone.model.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=12, do_sample=False, **options
        )
        ids = made[0].tolist()
        written.append(ids[: ids.index(2)] if 2 in ids else ids)
    return written


def ours(reader: Reader, rows: list[Row], decoding: Decoding, slots: int = 16) -> list[list[int]]:
    """What `greedy` writes for the rows, so many together."""
    return [row.ids for row in reader.greedy(rows, decoding, slots)]


@pytest.mark.parametrize(("title", "no_repeat"), [(False, 0), (True, 0), (False, 2), (True, 1)])
def test_greedy_decoding_writes_what_generate_writes(
    backbone: Backbone, make_reader: Readers, make_rows: Rows, title: bool, no_repeat: int
) -> None:
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=title))
    rows = make_rows(reader, 6, texts=False)
    expected = generated(reader, rows, no_repeat_ngram_size=no_repeat)
    assert ours(reader, rows, Decoding({2}, 12, no_repeat=no_repeat)) == expected


@pytest.mark.parametrize("positions", [1, 90, 10_000])
def test_prompts_read_in_parts_of_any_size_write_what_generate_writes(
    backbone: Backbone,
    make_reader: Readers,
    make_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    positions: int,
) -> None:
    """Long and short prompts in no order, which `generate` gets one at a time."""
    monkeypatch.setattr("forwhy.bridge.reader._READ_TOGETHER", {True: positions})
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=True))
    rows = make_rows(reader, 7, texts=False)
    parts = len(list(reader.prompts(rows, 40)))
    assert parts == {1: 7, 10_000: 1}[positions] if positions != 90 else 1 < parts < 5
    assert ours(reader, rows, Decoding({2}, 12), 40) == generated(reader, rows)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 8])
def test_rows_that_take_the_slots_of_finished_ones_write_what_they_write_alone(
    backbone: Backbone, make_reader: Readers, make_rows: Rows, slots: int
) -> None:
    """Fourteen prompts of three lengths in no order, whose answers have one to ten tokens."""
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=True))
    rows = make_rows(reader, 14, texts=False)
    free = generated(reader, rows)
    expected = [ids[: 1 + 7 * row % 10] for row, ids in enumerate(free)]
    decoding = Decoding({2}, 12, lambda row, ids: len(ids) >= len(expected[row]))
    assert ours(reader, rows, decoding, slots) == expected


@pytest.mark.parametrize("positions", [1, 90])
def test_a_row_read_in_parts_is_injected_with_its_own_vectors(
    backbone: Backbone,
    make_reader: Readers,
    make_rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
    positions: int,
) -> None:
    plain = make_reader(backbone, PromptConfig(task_tokens=4, title=True))
    reader = Reader(backbone, plain.prompt, plain.bridge, backbone.injection("projected"))
    rows = make_rows(reader, 7, texts=False)
    alone = [ours(reader, [row], Decoding({2}, 12))[0] for row in rows]
    monkeypatch.setattr("forwhy.bridge.reader._READ_TOGETHER", {True: positions})
    assert ours(reader, rows, Decoding({2}, 12)) == alone != ours(plain, rows, Decoding({2}, 12))


@pytest.mark.parametrize("end_bias", [-8.0, 8.0])
def test_a_bias_on_the_end_is_the_one_of_generate(
    backbone: Backbone, make_reader: Readers, make_rows: Rows, end_bias: float
) -> None:
    reader = make_reader(backbone)
    rows = make_rows(reader, 6, texts=False)
    expected = generated(reader, rows, eos_token_id=2, sequence_bias=[[[2], end_bias]])
    assert ours(reader, rows, Decoding({2}, 12, end_bias=end_bias)) == expected
    assert end_bias < 0 or ours(reader, rows, Decoding({2}, 12)) != expected


@torch.no_grad()
def led_away(reader: Reader, row: Row, other: Row, guidance: float, stop: set[int]) -> list[int]:
    """What the plain model, without a cache, writes for a row that is led away from another."""
    ids: list[int] = []
    while len(ids) < 12:
        words = reader.backbone.embed(torch.tensor([ids], dtype=torch.long))
        own, far = (
            reader.backbone.model(inputs_embeds=torch.cat([plain_inputs(reader, one), words], 1))
            .logits[0, -1]
            .log_softmax(-1)
            for one in (row, other)
        )
        plausible = own.exp() >= own.exp().max() / 10
        token = int(torch.where(plausible, (1 + guidance) * own - guidance * far, -torch.inf).argmax())
        if token in stop:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize(("guidance", "slots"), [(0.5, 16), (3.0, 16), (3.0, 1), (3.0, 5)])
def test_guidance_writes_what_is_likelier_than_for_another_prompt(
    backbone: Backbone, make_reader: Readers, make_rows: Rows, guidance: float, slots: int
) -> None:
    """Prompts of three lengths, whose texts end at different steps."""
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=True))
    rows = make_rows(reader, 7, texts=False)
    pairs = list(zip(rows, [*rows[3:], *rows[:3]], strict=True))
    weights = [0.0, *[guidance] * 5, guidance / 2]
    free = [led_away(reader, *pair, weight, set()) for pair, weight in zip(pairs, weights, strict=True)]
    stop = {2, *(ids[3 + n] for n, ids in enumerate(free))}
    expected = [led_away(reader, *pair, weight, stop) for pair, weight in zip(pairs, weights, strict=True)]
    asked = [row for pair in pairs for row in pair]
    written = ours(reader, asked, Decoding(stop, 12, guidance=weights), slots)
    assert written[::2] == written[1::2] == expected
    assert expected != ours(reader, rows, Decoding(stop, 12))


def test_rows_that_end_leave_without_disturbing_the_others(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    """Every row alone, then together with stop tokens that end rows at different steps."""
    reader = make_reader(backbone)
    rows = make_rows(reader, 8, texts=False)

    def write(chosen: list[Row], stop: set[int]) -> list[list[int]]:
        return ours(reader, chosen, Decoding(stop, 10))

    free = write(rows, set())
    stop = {ids[3 + n % 5] for n, ids in enumerate(free)}
    expected = [ids[: next((k for k, i in enumerate(ids) if i in stop), 10)] for ids in free]
    assert len({len(ids) for ids in expected}) > 2
    assert write(rows, stop) == expected == [write([row], stop)[0] for row in rows]


def test_streamed_pieces_join_to_the_written_text(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    reader = make_reader(backbone)
    for row in make_rows(reader, 3, texts=False):
        for words in (2, 5, 60):
            config = GenerationConfig(max_new_tokens=20, max_words=words)
            assert "".join(reader.stream(row, config)) == reader.write([row], config)[0]


def test_a_hidden_token_does_not_matter_and_others_do(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    reader = make_reader(backbone)
    row = make_rows(reader, 1)[0]
    other = Row((row.user[0], (row.user[1] + 1) % 8, row.user[2]), row.item, (), row.target)
    hidden = torch.zeros(2, 6, dtype=torch.bool)
    seen, _ = reader.nll([row, other], 2, hidden)
    hidden[:, 1] = True
    unseen, _ = reader.nll([row, other], 2, hidden)
    assert abs(seen[0] - seen[1]) > 1e-3
    assert abs(unseen[0] - unseen[1]) < 1e-4


def test_prefix_is_computed_once_and_kept(backbone: Backbone, make_reader: Readers) -> None:
    reader = make_reader(backbone)
    first = backbone.prefix(reader.prompt.prefix_ids)
    assert backbone.prefix(reader.prompt.prefix_ids) is first
    assert first.length == len(reader.prompt.prefix_ids)


def test_token_dropout_hides_tokens_in_training_only(
    backbone: Backbone, make_reader: Readers, make_rows: Rows
) -> None:
    reader = make_reader(backbone)
    rows = make_rows(reader, 4)
    with torch.no_grad():
        kept, dropped = (float(reader.loss(rows, share)) for share in (0.0, 0.9))
    assert kept != pytest.approx(dropped, abs=1e-4)
    sums, tokens = reader.nll(rows, 4)
    assert sums.sum() / tokens.sum() == pytest.approx(kept, abs=1e-4)


@pytest.mark.parametrize("order", ["user-item", "item-user"])
def test_attention_is_the_plain_models_where_each_target_is_written(
    backbone: Backbone, make_reader: Readers, make_rows: Rows, order: str
) -> None:
    reader = make_reader(backbone, PromptConfig(task_tokens=4, title=True, order=order))
    row, model = make_rows(reader, 3)[2], backbone.model
    usual = model.config._attn_implementation
    shares, soft = reader.attention(row)
    assert model.config._attn_implementation == usual, "the model is as it was"
    model.set_attn_implementation("eager")
    with torch.no_grad():
        layers = model(inputs_embeds=plain_inputs(reader, row), output_attentions=True).attentions
    model.set_attn_implementation(usual)
    expected = torch.stack(layers).mean(dim=(0, 1, 2))[-len(row.target) :]
    np.testing.assert_allclose(shares, expected, atol=1e-6)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    layout = reader.prompt.layout(row)
    before = shares.shape[1] - len(layout) - len(row.target) + 1
    assert [layout[at - before] for at in soft] == [-1] * 6
