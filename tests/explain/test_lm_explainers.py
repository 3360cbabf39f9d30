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
        values = small(model, **self.options, **changes)
        recipe = {"name": "x", "data": {"path": "y"}, "explainer": values}
        found: SoftExplainer[Any, Any] = find_system(self.system)(**recipe).new_explainer()  # type: ignore[attr-defined]
        return found


KINDS = {
    "pepler-frozen": Kind("pepler", {"tuned": "none"}),
    "pepler-adapter": Kind("pepler", {"tuned": "adapter"}, frozen=False),
    "pepler-all": Kind("pepler", {"tuned": "all"}, frozen=False),
    "xrec-profile": Kind("xrec-profile"),
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
