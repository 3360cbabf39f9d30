"""The public names: all of them load, and every system is among them with what it makes and its options."""

import pytest

import forwhy
from forwhy.systems import find_system, names

PUBLIC = set(dir(forwhy))


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_loads(name: str) -> None:
    assert getattr(forwhy, name) is not None


@pytest.mark.parametrize("name", names())
def test_a_system_is_public_with_its_options(name: str) -> None:
    system = find_system(name)
    assert getattr(forwhy, system.__name__) is system
    for section in ("explainer", "recommender", "vocabulary", "collaborative", "index"):
        field = system.model_fields.get(section)
        if field is not None:
            assert type(field.get_default(call_default_factory=True)).__name__ in PUBLIC, section


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Behavior'"):
        forwhy.Behavior  # noqa: B018
    assert {"XRecExplainer", "LlmBsRecommender", "TigerRecommender", "NextItemRecommender"} <= PUBLIC
