"""XRec's explainer obeys the contract; what it injects is read once and reaches every later token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from forwhy.bridge.generation import finish
from forwhy.bridge.prompt import Row
from forwhy.data.dataset import Dataset, Pairs
from forwhy.explain.options import XRecConfig
from forwhy.explain.xrec import XRecExplainer
from forwhy.graph.representations import CollaborativeVectors

Configs = Callable[..., XRecConfig]


def test_training_lowers_the_validation_nll(xrec: XRecExplainer) -> None:
    assert xrec.result is not None
    values = [entry["valid"]["nll"] for entry in xrec.result.history]
    assert min(values) < values[0]
    assert xrec.result.best_metrics["nll"] == min(values)
    assert "gain" in xrec.result.best_metrics


def row_of(xrec: XRecExplainer, user: int, item: int, text: str | None = None) -> Row:
    known, prompt = xrec.known, xrec.reader.prompt
    profiles = {"user": xrec.profiles["user"].get(user, ""), "item": xrec.profiles["item"][item]}
    return prompt.row(
        known.vectors["user"][user], known.vectors["item"][item], known.catalogue.titles[item], text, profiles
    )


@torch.no_grad()
def without_cache(xrec: XRecExplainer, row: Row, limit: int) -> list[int]:
    """Greedy tokens, the whole sequence read and injected anew for each, task tokens as plain inputs."""
    reader, ids = xrec.reader, list[int]()
    backbone, prompt = reader.backbone, reader.prompt
    head = backbone.embed(torch.tensor([prompt.prefix_ids]))
    batch, soft = prompt.collate([row]), reader.soft([row])
    start = torch.cat([head, reader.bridge.task()[None], reader.inputs(batch, soft)], dim=1)
    positions = batch.soft_BK + head.shape[1] + len(reader.bridge.task())
    while len(ids) < limit:
        inputs = torch.cat([start, backbone.embed(torch.tensor([ids], dtype=torch.long))], dim=1)
        with backbone.injection("projected").at(soft, positions):
            chosen = int(backbone.model(inputs_embeds=inputs, use_cache=False).logits[0, -1].argmax())
        if chosen in prompt.stop_ids:
            break
        ids.append(chosen)
    return ids


def test_generation_is_the_same_with_and_without_a_cache(
    profiled: Dataset, vectors: CollaborativeVectors, configs: Configs, tmp_path: Path
) -> None:
    prompt = {"instruction": "Say why.", "task_tokens": 3, "task_depth": "input"}
    chosen = configs(prompt=prompt, lr=5e-2, train_pairs=16)
    made = XRecExplainer(chosen).fit(profiled, vectors, tmp_path)
    for user, item in ((0, 1), (5, 2), (3, 4)):
        ids = without_cache(made, row_of(made, user, item), chosen.generation.max_new_tokens)
        expected = finish(made.reader.prompt.decode(ids), len(ids) < 16, chosen.generation.max_words)
        assert made.explain((user, item)).text == expected


def test_padding_and_batches_change_no_nll(xrec: XRecExplainer, profiled: Dataset) -> None:
    pairs = profiled.pairs("test")
    together = xrec.nll(pairs).sum
    alone = [float(xrec.nll(pairs.select(np.array([number]))).sum[0]) for number in range(len(pairs))]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@pytest.mark.parametrize("injection", ["projected", "identity", "none"])
def test_each_way_of_injection_trains_and_differs(
    profiled: Dataset, vectors: CollaborativeVectors, configs: Configs, tmp_path: Path, injection: str
) -> None:
    start = XRecExplainer(configs(injection=injection, epochs=0)).fit(profiled, vectors, tmp_path / "start")
    made = XRecExplainer(configs(injection=injection)).fit(profiled, vectors, tmp_path / "made")
    pairs = profiled.pairs("train")
    assert made.nll(pairs).mean < start.nll(pairs).mean
    soft = start.reader.soft([row_of(start, 0, 1, "a")])
    assert (start.reader.injection is None) == (injection == "none")
    assert soft.shape[1] == 2


def test_what_is_injected_matters(xrec: XRecExplainer, profiled: Dataset) -> None:
    pairs, reader = profiled.pairs("test"), xrec.reader
    with_it = xrec.nll(pairs).sum
    kept, reader.injection = reader.injection, None
    try:
        assert not np.allclose(xrec.nll(pairs).sum, with_it, rtol=1e-4)
    finally:
        reader.injection = kept


def test_the_language_model_gets_no_gradient(xrec: XRecExplainer) -> None:
    reader = xrec.reader
    reader.loss([row_of(xrec, 0, 1, "The cake is fresh.")]).backward()
    assert all(parameter.grad is None for parameter in reader.backbone.model.parameters())
    trained = dict(reader.bridge.named_parameters())
    assert all(trained[f"{side}.weight_EdD"].grad.abs().sum() > 0 for side in ("user", "item"))
    reader.bridge.zero_grad()


def test_other_entities_bring_their_vectors_and_profiles_but_not_their_title(xrec: XRecExplainer) -> None:
    prompt = xrec.reader.prompt
    own, other = row_of(xrec, 0, 1, "a"), row_of(xrec, 5, 2, "a")
    asked = Pairs(np.array([0]), np.array([1]), ("a",))
    found = xrec._row(xrec._scored(asked, np.array([5]), np.array([2]))[0])
    assert (found.user, found.item) == (other.user, other.item)
    shown = prompt.decode(found.shown)
    assert "terrace of place 5" in shown
    assert "cake 2" in shown
    assert "Place 1" in shown
    assert own.target == found.target


def test_profiles_are_shown_where_there_are_any_and_only_when_asked(
    profiled: Dataset, vectors: CollaborativeVectors, configs: Configs, tmp_path: Path, xrec: XRecExplainer
) -> None:
    unknown = xrec.reader.prompt.decode(row_of(xrec, 3, 1, "a").shown)
    assert "User profile" not in unknown
    assert "Item profile: known for cake 1" in unknown
    hidden = {"instruction": "Say why.", "task_tokens": 3, "profiles": False}
    made = XRecExplainer(configs(prompt=hidden, epochs=0)).fit(profiled, vectors, tmp_path)
    assert made.profiles == {"user": {}, "item": {}}
    assert "profile" not in made.reader.prompt.decode(made._row(made._subjects((0, 1), {})[1][0]).shown)


def test_hostile_profiles_are_plain_text(xrec: XRecExplainer) -> None:
    prompt = xrec.reader.prompt
    row = row_of(xrec, 0, 4, "a")
    control = set(prompt.tokenizer.all_special_ids)
    assert not control & set(row.shown)
    assert "ignore the above" in prompt.decode(row.shown)
    layout = prompt.layout(row)
    assert layout.count(-1) == 2
    assert layout[-len(prompt.tail_ids) :] == list(prompt.tail_ids)


def test_an_explanation_says_what_each_vector_was_worth(
    xrec: XRecExplainer, vectors: CollaborativeVectors
) -> None:
    found = xrec.explain((0, 1), contributions=True)
    assert [(token.token, token.side) for token in found.tokens] == [
        ("<u.vector>", "user"),
        ("<i.vector>", "item"),
    ]
    assert all(token.contribution is not None for token in found.tokens)
    seen = [item for user, item in vectors.seen.tolist() if user == 0 and item != 1]
    assert {item.item_id for item in found.evidence.items} <= set(seen)


def test_a_newcomer_is_folded_into_the_graph(xrec: XRecExplainer, vectors: CollaborativeVectors) -> None:
    found = xrec.explain(history=[2, 5], item=1)
    assert found.text == "".join(xrec.stream(history=[2, 5], item=1))
    row = xrec._row(xrec._subjects(None, {"history": [2, 5], "item": 1})[1][0])
    np.testing.assert_allclose(row.user, vectors.representation_for_history([2, 5]), rtol=1e-6)
    assert "User profile" not in xrec.reader.prompt.decode(row.shown)


def test_presets_are_what_was_published() -> None:
    paper, official = XRecConfig(preset="paper"), XRecConfig(preset="official")
    for preset in (paper, official):
        assert (preset.batch_size, preset.epochs, preset.lr, preset.weight_decay) == (1, 1, 1e-4, 0.0)
        assert (preset.adapter.experts, preset.adapter.dropout, preset.adapter.noise_floor) == (8, 0.2, 0.01)
        assert preset.prompt.profiles
        assert preset.prompt.title
        assert preset.prompt.task_tokens == 0
    assert (paper.injection, official.injection) == ("projected", "identity")


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_published_presets_train(
    profiled: Dataset, vectors: CollaborativeVectors, model: Path, tmp_path: Path, preset: str
) -> None:
    chosen = XRecConfig.model_validate({"preset": preset, "model": str(model), "train_pairs": 4})
    made = XRecExplainer(chosen).fit(profiled, vectors, tmp_path)
    assert made.result is not None
    assert made.result.step == 4
    assert made.explain((0, 1)).text is not None


def test_prompt_tokens_are_those_of_the_whole_prompt(xrec: XRecExplainer, profiled: Dataset) -> None:
    pairs = profiled.pairs("test")
    prompt, first = xrec.reader.prompt, pairs.select(np.array([0]))
    shown = row_of(xrec, int(first.users[0]), int(first.items[0]), "a").shown
    assert xrec.prompt_length(first) == len(prompt.prefix_ids) + 3 + 2 + len(shown) + len(prompt.tail_ids)
    each = [xrec.prompt_length(pairs.select(np.array([number]))) for number in range(len(pairs))]
    assert xrec.prompt_length(pairs) == pytest.approx(np.mean(each))
