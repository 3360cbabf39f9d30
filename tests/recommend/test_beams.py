"""Beam search and exact scores against Hugging Face's `generate` and against reading every item plainly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from forwhy.errors import UserError
from forwhy.recommend.beams import BeamDecoder, Beams, _common, best
from forwhy.recommend.head import Normalise, OwnHead, PlainHead
from forwhy.recommend.trie import CodeTrie

from .conftest import FAMILIES, Codes, catalogue, hugging_face, language_model, plain_scores, prompts, ragged
from .conftest import token_ids as ids_of

Models = Callable[[str], PreTrainedModel]
SIZES = [6, 7, 8]
IDS = ids_of(SIZES)
ITEMS = catalogue(60, SIZES)
RAGGED = ragged(40)
RAGGED_SIZES = [8, 9, 6, 7, 8]
RAGGED_IDS = ids_of(RAGGED_SIZES)


def decoder(model: PreTrainedModel, codes: Codes = ITEMS, **options: object) -> BeamDecoder:
    sizes, ids = (SIZES, IDS) if codes.shape[1] == 3 else (RAGGED_SIZES, RAGGED_IDS)
    return BeamDecoder(model, CodeTrie.from_codes(codes, sizes), ids, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("codes", [ITEMS, RAGGED], ids=["even", "ragged"])
def test_items_and_scores_are_those_of_hugging_face(model_of: Models, family: str, codes: Codes) -> None:
    model, users = model_of(family), prompts(9, 4, 1)
    made = decoder(model, codes, beam=5)
    found = made.search(users)
    for user, prompt in enumerate(users):
        items, scores = hugging_face(model, prompt, codes, made.ids, 5)
        assert found.items[user].tolist() == items
        torch.testing.assert_close(found.scores[user], scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("normalise", ["vocab", "level", "legal"])
def test_a_wide_beam_and_the_exact_scores_are_brute_force(
    model_of: Models, family: str, normalise: Normalise
) -> None:
    model, users = model_of(family), prompts(8, 3)
    made = decoder(model, beam=100, normalise=normalise)
    found, exact = made.search(users), made.exact(users)
    for user, prompt in enumerate(users):
        plain = plain_scores(model, prompt, ITEMS, IDS, normalise)
        torch.testing.assert_close(exact[user], plain, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.scores[user], plain.sort(descending=True).values, atol=1e-4, rtol=0)
        torch.testing.assert_close(plain[found.items[user]], found.scores[user], atol=1e-4, rtol=0)
        assert sorted(found.items[user].tolist()) == list(range(len(ITEMS)))


def test_exact_scores_do_not_depend_on_how_the_catalogue_is_cut(
    model_of: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, users = decoder(model_of("gemma2"), normalise="legal"), prompts(5, 6, 7)
    whole = made.exact(users)
    for tokens in (2, 7, 40):
        monkeypatch.setattr("forwhy.recommend.beams.TREE_TOKENS", tokens)
        torch.testing.assert_close(made.exact(users), whole, atol=1e-4, rtol=0)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_no_item_is_found_twice_and_none_that_does_not_exist(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    codes = catalogue(data.draw(st.integers(1, 30)), sizes, seed=data.draw(st.integers(0, 99)))
    beam, normalise = data.draw(st.integers(1, 40)), data.draw(st.sampled_from(["vocab", "level", "legal"]))
    made = BeamDecoder(LLAMA, CodeTrie.from_codes(codes, sizes), ids_of(sizes), normalise, beam)
    for row in made.search(prompts(3, 5)).items.tolist():
        assert len(set(row)) == len(row) == min(beam, len(codes))
        assert set(row) <= set(range(len(codes)))


LLAMA = language_model("llama", seed=5)


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_company_nor_padding_nor_a_shared_beginning_change_the_result(
    model_of: Models, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = prompts(6)[0]
    users = [head + rest for rest in prompts(2, 9, 1, 5, 9, 3)]
    made = decoder(model_of(family), RAGGED, beam=7)
    alone = [made.search([prompt]) for prompt in users]
    for batch, shared in ((64, 10**9), (64, 1), (2, 1), (4, 10**9)):
        monkeypatch.setattr("forwhy.recommend.beams.SHARED_TOKENS", shared)
        made.batch = batch
        together = made.search(users)
        for user, one in enumerate(alone):
            assert together.items[user].tolist() == one.items[0].tolist()
            torch.testing.assert_close(together.scores[user], one.scores[0], atol=1e-4, rtol=0)


def step_by_step(made: BeamDecoder, users: list[list[int]]) -> Beams:
    """The search that reads every code in a pass of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CodeTrie, "determined", lambda *_: False)
        return made.search(users)


@pytest.mark.parametrize("normalise", ["vocab", "level", "legal"])
def test_forced_tails_change_no_score_and_save_passes(
    model_of: Models, normalise: Normalise, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = prompts(4, 6)
    made = decoder(model_of("llama"), RAGGED, beam=10, normalise=normalise)
    wanted, passes, grow = step_by_step(made, users), [], made.lm.grow
    monkeypatch.setattr(made.lm, "grow", lambda *given: passes.append(1) or grow(*given))
    found = made.search(users)
    assert found.items.tolist() == wanted.items.tolist()
    torch.testing.assert_close(found.scores, wanted.scores, atol=1e-4, rtol=0)
    # Two codes name an item: one pass for the second, and one for the three that follow.
    assert len(passes) == (1 if normalise == "legal" else 2)


def test_tails_are_finished_at_once_also_when_only_these_beams_are_determined(model_of: Models) -> None:
    codes = np.vstack([RAGGED, RAGGED[:3] + [[0, 0, 0, 0, 1]] * 3])
    codes[-3:, -1] %= 8
    model, users = model_of("llama"), prompts(4, 6, 3, 5)
    for beam in (2, 5):
        found = decoder(model, codes, beam=beam).search(users)
        wanted = step_by_step(decoder(model, codes, beam=beam), users)
        assert found.items.tolist() == wanted.items.tolist()
        torch.testing.assert_close(found.scores, wanted.scores, atol=1e-4, rtol=0)


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("codes", [ITEMS, RAGGED], ids=["even", "ragged"])
def test_a_tiny_catalogue_is_ranked_whole(model_of: Models, items: int, codes: Codes) -> None:
    made = decoder(model_of("gpt2"), codes[:items], beam=20)
    found = made.search(prompts(5), k=2)
    plain = plain_scores(made.lm.model, prompts(5)[0], codes[:items], made.ids)
    assert found.items[0].tolist() == plain.argsort(descending=True).tolist()[:2]
    torch.testing.assert_close(made.exact(prompts(5))[0], plain, atol=1e-4, rtol=0)


def test_codes_of_one_level_are_enough(model_of: Models) -> None:
    codes = np.array([[2], [0], [4]])
    made = BeamDecoder(model_of("llama"), CodeTrie.from_codes(codes, [5]), ids_of([5]), beam=2)
    plain = plain_scores(made.lm.model, prompts(5)[0], codes, made.ids)
    assert made.search(prompts(5)).items[0].tolist() == plain.argsort(descending=True).tolist()[:2]
    torch.testing.assert_close(made.exact(prompts(5))[0], plain, atol=1e-4, rtol=0)


def test_equal_scores_go_to_the_lower_code(model_of: Models) -> None:
    model = language_model("llama")
    torch.nn.init.zeros_(model.lm_head.weight)
    made = decoder(model, beam=9)
    order = sorted(range(len(ITEMS)), key=lambda item: tuple(ITEMS[item]))
    assert made.search(prompts(4)).items[0].tolist() == order[:9]
    assert len(set(made.exact(prompts(4))[0].tolist())) == 1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -float("inf")]), min_size=1, max_size=30), st.data())
def test_the_best_are_the_first_of_a_stable_sort(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    order = sorted(range(len(values)), key=lambda place: -values[place])
    assert best(torch.tensor([values, values]), count).tolist() == [sorted(order[:count])] * 2


def test_a_code_without_probability_is_still_legal() -> None:
    model = language_model("gpt2", tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(32, 120)
    made = decoder(model, beam=100)
    with torch.no_grad():
        model.lm_head.bias[IDS[1][:5]] = -torch.inf
    found = made.search(prompts(4))
    assert sorted(found.items[0].tolist()) == list(range(len(ITEMS)))
    assert found.scores.isfinite().all()


def test_a_head_with_a_bias_is_multiplied_by_rows_too() -> None:
    model = language_model("gpt2", tie_word_embeddings=False)
    model.lm_head = torch.nn.Linear(32, 120)
    made = decoder(model, normalise="level", beam=100)
    plain = plain_scores(model, prompts(4)[0], ITEMS, IDS, "level")
    assert isinstance(made.lm.head, PlainHead)
    torch.testing.assert_close(made.exact(prompts(4))[0], plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("normalise", ["vocab", "level"])
def test_an_unusual_head_is_left_to_the_model(normalise: Normalise) -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return super().forward(inputs) + super().forward(inputs.flip(-1))

    model, users = language_model("llama"), prompts(4, 7)
    model.lm_head = Doubled(32, 120, bias=False)
    made = decoder(model, normalise=normalise, beam=100)
    # The rows of such a head are not its weights' rows, but the whole of it is what the module gives.
    found = made.search(users)
    for user, prompt in enumerate(users):
        plain = plain_scores(model, prompt, ITEMS, IDS, normalise)
        torch.testing.assert_close(plain[found.items[user]], found.scores[user], atol=1e-4, rtol=0)
    assert isinstance(made.lm.head, OwnHead)


def test_training_between_searches_is_seen_and_the_mode_kept() -> None:
    model, users = language_model("llama", attention_dropout=0.5), prompts(4)
    made = decoder(model.train(), normalise="level", beam=60)
    made.search(users)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    found = made.search(users)
    assert model.training
    wanted = plain_scores(model.eval(), users[0], ITEMS, IDS, "level")
    torch.testing.assert_close(wanted[found.items[0]], found.scores[0], atol=1e-4, rtol=0)


def test_a_model_without_positions_in_its_mask_is_refused() -> None:
    torch.manual_seed(0)
    from transformers import BloomConfig, BloomForCausalLM

    bloom = BloomForCausalLM(BloomConfig(vocab_size=120, hidden_size=32, n_layer=2, n_head=4)).eval()
    with pytest.raises(UserError, match="BloomForCausalLM"):
        decoder(bloom)


@pytest.mark.parametrize(
    ("prompt", "k", "message"),
    [
        ([], None, "prompt 1 is empty"),
        ([120], None, "prompt 1 holds a token outside the model's 0..119"),
        ([5] * 63, None, "prompt 1 has 63 tokens; with 3 codes the model takes at most 62"),
        ([5], 6, "k is 6 with 5 beams"),
        ([5], 0, "k is 0"),
    ],
)
def test_bad_requests_are_named(model_of: Models, prompt: list[int], k: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        decoder(model_of("llama"), beam=5).search([[4], prompt], k)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[:2], "2 levels of tokens for 3 codes"),
        ([*IDS[:2], IDS[2][:5]], "level 2: 5 tokens for 8 codes"),
        ([IDS[0].clone().fill_(4), *IDS[1:]], "level 0: 1 tokens for 6 codes"),
        ([IDS[0] + 200, *IDS[1:]], "level 0: token .* is outside the model's 120"),
    ],
)
def test_index_and_model_that_disagree_are_refused(
    model_of: Models, ids: list[torch.Tensor], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        BeamDecoder(model_of("llama"), CodeTrie.from_codes(ITEMS, SIZES), ids)


def test_a_model_that_gives_no_numbers_is_refused() -> None:
    model = language_model("llama")
    made = decoder(model)
    torch.nn.init.constant_(model.lm_head.weight, torch.nan)
    with pytest.raises(UserError, match="not a number"):
        made.search(prompts(3))


def test_nobody_gets_nothing(model_of: Models) -> None:
    assert decoder(model_of("llama"), beam=5).search([]).items.shape == (0, 5)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=2, max_size=4))
def test_the_shared_beginning_leaves_every_prompt_a_token(rows: list[list[int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forwhy.recommend.beams.SHARED_TOKENS", 0)
        length = _common(rows)
    assert all(row[:length] == rows[0][:length] for row in rows)
    assert length == min(map(len, rows)) - 1 or len({row[length] for row in rows}) > 1
