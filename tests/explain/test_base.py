"""What every explainer promises, whatever its system, with models that know nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forwhy.data.dataset import Dataset
from forwhy.errors import UserError
from forwhy.explain.base import Explainer
from forwhy.explain.beat import BeatExplainer
from forwhy.explain.codes import BeatWordsExplainer
from forwhy.explain.xrec import XRecExplainer
from forwhy.systems.att2seq import Att2SeqExplainer
from forwhy.systems.nrt import NrtExplainer
from forwhy.systems.peter import PeterExplainer
from forwhy.systems.peter_plus import PeterPlusExplainer
from forwhy.testing import explainer_laws

KINDS: dict[str, type[Explainer[Any, Any]]] = {
    "explainer": BeatExplainer,
    "spoken": BeatWordsExplainer,
    "xrec": XRecExplainer,
    "att2seq": Att2SeqExplainer,
    "nrt": NrtExplainer,
    "peter": PeterExplainer,
    "peter_plus": PeterPlusExplainer,
}
"""Fixture with a fitted explainer -> its class."""
KNOW_NUMBERS = {"att2seq", "nrt", "peter", "peter-plus"}
"""Those that know users by number alone, so nobody new."""


@pytest.fixture(params=list(KINDS))
def fitted(request: pytest.FixtureRequest) -> Explainer[Any, Any]:
    made: Explainer[Any, Any] = request.getfixturevalue(request.param)
    assert type(made) is KINDS[request.param]
    return made


@pytest.fixture(params=["explainer", "spoken", "xrec"])
def meeting(request: pytest.FixtureRequest) -> Explainer[Any, Any]:
    """One that reads a history in place of a user."""
    made: Explainer[Any, Any] = request.getfixturevalue(request.param)
    return made


def test_it_obeys_the_laws_of_explainers(fitted: Explainer[Any, Any]) -> None:
    explainer_laws(fitted, [(0, 1), (3, 4), (5, 2), (7, 9)])


def test_one_in_one_out_and_the_same_text_in_any_batch(fitted: Explainer[Any, Any], town: Dataset) -> None:
    pairs = town.pairs("test")
    pairs = pairs.select(np.flatnonzero(fitted.supported(pairs)))
    many = fitted.explain(pairs)
    external = list(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))
    assert [e.text for e in fitted.explain(external)] == [e.text for e in many]
    for pair, expected in zip(external[:3], many, strict=False):
        alone = fitted.explain(pair)
        assert alone.text == expected.text
        assert "".join(fitted.stream(pair)) == expected.text
        assert fitted.explain((str(pair[0]), str(pair[1]))).text == expected.text
    assert fitted.explain([]) == []
    assert fitted.explain([], contributions=True) == []


def test_a_user_without_training_interactions_gets_the_remedy(meeting: Explainer[Any, Any]) -> None:
    with pytest.raises(UserError, match=r"user 11: no training interactions.*explain\(history="):
        meeting.explain((11, 1))
    with pytest.raises(UserError, match="user 11"):
        next(meeting.stream((11, 1)))
    warm = meeting.explain(history=[2, "5"], item=1)
    assert warm.text == "".join(meeting.stream(history=[2, 5], item=1))
    assert {thing.item_id for thing in warm.evidence.items} == {2, 5}


def test_an_empty_history_is_refused(meeting: Explainer[Any, Any]) -> None:
    with pytest.raises(UserError, match="the history is empty; give pairs, or"):
        meeting.explain(history=[], item=1)


@pytest.mark.parametrize("kind", sorted(KNOW_NUMBERS))
def test_who_knows_numbers_refuses_strangers(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Explainer[Any, Any] = request.getfixturevalue(kind.replace("-", "_"))
    asked: list[tuple[dict[str, Any], str]] = [
        (
            {"pairs": (11, 1)},
            "user 11: no training interactions, and .* knows users by number alone; name a user",
        ),
        ({"history": [2, 5], "item": 1}, "somebody known by a history: no training interactions"),
        ({"user": 1, "item_text": "Café Nova"}, "vectors of known users and items are not made from texts"),
        ({"about": "likes cake", "item": 1}, "vectors of known users and items are not made from texts"),
        ({"pairs": (1, 2), "without": ["<u.vector>"]}, "are no tokens to take out"),
    ]
    for call, reason in asked:
        with pytest.raises(UserError, match=reason) as refused:
            fitted.explain(**call)
        assert "\n" not in str(refused.value)


def test_a_network_without_attention_looks_at_nothing(nrt: Explainer[Any, Any]) -> None:
    with pytest.raises(UserError, match="NRT explainer: it has no tokens to look at"):
        nrt.attention((1, 2))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({"pairs": (99, 1)}, "unknown user id 99"),
        ({"pairs": (0, "nowhere")}, "unknown item id 'nowhere'"),
        ({"history": [2]}, "give pairs, or"),
        ({"history": [77], "item": 1}, "unknown item id 77"),
    ],
)
def test_what_is_not_known_is_named(fitted: Explainer[Any, Any], call: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason) as refused:
        fitted.explain(**call)
    assert "\n" not in str(refused.value)


def test_a_text_is_as_probable_as_its_pair_whoever_it_is_told_of(
    fitted: Explainer[Any, Any], town: Dataset
) -> None:
    pairs = town.pairs("test")
    true = fitted.nll(pairs)
    assert np.array_equal(fitted.nll(pairs, pairs.users, pairs.items).sum, true.sum)
    other = fitted.nll(pairs, user_rows=np.roll(pairs.users, 1))
    assert np.array_equal(other.tokens, true.tokens)
    assert not np.allclose(other.sum, true.sum)


@pytest.mark.parametrize("kind", KINDS.values())
def test_not_fitted_says_so(kind: type[Explainer[Any, Any]]) -> None:
    with pytest.raises(UserError, match="not fitted"):
        kind().explain((0, 1))


def test_another_datasets_entities_are_refused(
    fitted: Explainer[Any, Any], town: Dataset, tmp_path: Path
) -> None:
    class Other:
        name, users, items = "other", type(town.users)((1, 2), "user"), town.items

    with pytest.raises(UserError, match="users of data set 'other'"):
        type(fitted)(fitted.config).fit(Other(), fitted.known, tmp_path)  # type: ignore[arg-type]


def test_saved_and_loaded_are_equal(fitted: Explainer[Any, Any], town: Dataset, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "kept")
    loaded = type(fitted).from_pretrained(tmp_path / "kept")
    pairs = town.pairs("test")
    assert loaded.nll(pairs).sum.tolist() == fitted.nll(pairs).sum.tolist()
    assert loaded.explain((3, 4), contributions=True) == fitted.explain((3, 4), contributions=True)
    assert loaded.metrics == fitted.metrics
    assert loaded.config.model_dump(exclude={"revision"}) == fitted.config.model_dump(exclude={"revision"})
    other = next(kind for kind in KINDS.values() if kind.system != fitted.system)
    with pytest.raises(UserError, match=f"explainer of system '{fitted.system}', not a {other.__name__}"):
        other.from_pretrained(tmp_path / "kept")


# --- words taken out and exchanged


@pytest.mark.parametrize("kind", ["explainer", "spoken"])
def test_a_token_that_is_taken_out_says_and_counts_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Explainer[Any, Any] = request.getfixturevalue(kind)
    user = 2
    tokens = fitted.known.token_names("user", user)
    before = fitted.explain((user, 4), contributions=True)
    after = fitted.explain((user, 4), contributions=True, without=[tokens[3]])
    assert [token.token for token in after.tokens if token.side == "user"] == [
        t for t in tokens if t != tokens[3]
    ]
    assert before.because is not None
    assert after.because is not None
    out = [share for share in before.because.shares if share.user == tokens[3]]
    assert after.because.score == pytest.approx(before.because.score - sum(it.contribution for it in out))
    assert [share.contribution for share in after.because.shares] == [
        share.contribution for share in before.because.shares if share not in out
    ]
    assert "".join(fitted.stream((user, 4), without=[tokens[3]])) == after.text
    assert fitted.explain((user, 4), contributions=True) == before


@pytest.mark.parametrize("kind", ["explainer", "spoken"])
def test_an_exchanged_token_reads_as_the_other(kind: str, request: pytest.FixtureRequest) -> None:
    fitted: Explainer[Any, Any] = request.getfixturevalue(kind)
    names = [fitted.known.token_names("user", user) for user in range(11)]
    # A word that stands in two slots would be exchanged in both.
    user, other = [user for user, own in enumerate(names) if len(set(own)) == 6][:2]
    swaps = {mine: it for mine, it in zip(names[user], names[other], strict=True) if mine != it}
    found, wanted = fitted.explain((user, 4), swap=swaps), fitted.explain((other, 4))
    assert found.text == wanted.text
    assert found.tokens == wanted.tokens


def test_the_model_cannot_see_what_is_taken_out(explainer: BeatExplainer, town: Dataset) -> None:
    """Whatever stood at the hidden place, the model says the same of it, alone or in a batch."""
    tokens = explainer.known.token_names("user", 2)
    changed = explainer._changed(explainer._subjects((2, 4), {})[1], {"without": [tokens[3]], "swap": None})
    row = changed._row(changed._subjects((2, 4), {})[1][0])
    assert row.hidden == (3,)
    others = [replace(row, user=(*row.user[:3], code, *row.user[4:])) for code in range(8)]
    plain = [explainer._row(subject) for subject in explainer._subjects([(5, 4), (7, 1)], {})[1]]
    reader, generation = explainer.reader, explainer.config.generation
    texts = reader.write([*others, *plain], generation)
    assert len(set(texts[:8])) == 1
    assert texts[0] == reader.write([row], generation)[0]
    assert texts[8:] == reader.write(plain, generation)
    target = reader.prompt.target("The user would enjoy the cake.")
    sums, _ = reader.nll([replace(other, target=target) for other in others])
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    assert not np.isclose(reader.nll([replace(others[0], target=target, hidden=())])[0][0], sums[0])


def test_vectors_are_no_tokens(xrec: XRecExplainer) -> None:
    with pytest.raises(
        UserError, match="graph vectors are no tokens to take out or to swap; ask a run of beat"
    ):
        xrec.explain((0, 1), without=["<u.vector>"])


def test_what_carried_the_score_is_told_with_the_text(fitted: Explainer[Any, Any]) -> None:
    new: list[dict[str, Any]] = [{"history": [2, 5], "item": 1}] * (fitted.system not in KNOW_NUMBERS)
    for asked in [{"pairs": (3, 4)}, *new]:
        because = fitted.explain(**asked).because  # type: ignore[call-overload]
        assert because.kind == ("words" if fitted.part == "vocabulary" else "history")
        total = sum(share.contribution for share in because.shares) + because.rest
        assert total == pytest.approx(because.score, abs=1e-5)
        assert sum(share.share for share in because.shares) == pytest.approx(1.0)
        assert because.rest == pytest.approx(0.0, abs=1e-6) or "pairs" in asked
