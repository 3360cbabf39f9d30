"""The service's own description, fuzzed: whatever fits it, and what does not, is answered and never with 5xx."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("schemathesis")

import schemathesis  # noqa: E402
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis import checks  # noqa: E402
from schemathesis.generation import GenerationMode  # noqa: E402

from forwhy.serve import jobs, keeping  # noqa: E402
from forwhy.serve.app import create_app  # noqa: E402
from forwhy.serve.database import Database  # noqa: E402

CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
ALONE = ("user", "history", "about", "run", "item_text", "only", "exclude", "boost", "without", "swap")
"""What seldom is known or goes together, when it is drawn: half of the questions are asked with what is known."""
EXAMPLES = 20
"""Of each operation, of each kind."""


@pytest.fixture(scope="module")
def app(town_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The service over a run; nobody trains or listens for ever."""
    patch = pytest.MonkeyPatch()
    patch.setattr(jobs, "_work", lambda *_: None)
    patch.setattr(keeping, "_live", _nothing)
    with Database(f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/serve.db") as database:
        made = create_app([town_run], database, per_minute=10**9)
        made.router.lifespan_context = _open  # else the service would end with the first request
        yield made
        made.state.service.stop()
    patch.undo()


@asynccontextmanager
async def _open(_: object) -> AsyncIterator[None]:
    yield


async def _nothing(*_: object) -> Any:  # noqa: ANN401 - what a stream yields
    yield ": listening\n\n"


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda it: it.name.lower())
def test_nothing_breaks_it(app: Any, mode: GenerationMode) -> None:  # noqa: ANN401 - FastAPI
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 30
    ids = st.sampled_from(known(app))
    broken: dict[str, str] = {}
    answered: set[int] = set()
    for operation in operations:
        strategy = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy, path=st.none() | ids, who=st.none() | ids)
        def ask(case: Any, path: str | None, who: str | None) -> None:  # noqa: ANN401 - schemathesis.Case
            if path is not None and case.path_parameters:
                case.path_parameters = dict.fromkeys(case.path_parameters, path)
            if who is not None and isinstance(case.body, dict) and case.path in (base := bases(app)):
                kept = {name: it for name, it in case.body.items() if name not in ALONE}
                case.body = {**kept, **base[case.path]}
            answer = case.call()
            answered.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        try:
            ask()
        except Unsatisfiable:
            continue  # it takes nothing that could be wrong
        except Exception as error:  # all that is wrong is told at once
            broken[operation.label] = f"{type(error).__name__}: {error} {getattr(error, 'exceptions', '')}"[
                :1_500
            ]
    assert not broken, "\n".join(f"{name}: {it}" for name, it in broken.items())
    assert len(answered & {200, 201, 202, 204, 404, 422}) >= 3


def bases(app: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
    """Parts of bodies that are known."""
    user, item, word = known(app)[0], known(app)[3], known(app)[6]
    return {
        "/v1/recommend": {"user": user, "boost": {item: 1.5}, "exclude": [item]},
        "/v1/explain": {"user": user, "item": item, "stream": False},
        "/v1/what-if": {"user": user, "without": [word], "item": item},
        "/v1/words/light": {"history": [item]},
        "/v1/events": {"user": user, "item": item},
        "/v1/feedback": {"explanation": "none"},
    }


def known(app: Any) -> list[str]:  # noqa: ANN401
    """Ids that paths and bodies may mean."""
    loaded = app.state.service.loaded(None)
    words = list(loaded.words.phrases)
    return [
        *map(str, loaded.catalogue.users.values[:3]), *map(str, loaded.catalogue.items.values[:3]), *words[:2], "town",
    ]  # fmt: skip
