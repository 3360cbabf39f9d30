"""What LLM-BS's published preset sets, and what wins over it."""

from __future__ import annotations

from typing import Any

import pytest

from forwhy.recommend.options import LlmBsConfig
from forwhy.systems.llm_bs import LlmBs

BASE: dict[str, Any] = {"name": "x", "system": "llm-bs", "data": {"path": "nowhere"}}


def published(**sections: Any) -> LlmBs:  # noqa: ANN401
    recommender = {"preset": "paper", "backbone": {"name": "smollm2-135m"}}
    return LlmBs.model_validate(BASE | {"recommender": recommender} | sections)


def test_the_preset_of_the_paper_sets_every_section() -> None:
    found = published()
    assert found.behaviour.network == "din"
    assert found.encoder.name == "llm:smollm2-135m"
    assert found.index.source == "unit"
    assert found.recommender.tasks.preference == 1.0
    assert found.recommender.annealing.epochs == 1


def test_what_is_given_wins() -> None:
    found = published(
        behaviour={"network": "sasrec", "dims": 32}, index={"source": "semantic"}, encoder={"name": "hash"}
    )
    assert found.behaviour.network == "sasrec"
    assert (found.index.source, found.encoder.name) == ("semantic", "hash")


@pytest.mark.parametrize("recommender", [{}, {"preset": "forwhy"}, LlmBsConfig()])
def test_without_it_nothing_changes(recommender: Any) -> None:  # noqa: ANN401
    found = LlmBs.model_validate(BASE | {"recommender": recommender})
    assert (found.behaviour.network, found.encoder.name) == ("sasrec", "minilm")


def test_a_small_decoder_cannot_encode() -> None:
    assert published(recommender={"preset": "paper"}).encoder.name == "minilm"
