"""Tiny random models and readers for the bridge; real ones where they are cached."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from forwhy.bridge.backbone import Backbone
from forwhy.bridge.prompt import Row
from forwhy.bridge.reader import Reader
from forwhy.models import cache_folder, load_causal_lm
from tiny_models import family_model, reader, rows, save, tokenizer


@pytest.fixture(scope="session", params=["llama", "gemma"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each kind of model."""
    return save(tmp_path_factory.mktemp("models") / request.param, request.param)


@pytest.fixture(scope="session")
def backbone(folder: Path) -> Backbone:
    return Backbone(load_causal_lm(str(folder)))


@pytest.fixture(scope="session")
def make_reader() -> Callable[..., Reader]:
    return reader


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., list[Row]]:
    return rows


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    return tokenizer


@pytest.fixture(scope="session")
def real_tokenizers() -> dict[str, Path]:
    """Folders of the packaged models that are cached here; skips where none is."""
    models = cache_folder() / "models"
    found = {
        name: next(models.glob(f"{name}-*/config.json"), None) for name in ("smollm2-135m", "gemma3-270m")
    }
    folders = {name: config.parent for name, config in found.items() if config is not None}
    if not folders:
        pytest.skip("no packaged model is cached; `python -m forwhy.models` fetches them")
    return folders


@pytest.fixture(scope="session")
def model_of() -> Callable[..., PreTrainedModel]:
    return family_model
