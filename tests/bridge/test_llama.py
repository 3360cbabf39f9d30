"""Llama on packed weights: the pass is the model's own, products are exact arithmetic, rows do not see each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from forwhy.bridge import backbone as backbone_module
from forwhy.bridge import engines, llama
from forwhy.bridge.backbone import Backbone, Prefix, roomy, taking
from forwhy.bridge.llama import Bits, PackedLlama
from forwhy.bridge.measured import measured
from forwhy.bridge.options import GenerationConfig, PromptConfig
from forwhy.errors import UserError
from forwhy.models import load_causal_lm
from tiny_models import family_model, reader, rows, save

EVERY: list[Bits] = ["bf16", "int8"]
KINDS: dict[str, dict[str, object]] = {
    "grouped": {},
    "each its own keys": {"num_key_value_heads": 4},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "wide heads": {"head_dim": 16},
    "scaled positions": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0},
    },
}  # fmt: skip


def needs(bits: Bits) -> None:
    if not engines.has(bits):
        pytest.skip(f"this processor has no {bits}")


def with_biases(**changes: object) -> PreTrainedModel:
    """A small Llama whose biases and norms are not what they are born as."""
    model = family_model("Llama", **changes)
    torch.manual_seed(1)
    for name, value in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            value.copy_(torch.randn_like(value) * 0.3 + ("norm" in name))
    return model


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that round nothing: what is left is the pass, and how inputs are made smaller."""
    plain: Callable[[Tensor], Callable[[Tensor], Tensor]] = lambda w: lambda x: F.linear(x, w)  # noqa: E731
    monkeypatch.setattr(llama, "PRODUCTS", dict.fromkeys(EVERY, plain))


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("bits", EVERY)
@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_the_pass_is_the_models_own(kind: str, bits: Bits) -> None:
    """A prompt of padded rows with a hidden position, then single tokens: the same logits."""
    model = with_biases(**KINDS[kind])
    copy, words = PackedLlama(model, bits, list(range(3, 30))), model.get_input_embeddings()
    prefix_ids, prompt = torch.tensor([[5, 6, 7]]), torch.tensor([[8, 9, 10, 11], [12, 13, 14, 15]])
    pads = torch.tensor([0, 2])
    mask = torch.arange(7)[None] >= pads[:, None]
    mask[0, 4] = False
    places = (torch.arange(3, 7)[None] - pads[:, None]).clamp_min(0)
    for own in (False, True):
        begun = model(input_ids=prefix_ids, use_cache=True).past_key_values
        prefix = [(layer.keys, layer.values) for layer in begun.layers]
        cache = roomy(Prefix(tuple(prefix)), pads.tolist(), 20)
        step = own_step(model) if own else copy.step
        found = [step(cache, words(prompt), mask, places)]
        for layer in cache.layers:
            layer.write()
        for n in range(3):
            mask_BT = F.pad(mask, (0, n + 1), value=True)
            found.append(step(cache, words(prompt[:, n : n + 1]), mask_BT, (7 - pads + n)[:, None]))
        if own:
            expected = found
        else:
            ours = found
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


def own_step(model: PreTrainedModel) -> Callable[..., Tensor]:
    def step(cache: Cache, inputs: Tensor, mask: Tensor | None, places: Tensor | None) -> Tensor:
        read = {"inputs_embeds": inputs, "attention_mask": mask, "position_ids": places}
        return model(**read, **taking(model, cache), use_cache=True).logits[:, -1]

    return step


@torch.inference_mode()
def test_a_product_of_eight_bits_is_whole_numbers_times_scales() -> None:
    """Against numpy's whole numbers; rows are the same alone."""
    needs("int8")
    random = np.random.default_rng(0)
    weight, inputs = (
        random.normal(size=(24, 40)).astype(np.float32),
        random.normal(size=(5, 40)).astype(np.float32),
    )
    inputs[2] *= 1000
    inputs[3] = 0
    product = llama.PRODUCTS["int8"](torch.from_numpy(weight))
    found = product(torch.from_numpy(inputs))
    scale = np.abs(weight).max(axis=1, keepdims=True) / 127
    largest = np.maximum(np.abs(inputs).max(axis=1, keepdims=True), 1e-5)
    whole_w, whole_x = np.rint(weight / scale).astype(int), np.rint(inputs / largest * 127).astype(int)
    expected = (whole_x @ whole_w.T) * scale.T * largest / 127
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    alone = torch.cat([product(torch.from_numpy(row[None])) for row in inputs])
    assert torch.equal(alone, found)
    assert not found[3].any()


@pytest.mark.parametrize("bits", EVERY)
def test_texts_are_the_same_alone_and_together_and_the_model_stays(bits: Bits, tmp_path: Path) -> None:
    needs(bits)
    loaded = load_causal_lm(str(save(tmp_path / "model")))
    plain, fast = (reader(Backbone(loaded, engine)) for engine in ("torch", bits))
    asked = [replace(row, target=()) for row in rows(fast, 6)]
    config = GenerationConfig(max_new_tokens=8, batch_size=4)
    together = fast.write(asked, config)
    assert [fast.write([row], config)[0] for row in asked] == together
    assert ["".join(fast.stream(row, config)) for row in asked] == together
    told = rows(plain, 6)
    assert np.array_equal(fast.nll(told)[0], plain.nll(told)[0])


@pytest.mark.parametrize("of_16", [False, True])
def test_prompts_are_never_read_in_eight_bits(
    of_16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 16 where the processor has them, else with the whole weights, to the last bit."""
    needs("int8")
    if of_16:
        needs("bf16")
    monkeypatch.setattr(backbone_module, "has", lambda _: of_16)
    loaded = load_causal_lm(str(save(tmp_path / "model")))
    found = []
    for engine in ("torch", "int8", "bf16") if of_16 else ("torch", "int8"):
        backbone = Backbone(loaded, engine)
        with torch.inference_mode():
            cache = roomy(backbone.prefix([3, 4]), [0], 8)
            found.append(backbone.step(cache, backbone.embed(torch.tensor([[5, 6]])), None, None))
    assert torch.equal(found[1], found[-1 if of_16 else 0])
    assert torch.equal(found[1], found[0]) != of_16


def test_where_something_listens_the_model_itself_is_asked(tmp_path: Path) -> None:
    """As XRec's injection does while a prompt is read."""
    needs("int8")
    backbone = Backbone(load_causal_lm(str(save(tmp_path / "model"))), "int8")
    layer = backbone.model.model.layers[0].mlp
    inputs, prefix = backbone.embed(torch.tensor([[5]])), backbone.prefix([3, 4])

    def step() -> Tensor:
        with torch.inference_mode():
            cache = roomy(prefix, [0], 8)
            return backbone.step(cache, inputs, None, None)

    rounded = step()
    handle = layer.register_forward_hook(lambda *given: 0 * given[-1])
    changed = step()
    handle.remove()
    assert torch.equal(step(), rounded)
    assert (changed - rounded).abs().max() > 0.1
    with backbone.changing(), torch.no_grad():
        layer.down_proj.weight.zero_()
    assert (step() - changed).abs().mean() < 0.2 * (rounded - changed).abs().mean()


def test_engines_are_refused_where_they_are_not_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gemma, tiny = (load_causal_lm(str(save(tmp_path / kind, kind))) for kind in ("gemma", "llama"))
    monkeypatch.setattr(engines, "has", lambda bits: bits == "int8")
    with pytest.raises(UserError, match=r"int8 is for Llamas in float32 on a CPU, not for Gemma3ForCausalLM"):
        Backbone(gemma, "int8")
    assert Backbone(gemma, "auto").bits is None
    with pytest.raises(
        UserError, match="bf16 needs a processor with avx512_bf16 or amx_bf16; set explainer.engine"
    ):
        Backbone(tiny, "bf16")
    monkeypatch.setenv("FORWHY_CACHE", str(tmp_path / "cache"))
    assert Backbone(tiny, "auto").bits == "int8"
    monkeypatch.setattr(engines, "has", lambda bits: False)
    assert Backbone(tiny, "auto").bits is None


def test_auto_takes_what_was_measured_on_this_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("int8")
    monkeypatch.setenv("FORWHY_CACHE", str(tmp_path / "cache"))
    folder = save(tmp_path / "model")
    told = measured(str(folder))
    kept = tmp_path / "cache" / "engine.json"
    assert told["best"] in told
    assert all(told["torch"][it] > 0 for it in ("alone", "of 16"))
    tiny, document = load_causal_lm(str(folder)), json.loads(kept.read_text())
    for engine, bits in (("torch", None), ("int8", "int8"), ("made up", "int8")):
        kept.write_text(json.dumps({**document, "engine": engine}))
        assert Backbone(tiny, "auto").bits == bits
    for text in (
        json.dumps({**document, "engine": "torch", "processor": "another"}),
        "[]",
        "{",
        "",
        "[" * 9999,
    ):
        kept.write_text(text)
        assert Backbone(tiny, "auto").bits == "int8"


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "most"), [("int8", 0.06), ("bf16", 0.01)])
def test_a_real_model_says_nearly_the_same(bits: Bits, most: float, real_tokenizers: dict[str, Path]) -> None:
    """KL divergence of the next token's probabilities, in nats, on a text that nothing was measured on."""
    needs(bits)
    if "smollm2-135m" not in real_tokenizers:
        pytest.skip("smollm2-135m is not cached; `python -m forwhy.models smollm2-135m` fetches it")
    loaded = load_causal_lm(str(real_tokenizers["smollm2-135m"]))
    plain, fast = Backbone(loaded), Backbone(loaded, bits)
    ids = loaded.tokenizer(
        "She bought a tent, two sleeping bags and a stove last spring, so a light water filter that fits into the "
        "same rucksack would save her the weight of bottles on long walks."
    )["input_ids"]
    divergences, caches = [], [roomy(plain.prefix(ids[:1]), [0], 80) for _ in range(2)]
    for cache in caches:
        for layer in cache.layers:
            layer.write()
    for number in ids[1:-1]:
        with torch.inference_mode():
            inputs = plain.embed(torch.tensor([[number]]))
            reading = zip((plain, fast), caches, strict=True)
            own, near = (it.step(cache, inputs, None, None) for it, cache in reading)
        divergences.append(
            F.kl_div(near.log_softmax(-1), own.log_softmax(-1), log_target=True, reduction="sum").item()
        )
    assert np.mean(divergences) < most


def test_reading_with_profiles_and_without_a_bridge_too(tmp_path: Path) -> None:
    needs("int8")
    backbone = Backbone(load_causal_lm(str(save(tmp_path / "model"))), "int8")
    made = reader(backbone, PromptConfig(task_tokens=0, instruction="Say why."))
    assert len(made.write(rows(made, 3), GenerationConfig(max_new_tokens=4))) == 3
