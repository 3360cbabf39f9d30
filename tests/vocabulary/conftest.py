"""A little town and its vocabulary, learnt once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from forwhy.data.dataset import Dataset
from forwhy.data.sample import little_town
from forwhy.text.encoder import text_encoder
from forwhy.vocabulary.options import TokenizerConfig
from forwhy.vocabulary.tokenizer import BehaviourTokenizer
from forwhy.vocabulary.vocabulary import Vocabulary

Learn = Callable[..., Vocabulary]
SMALL = {"codes": 32, "slot_dim": 6, "text_dims": 12, "batch_size": 1024, "text_batch": 64, "device": "cpu"}


@pytest.fixture(scope="session")
def town() -> Dataset:
    return little_town(seed=1, users=240, items=160, visits=15, explanations=(200, 20, 20))


@pytest.fixture(scope="session")
def learn(town: Dataset) -> Learn:
    """Learns the town's vocabulary in a folder, with options over the small ones."""

    def run(folder: Path, dataset: Dataset = town, **options: object) -> Vocabulary:
        phrases = {side: dataset.phrases(side) for side in ("user", "item")}
        config = TokenizerConfig(**{**SMALL, "epochs": 2, **options})
        return BehaviourTokenizer(config).fit(dataset, phrases, text_encoder("hash"), folder)

    return run


@pytest.fixture(scope="session")
def vocabulary(learn: Learn, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return learn(tmp_path_factory.mktemp("learn"))
