"""Torch that is imported when it is first used, so that a recipe is checked without it.

A system's file holds options, which every command reads, and a network, which only training and scoring need::

    from forwhy.lazy import Network, torch

    class Perceptron(Network):
        def __init__(self, dims: int) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(dims, 1)

Type checkers see `torch` itself and `torch.nn.Module`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.nn import Module as Network
else:

    class _Torch:
        """Stands for the module until something of it is asked for."""

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401, D105 (whatever torch holds)
            return getattr(import_module("torch"), name)

    torch = _Torch()

    class Network:
        """A `torch.nn.Module` whose class can be written down before torch is imported.

        Making an object of a subclass makes one of that subclass and `torch.nn.Module` together.
        """

        def __new__(cls, *_: object, **__: object) -> Network:  # noqa: D102 (says the class)
            return object.__new__(cls if issubclass(cls, import_module("torch").nn.Module) else _module(cls))

    @cache
    def _module(cls: type) -> type:
        return type(cls.__name__, (cls, import_module("torch").nn.Module), {"__module__": cls.__module__})


@contextmanager
def uncollected() -> Iterator[None]:
    """Load libraries and a model without the garbage collector, which walks all that they make: a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


__all__ = ["Network", "torch", "uncollected"]
