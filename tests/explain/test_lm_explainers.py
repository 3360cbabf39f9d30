"""The explainers on a language model beside BEAT's and XRec's: the laws of all, and what each computes otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.soft import SoftExplainer
from forwhy.graph.representations import CollaborativeVectors
from forwhy.systems import find_system
from forwhy.testing import artifact_laws, explainer_laws
from forwhy.vocabulary.vocabulary import Vocabulary

from .conftest import small

PAIRS = [(0, 1), (5, 2), (3, 4), (2, 6)]


@dataclass(frozen=True)
class Kind:
    """One explainer as its system makes it, small."""

    system: str
    options: dict[str, Any] = field(default_factory=dict)
    known: str = "vectors"
    newcomers: bool = False
    frozen: bool = True

    def new(self, model: Path, **changes: Any) -> SoftExplainer[Any, Any]:  # noqa: ANN401
        values = small(model, **{**self.options, **changes})
        recipe = {"name": "x", "data": {"path": "y"}, "explainer": values}
        found: SoftExplainer[Any, Any] = find_system(self.system)(**recipe).new_explainer()  # type: ignore[attr-defined]
        return found


KINDS = {
    "pepler-frozen": Kind("pepler", {"tuned": "none"}),
    "pepler-adapter": Kind("pepler", {"tuned": "adapter"}, frozen=False),
    "pepler-all": Kind("pepler", {"tuned": "all"}, frozen=False),
    "xrec-profile": Kind("xrec-profile"),
    "graphgpt": Kind("graphgpt", {"neighbours": 2, "matching": 4, "matched": 2}, newcomers=True),
    "graphgpt-behaviour": Kind(
        "graphgpt", {"tokens": "behaviour", "matching": 4, "matched": 2}, "vocabulary", True
    ),
    "tea-glm": Kind("tea-glm", {"count": 2, "components": 8, "alignment": 5, "nodes": 8}, newcomers=True),
    "tea-glm-behaviour": Kind(
        "tea-glm",
        {"tokens": "behaviour", "count": 2, "components": 8, "alignment": 5, "nodes": 8},
        "vocabulary",
        True,
    ),
    "time-llm": Kind("time-llm", {"patch": 4, "prototypes": 8, "words": 32}, newcomers=True),
    "time-llm-behaviour": Kind(
        "time-llm", {"tokens": "behaviour", "prototypes": 8, "words": 32}, "vocabulary", True
    ),
}
Fit = Callable[..., SoftExplainer[Any, Any]]


@pytest.fixture(scope="session")
def fit(profiled: Dataset, vectors: CollaborativeVectors, vocabulary: Vocabulary, model: Path) -> Fit:
    known = {"vectors": vectors, "vocabulary": vocabulary}

    def fitted(kind: Kind, folder: Path, data: Dataset = profiled, **changes: Any) -> SoftExplainer[Any, Any]:  # noqa: ANN401
        return kind.new(model, **changes).fit(data, known[kind.known], folder)

    return fitted


@pytest.fixture(scope="session", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="session")
def made(kind: Kind, fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> SoftExplainer[Any, Any]:
    """Fitted once; tests do not change it."""
    return fit(kind, tmp_path_factory.mktemp("work"), validation_gain=True, evaluate_every=4)


def state(made: SoftExplainer[Any, Any]) -> dict[str, torch.Tensor]:
    return dict(made.reader.bridge.state_dict())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_laws_of_explainers_hold(made: SoftExplainer[Any, Any]) -> None:
    explainer_laws(made, PAIRS)


def test_laws_of_artifacts_hold(made: SoftExplainer[Any, Any], tmp_path: Path) -> None:
    artifact_laws(lambda: made, tmp_path)


def test_what_was_saved_scores_the_same(
    made: SoftExplainer[Any, Any], profiled: Dataset, tmp_path: Path
) -> None:
    made.save_pretrained(tmp_path / "saved")
    loaded = type(made).from_pretrained(tmp_path / "saved")
    pairs = profiled.pairs("test")
    np.testing.assert_array_equal(loaded.nll(pairs).sum, made.nll(pairs).sum)


def test_training_lowers_the_validation_nll(made: SoftExplainer[Any, Any]) -> None:
    assert made.result is not None
    values = [entry["valid"]["nll"] for entry in made.result.history]
    assert min(values) < values[0]
    assert made.metrics["nll"] == min(values)
    assert "gain" in made.metrics


def test_batches_change_no_nll(made: SoftExplainer[Any, Any], profiled: Dataset) -> None:
    pairs = profiled.pairs("test")
    together = made.nll(pairs).sum
    alone = [float(made.nll(pairs.select(np.array([number]))).sum[0]) for number in range(len(pairs))]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_the_model_is_left_as_it_was_where_it_is_frozen(
    kind: Kind, made: SoftExplainer[Any, Any], model: Path
) -> None:
    from forwhy.models import load_causal_lm

    plain, own = load_causal_lm(str(model)).model.state_dict(), made.reader.backbone.model.state_dict()
    assert plain.keys() == own.keys()
    assert all(torch.equal(plain[name], own[name]) for name in plain) == kind.frozen
    assert not any(it.requires_grad for it in made.reader.backbone.model.parameters())


class Killed(BaseException):
    """As a kill, nothing of ours handles it."""


def test_killed_and_run_again_it_ends_in_the_same_bytes(
    kind: Kind, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = state(fit(kind, tmp_path / "whole"))
    plain, seen = type(kind.new(Path("x")))._loss, 0

    def dies(self: SoftExplainer[Any, Any], rows: Any) -> Any:  # noqa: ANN401
        nonlocal seen
        seen += 1
        if seen in (3, 9):
            raise Killed
        return plain(self, rows)

    monkeypatch.setattr(type(kind.new(Path("x"))), "_loss", dies)
    for _ in range(2):
        with pytest.raises(Killed):
            fit(kind, tmp_path / "killed", checkpoint_seconds=0)
    assert same(state(fit(kind, tmp_path / "killed", checkpoint_seconds=0)), whole)


def test_same_seed_same_bytes_and_another_seed_others(kind: Kind, fit: Fit, tmp_path: Path) -> None:
    first, again, other = (state(fit(kind, tmp_path / f"{n}", seed=seed)) for n, seed in enumerate((0, 0, 1)))
    assert same(first, again)
    assert not same(first, other)


def test_each_token_has_a_name_and_a_worth(made: SoftExplainer[Any, Any]) -> None:
    found = made.explain((0, 1), contributions=True)
    prompt, row = made.reader.prompt, made._row(made._subjects((0, 1), {})[1][0])
    assert [token.side for token in found.tokens] == [
        side for side, count in sorted(prompt.slots(row).items(), reverse=True) for _ in range(count)
    ]
    if made.part == "collaborative":  # a code may stand in two slots
        assert len({token.token for token in found.tokens}) == len(found.tokens)
    assert all(token.contribution is not None for token in found.tokens)
    view = made.attention((0, 1))
    assert [token.token for token in view.tokens] == [token.token for token in found.tokens]
    np.testing.assert_allclose(np.sum(view.shares, axis=1), 1, atol=1e-6)


def test_somebody_new_is_read_by_their_history_or_refused(kind: Kind, made: SoftExplainer[Any, Any]) -> None:
    if kind.newcomers:
        found = made.explain(history=[2, 5], item=1)
        assert found.text == "".join(made.stream(history=[2, 5], item=1))
        return
    with pytest.raises(
        UserError, match="somebody known by a history: no training interactions, and .* alone; name a"
    ):
        made.explain(history=[2, 5], item=1)
    with pytest.raises(UserError, match="user 11: no training interactions"):
        made.explain((11, 1))


def test_the_published_preset_trains(kind: Kind, fit: Fit, tmp_path: Path) -> None:
    few = {"epochs": 1, "batch_size": 8, "train_pairs": 8, "validation_pairs": 4}
    more = {"tuned_epochs": 1} if kind.system == "pepler" else {}
    if kind.system == "xrec-profile":
        few["epochs"] = 0
    paper = Kind(kind.system, {}, kind.known)
    values = {**few, **more, "preset": "paper", "prompt": {}, "lr": 1e-3, **kind.options}
    made = fit(paper, tmp_path, **values)
    assert made.metrics["nll"] > 0
    assert made.explain((0, 1)).text is not None


# --- PEPLER


def test_peplers_first_phase_is_prompt_tuning(
    fit: Fit, profiled: Dataset, model: Path, tmp_path: Path
) -> None:
    """The loss of the plain model on the same ids with both vectors between them; only vectors have gradients."""
    from forwhy.models import load_causal_lm

    made = fit(
        KINDS["pepler-frozen"], tmp_path, epochs=0, prompt={"instruction": "Say why.", "task_tokens": 0}
    )
    lm, reader = load_causal_lm(str(model)).model, made.reader
    row = made._row(made._scored(profiled.pairs("train"))[0])
    (user,), (item,) = row.user, row.item
    layout, words = reader.prompt.layout(row), lm.get_input_embeddings()
    vectors = torch.stack(
        [
            module.start_D + module.unit * module.prompts_ND[number]
            for module, number in ((reader.bridge.user, int(user)), (reader.bridge.item, int(item)))
        ]
    )
    ids = torch.tensor([*reader.prompt.prefix_ids, *layout, *row.target])
    inputs = words(ids.clamp_min(0)).detach().index_put((torch.nonzero(ids == -1)[:, 0],), vectors)
    labels = torch.full_like(ids, -100)
    labels[-len(row.target) :] = ids[-len(row.target) :]
    expected = lm(inputs_embeds=inputs[None], labels=labels[None]).loss
    found = made._loss([row])["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    wanted = torch.autograd.grad(expected, [reader.bridge.user.prompts_ND, reader.bridge.item.prompts_ND])
    reader.bridge.zero_grad()
    found.backward()
    for gradient, module in zip(wanted, (reader.bridge.user, reader.bridge.item), strict=True):
        torch.testing.assert_close(module.prompts_ND.grad, gradient, rtol=1e-4, atol=1e-6)
        assert gradient.abs().sum() > 0
    assert all(it.grad is None for it in reader.backbone.model.parameters())
    reader.bridge.zero_grad()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks by the old name
def test_peplers_prompt_is_pefts_virtual_tokens(
    fit: Fit, profiled: Dataset, model: Path, tmp_path: Path
) -> None:
    """The whole prompt as virtual tokens of peft's prompt tuning, the two vectors among them: the same loss."""
    from peft import PromptTuningConfig, get_peft_model

    from forwhy.models import load_causal_lm

    shallow = {"instruction": "Say why.", "task_tokens": 3, "task_depth": "input"}
    made = fit(KINDS["pepler-frozen"], tmp_path, start="uniform", prompt=shallow)
    reader, row = made.reader, made._row(made._scored(profiled.pairs("train"))[0])
    head = reader.backbone.embed(torch.tensor(reader.prompt.prefix_ids))
    batch = reader.prompt.collate([row])
    rest = reader.inputs(batch, reader.soft([row]))[0, : len(reader.prompt.layout(row))]
    prompt = torch.cat([head, reader.bridge.task(), rest])
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(prompt))
    tuned = get_peft_model(load_causal_lm(str(model)).model, config)
    with torch.no_grad():
        tuned.prompt_encoder["default"].embedding.weight.copy_(prompt)
    ids = torch.tensor([row.target])
    expected = tuned(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss
    torch.testing.assert_close(made._loss([row])["loss"], expected, rtol=1e-5, atol=1e-6)


def test_peplers_second_phase_starts_from_the_first_and_is_kept_only_where_it_helps(
    fit: Fit, tmp_path: Path
) -> None:
    first = fit(KINDS["pepler-frozen"], tmp_path / "first")
    for name in ("pepler-adapter", "pepler-all"):
        both = fit(KINDS[name], tmp_path / name)
        assert both.result is not None
        assert both.result.history[0]["valid"]["nll"] == pytest.approx(first.metrics["nll"], rel=1e-5)
        assert both.metrics["nll"] <= first.metrics["nll"] * (1 + 1e-6)
        assert both.reader.identity() == first.reader.identity(), "the base model's, as it was loaded"
        assert any(name.startswith("tuned.") for name in state(both))
        told = "All weights of the base model are included" if name == "pepler-all" else "are not included"
        assert told in both.content().card


def test_whole_weights_are_not_tuned_in_half_precision(model: Path) -> None:
    with pytest.raises(UserError, match="learns in float32; leave out precision"):
        KINDS["pepler-all"].new(model, precision="bf16")


# --- XRec-Profile


def test_profiles_are_read_and_where_there_are_none_it_says_so(
    fit: Fit, town: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match=r"data set 'town': no profiles to read; .*prompt\.profiles = false"
    ) as refused:
        fit(KINDS["xrec-profile"], tmp_path, data=town)
    assert "\n" not in str(refused.value)
    made = fit(KINDS["xrec-profile"], tmp_path, epochs=0)
    row = made._row(made._subjects((0, 1), {})[1][0])
    assert (row.user, row.item) == ((), ())
    shown = made.reader.prompt.decode(row.shown)
    assert "terrace of place 0" in shown
    assert "cake 1" in shown
    assert "Place 1" in shown
    assert made.reader.soft([row]).shape == (1, 0, 48)


def test_without_task_tokens_nothing_learns(model: Path) -> None:
    with pytest.raises(UserError, match="without task tokens nothing learns; set epochs = 0"):
        KINDS["xrec-profile"].new(model, prompt={"task_tokens": 0})


# --- GraphGPT


def test_graph_tokens_are_one_product_of_a_node_and_its_nearest_neighbours(
    fit: Fit, vectors: CollaborativeVectors, tmp_path: Path
) -> None:
    made = fit(KINDS["graphgpt"], tmp_path, epochs=0)
    row = made._row(made._subjects((2, 4), {})[1][0])
    projector, bridge = made.reader.bridge.user.maker, made.reader.bridge
    assert bridge.item.maker is projector, "one projector for all"
    tables = {side: table.astype(np.float64) for side, table in vectors.vectors.items()}
    centred = {
        side: (table - table.mean(0)) / (table - table.mean(0)).std() for side, table in tables.items()
    }
    edges = vectors.seen
    near = {"user": edges[edges[:, 0] == 2, 1], "item": edges[edges[:, 1] == 4, 0]}
    near = {"user": near["user"][near["user"] != 4], "item": near["item"][near["item"] != 2]}
    expected = []
    for side, other, number in (("user", "item", 2), ("item", "user", 4)):
        ranked = sorted(
            near[side], key=lambda it, o=other, s=side, n=number: -(tables[o][it] @ tables[s][n])
        )[:2]
        sequence = [centred[side][number], *centred[other][ranked], *np.zeros((2 - len(ranked), 6))]
        weight, bias = (it.detach().double().numpy() for it in (projector.weight, projector.bias))
        start = made.reader.backbone.word(side).numpy()
        expected.append(start + bridge.user.unit * (np.stack(sequence) @ weight.T + bias))
    np.testing.assert_allclose(
        made.reader.soft([row])[0].detach(), np.concatenate(expected), rtol=1e-4, atol=1e-5
    )


def test_a_graph_token_of_the_other_one_of_the_pair_is_never_shown(fit: Fit, tmp_path: Path) -> None:
    made = fit(KINDS["graphgpt"], tmp_path, epochs=0, neighbours=9)
    for user, item in made.known.seen.tolist():
        row = made._row(made._subjects((user, item), {})[1][0])
        assert item not in row.user[6:]
        assert user not in row.item[6:]


def test_the_first_stage_shows_texts_in_another_order_and_wants_that_of_the_tokens(
    fit: Fit, profiled: Dataset, tmp_path: Path
) -> None:
    made = fit(KINDS["graphgpt"], tmp_path, epochs=0, matched=3, matching=3)
    task, prompt = made._task(profiled), made._matcher.prompt  # type: ignore[attr-defined]
    assert len(task.descriptions) == 3
    moved = 0
    for row in task.descriptions:
        told = prompt.decode(row.target).split(" | ")
        shown = prompt.decode(row.shown).strip().removeprefix("Texts: ").split(" | ")
        assert sorted(told) == sorted(shown)
        moved += told != shown
        for place, title in enumerate(told):
            own = made.known.vectors["item"][int(title.split()[-1])]
            np.testing.assert_allclose(row.user[place * 8 : place * 8 + 6], own, rtol=1e-6)
    assert moved
    loss = made._loss(task.descriptions[:2])["loss"]
    loss.backward()
    trained = {name for name, it in made.reader.bridge.named_parameters() if it.grad is not None}
    assert trained == {"user.maker.weight", "user.maker.bias"}, "the projector, once, and nothing else"


def test_the_first_stage_comes_once_and_learns(fit: Fit, profiled: Dataset, tmp_path: Path) -> None:
    made = fit(KINDS["graphgpt"], tmp_path, epochs=0, matching=8, lr=5e-2)
    task = made._task(profiled)
    first = [row for batch in task.batches(0) for row in batch]
    assert first[: len(task.descriptions)] == [it for it in first if not it.item]
    assert not [row for batch in task.batches(1) for row in batch if not row.item]
    optimiser, losses = task.optimizer(), []
    for _ in range(30):
        loss = made._loss(list(task.descriptions))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


# --- TEA-GLM


def test_principal_components_are_those_of_a_singular_value_decomposition() -> None:
    from forwhy.systems.tea_glm import principal_components

    table = np.random.default_rng(0).normal(size=(200, 12)) * np.linspace(3, 0.5, 12) + 4
    found = principal_components(torch.from_numpy(table), 5).double().numpy()
    _, _, wanted = np.linalg.svd(table - table.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs((found * wanted[:5]).sum(1)), 1, atol=1e-5)
    assert principal_components(torch.from_numpy(table), 99).shape == (12, 12)


def test_contrast_is_info_nce_of_both_views_among_all_others() -> None:
    from forwhy.systems.tea_glm import contrast

    one, two = np.random.default_rng(1).normal(size=(2, 7, 5))
    both = np.concatenate([one, two])
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    parts = []
    for row in range(14):
        power = {other: np.exp(both[row] @ both[other] / 0.3) for other in range(14) if other != row}
        parts.append(-np.log(power[(row + 7) % 14] / sum(power.values())))
    found = float(contrast(torch.from_numpy(one), torch.from_numpy(two), 0.3))
    assert found == pytest.approx(np.mean(parts), rel=1e-6)


def test_alignment_lowers_both_contrasts_and_is_frozen_afterwards(
    fit: Fit, vectors: CollaborativeVectors, tmp_path: Path
) -> None:
    from forwhy.systems.tea_glm import principal_components

    none, some = (
        fit(KINDS["tea-glm"], tmp_path / str(steps), epochs=0, alignment=steps, nodes=22)
        for steps in (0, 200)
    )
    losses = []
    for made in (none, some):
        side = made.reader.bridge.user
        inputs = side.nodes(torch.from_numpy(vectors.vectors["user"])).flatten(1)
        components = principal_components(made.reader.backbone.words.weight, 8)
        torch.manual_seed(0)
        losses.append(side.maker.alignment(inputs, components, made.config).item())
    assert losses[1] < losses[0] - 0.1
    trained = fit(KINDS["tea-glm"], tmp_path / "trained", alignment=200, nodes=22)
    start, end = state(some), state(trained)
    aligned = [name for name in start if ".aligned." in name]
    assert all(torch.equal(start[name], end[name]) for name in aligned)
    assert not torch.equal(start["user.maker.projector.weight"], end["user.maker.projector.weight"])


# --- Time-LLM


def test_patches_attend_to_prototypes_as_torchs_own_attention(fit: Fit, tmp_path: Path) -> None:
    made = fit(KINDS["time-llm"], tmp_path, epochs=0)
    maker, heads, inner = made.reader.bridge.user.maker, 8, 8 * 32
    theirs = torch.nn.MultiheadAttention(inner, heads, batch_first=True, kdim=48, vdim=48)
    with torch.no_grad():
        theirs.q_proj_weight.copy_(torch.eye(inner))
        theirs.k_proj_weight.copy_(maker.key.weight)
        theirs.v_proj_weight.copy_(maker.value.weight)
        theirs.in_proj_bias.copy_(torch.cat([torch.zeros(inner), maker.key.bias, maker.value.bias]))
        theirs.out_proj.weight.copy_(torch.eye(inner))
        theirs.out_proj.bias.zero_()
    vectors_B1d = torch.randn(3, 1, 6, generator=torch.Generator().manual_seed(0))
    pieces = torch.stack([vectors_B1d[:, 0, start : start + 4] for start in (0, 2)], dim=1)
    torch.testing.assert_close(maker.patches(vectors_B1d), pieces)
    query = maker.query(maker.embedding(pieces))
    words = made.reader.backbone.embed(torch.tensor(common(made, 32))) / made.reader.bridge.user.unit
    prototypes = maker.mapping.weight @ words + maker.mapping.bias[:, None]
    attended, _ = theirs(query, *[prototypes.expand(3, -1, -1)] * 2)
    torch.testing.assert_close(maker(vectors_B1d), maker.out(attended), rtol=1e-4, atol=1e-5)


def common(made: SoftExplainer[Any, Any], count: int) -> list[int]:
    from forwhy.systems.time_llm import common_words

    return common_words(made.reader.backbone.tokenizer, count)


def test_the_words_of_prototypes_are_the_first_whole_ones(fit: Fit, tmp_path: Path) -> None:
    made = fit(KINDS["time-llm"], tmp_path, epochs=0)
    spelled = made.reader.backbone.tokenizer.convert_ids_to_tokens(common(made, 20))
    assert all(it.startswith("\u0120") and it[1:].isalpha() for it in spelled)
    assert common(made, 20) == sorted(common(made, 20))
    assert common(made, 5) == common(made, 20)[:5]


# --- behaviour tokens


@pytest.mark.parametrize("system", ["graphgpt", "tea-glm", "time-llm"])
def test_only_the_first_stage_that_is_read_is_made(system: str) -> None:
    def stages(**explainer: str) -> list[str]:
        recipe = find_system(system)(name="x", data={"path": "y"}, explainer=explainer)  # type: ignore[arg-type]
        return [stage.name for stage in recipe.needed()]

    assert stages() == ["collaborative", "explainer", "evaluation"]
    assert stages(tokens="behaviour") == ["vocabulary", "explainer", "evaluation"]


def test_codewords_stand_in_the_place_of_vectors_and_one_taken_out_is_zero(
    fit: Fit, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    made = fit(KINDS["graphgpt-behaviour"], tmp_path, epochs=0, scaled=False)
    row = made._row(made._subjects((2, 4), {})[1][0])
    words = vocabulary.codewords("user", np.array([row.user], int))[0]
    np.testing.assert_allclose(made.reader.bridge.user.nodes(torch.tensor([row.user]))[0], words, rtol=1e-6)
    name = vocabulary.token_names("user", 2)[1]
    whole, without = made.explain((2, 4)), made.explain((2, 4), without=[name])
    assert name in {token.token for token in whole.tokens}
    assert name not in {token.token for token in without.tokens}


@pytest.mark.parametrize("name", [name for name in KINDS if name != "pepler-all"])
def test_what_reads_in_half_precision_learns_in_whole(
    fit: Fit, profiled: Dataset, tmp_path: Path, name: str
) -> None:
    made = fit(KINDS[name], tmp_path / "work", precision="bf16", epochs=1)
    assert {it.dtype for it in state(made).values() if it.is_floating_point()} == {torch.float32}
    made.save_pretrained(tmp_path / "saved")
    loaded = type(made).from_pretrained(tmp_path / "saved")
    assert same(state(loaded), state(made))
    pairs = profiled.pairs("test")
    np.testing.assert_array_equal(loaded.nll(pairs).sum, made.nll(pairs).sum)
