"""Random generators: seeded, packed into a tensor of bytes, and put back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

_NUMPY = slice(0, 2496)  # 624 words of 32 bits
_NUMPY_REST = slice(2496, 2520)  # position, has_gauss, cached_gaussian as float64
_PYTHON = slice(2520, 5020)  # 625 words of 32 bits
_PYTHON_REST = slice(5020, 5028)  # gauss_next as float64, NaN for none


def seed_everything(*seed: int) -> None:
    """Seed torch (all devices), numpy and python from one or more integers."""
    mixed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    torch.manual_seed(mixed)
    np.random.seed(mixed)  # noqa: NPY002 - third-party code draws from the global generator
    random.seed(mixed)


def pack_generators() -> dict[str, Tensor]:
    """The state of all global generators as uint8 tensors: `host` (numpy, python), `torch`, `cuda`."""
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    _, words, gauss = random.getstate()
    packed = b"".join(
        (
            np.asarray(keys, np.uint32).tobytes(),
            np.array([position, has_gauss, cached], np.float64).tobytes(),
            np.array(words, np.uint32).tobytes(),
            np.array([np.nan if gauss is None else gauss], np.float64).tobytes(),
        )
    )
    state = {"host": torch.frombuffer(bytearray(packed), dtype=torch.uint8), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def unpack_generators(state: dict[str, Tensor]) -> None:
    """Put the generators back to a packed state."""
    host = state["host"].numpy().tobytes()
    position, has_gauss, cached = np.frombuffer(host[_NUMPY_REST], np.float64)
    keys = np.frombuffer(host[_NUMPY], np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), float(cached)))  # noqa: NPY002
    gauss = float(np.frombuffer(host[_PYTHON_REST], np.float64)[0])
    words = tuple(int(word) for word in np.frombuffer(host[_PYTHON], np.uint32))
    random.setstate((3, words, None if np.isnan(gauss) else gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def kept_generators() -> Iterator[None]:
    """Give the caller's generators back as they were, whatever is seeded and drawn inside."""
    before = pack_generators()
    try:
        yield
    finally:
        unpack_generators(before)
