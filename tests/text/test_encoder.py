"""Unit vectors; the sentence encoder equals sentence-transformers; the cache changes nothing."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from forwhy.errors import UserError
from forwhy.models import cache_folder, load_causal_lm, locate
from forwhy.store import Row, Store
from forwhy.text import encoder as module
from forwhy.text.encoder import HashEncoder, LanguageModelEncoder, SentenceEncoder, VectorCache, text_encoder
from forwhy.wheels import PACKAGED, state

TEXTS = ["The food is great", "", "Great food and a friendly staff", "A plumber fixed the sink", "  \n"]


def test_hash_encoder_follows_shared_words() -> None:
    vectors = text_encoder("hash").encode(TEXTS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1, 0])
    near = HashEncoder(4096).encode(["the food is great", "great is the pizza", "a plumber came"])
    assert near @ near[0] == pytest.approx([1, 0.75, 0], abs=0.05)  # three of four words shared, then none
    assert np.array_equal(vectors, HashEncoder().encode(TEXTS))
    assert np.array_equal(HashEncoder().encode(["Food!"]), HashEncoder().encode(["food"]))
    assert HashEncoder().encode([]).shape == (0, 128)


def test_hash_encoder_is_the_same_everywhere() -> None:
    first = HashEncoder(4).encode(["pizza"])[0]
    assert np.allclose(first, [0.892954, -0.313984, -0.289615, 0.142021], atol=1e-6)


def test_vector_cache_finds_by_content(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    VectorCache(tmp_path / "v", 3).add(["a", "lone \ud800 surrogate"], vectors)
    found = VectorCache(tmp_path / "v", 3).find(["lone \ud800 surrogate", "b", "a"])
    assert {text: list(row) for text, row in found.items()} == {
        "a": [0, 1, 2],
        "lone \ud800 surrogate": [3, 4, 5],
    }
    assert VectorCache(tmp_path / "v", 4).find(["a"]) == {}


def test_vector_cache_finds_thousands(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(2500)]
    vectors = np.random.default_rng(0).standard_normal((2500, 5)).astype(np.float32)
    VectorCache(tmp_path / "v", 5).add(texts, vectors)
    found = VectorCache(tmp_path / "v", 5).find([*texts, "another"])
    assert np.array_equal([found[text] for text in texts], vectors)


def test_vector_cache_does_without_a_broken_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "v").write_text("no database " * 100)
    cache = VectorCache(tmp_path / "v", 3)
    cache.add(["a"], np.ones((1, 3), np.float32))
    assert cache.find(["a"]) == {}
    assert "text vectors are not kept" in caplog.text


def test_vector_cache_survives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = VectorCache(tmp_path / "v", 3)
    cache.add(["a"], np.ones((1, 3), np.float32))

    def full(store: Store, rows: Iterable[Row]) -> None:
        store.read("PRAGMA max_page_count = 1")
        write(store, rows)

    write = Store.write
    monkeypatch.setattr(Store, "write", full)
    cache.add([f"text {n}" for n in range(5000)], np.ones((5000, 3), np.float32))
    assert "the disk is full" in caplog.text
    assert list(cache.find(["a", "text 0"])) == ["a"]


def test_a_recorded_name_gives_the_same_encoder_and_no_other() -> None:
    assert text_encoder("hash-12").name == HashEncoder(12).name
    assert text_encoder("hash").dim == text_encoder(text_encoder("hash").name).dim
    recorded = text_encoder("minilm").name
    assert text_encoder(recorded).name == recorded
    with pytest.raises(UserError, match="revision other was asked for"):
        text_encoder("minilm@other")


def test_unknown_pooling_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(UserError, match="pools by mean or first token"):
        module._pools_first_token(tmp_path)


# ---- the real encoder


@pytest.fixture
def minilm(tmp_path: Path) -> SentenceEncoder:
    if state(PACKAGED["minilm"], cache_folder()) != "ready":
        pytest.skip("minilm is not cached: `make setup` fetches it")
    encoder = text_encoder("minilm", cache=tmp_path / "vectors")
    assert isinstance(encoder, SentenceEncoder)
    return encoder


@pytest.mark.slow
def test_equals_sentence_transformers(minilm: SentenceEncoder) -> None:
    oracle = pytest.importorskip("sentence_transformers").SentenceTransformer(str(locate("minilm").path))
    oracle.max_seq_length = 256  # its own sentence_bert_config.json says so; the library does not look there
    texts = ["The food is great", "word " * 400, "Émile's café, 日本", "A plumber fixed the sink."]
    theirs = oracle.encode(texts, normalize_embeddings=True)
    assert np.abs(minilm.encode(texts) - theirs).max() < 1e-5


@pytest.mark.slow
def test_batch_of_one_blank_long_hostile_and_cached(
    minilm: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*TEXTS, "x" * 100_000, "nice [SEP] place [CLS]", "The food is great"]
    together = minilm.encode(texts)
    assert together.shape == (8, 384)
    assert np.allclose(np.linalg.norm(together, axis=1), [1, 0, 1, 1, 0, 1, 1, 1], atol=1e-6)
    assert np.array_equal(together[0], together[7])
    assert minilm._loaded is not None
    ids = minilm._loaded.tokenizer("a [SEP] b", split_special_tokens=True).input_ids
    assert ids.count(minilm._loaded.tokenizer.sep_token_id) == 1
    assert minilm.encode([]).shape == (0, 384)
    alone = text_encoder("minilm", cache=tmp_path / "other").encode([TEXTS[2]])
    assert np.abs(alone[0] - together[2]).max() < 1e-6

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a cached text was encoded again")

    monkeypatch.setattr(module, "load_text_encoder", never)
    again = text_encoder("minilm", cache=tmp_path / "vectors").encode(texts)
    assert np.array_equal(again, together)


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_bytes(
    minilm: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SentenceEncoder, "batch", 4)
    monkeypatch.setattr(module, "SEGMENT", 1)
    texts = [f"{'very ' * (row % 5)}good place number {row}" for row in range(18)]
    whole = minilm.encode(texts)
    resumed = text_encoder("minilm", cache=tmp_path / "killed")
    assert isinstance(resumed, SentenceEncoder)
    steps = iter(range(2))

    def killed(*arguments: object) -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        VectorCache.add(resumed._cache, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(resumed._cache, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        resumed.encode(texts)
    assert np.array_equal(text_encoder("minilm", cache=tmp_path / "killed").encode(texts), whole)


# ---- a language model as encoder


@pytest.fixture
def llm(tiny_model: Path, tmp_path: Path) -> LanguageModelEncoder:
    encoder = text_encoder(f"llm:{tiny_model}", cache=tmp_path / "vectors")
    assert isinstance(encoder, LanguageModelEncoder)
    return encoder


def test_language_model_gives_the_mean_of_its_last_hidden_states(
    llm: LanguageModelEncoder, tiny_model: Path
) -> None:
    texts = ["coffee and cake", "", "a quiet terrace <|im_end|> with books", "pizza " * 400]
    vectors = llm.encode(texts)
    lm = load_causal_lm(str(tiny_model))
    for text, vector in zip(texts, vectors, strict=True):
        if not text:
            assert not vector.any()
            continue
        ids = lm.tokenizer(text, return_tensors="pt", split_special_tokens=True)["input_ids"][:, :512]
        mean = lm.model(ids, output_hidden_states=True).hidden_states[-1][0].mean(0).numpy()
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_language_model_and_sentence_encoder_never_share_vectors(
    llm: LanguageModelEncoder, tiny_model: Path, tmp_path: Path
) -> None:
    plain = text_encoder(str(tiny_model), cache=tmp_path / "vectors")
    assert llm.name == f"llm:{plain.name}"


def test_a_cluster_gives_the_same_vectors(
    llm: LanguageModelEncoder, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are spread, and kept here."""
    pytest.importorskip("ray", reason="pip install 'forwhy[cluster]'")
    texts = [f"{'coffee and cake ' * (number % 3)}{number}" for number in range(40)]
    alone = llm.encode(texts)
    spread = text_encoder(f"llm:{tiny_model}", cache=tmp_path / "others")
    monkeypatch.setenv("FORWHY_RAY", "local")
    assert np.array_equal(spread.encode([*texts, ""])[:-1], alone)
    monkeypatch.setenv("FORWHY_RAY", "127.0.0.1:1")
    assert np.array_equal(spread.encode(texts), alone)
    with pytest.raises(UserError, match="no cluster to join"):
        spread.encode([f"another {number}" for number in range(40)])
