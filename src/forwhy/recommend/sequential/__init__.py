"""Recommenders of the next item by a network; the networks that are part of the library are registered here."""

from forwhy.recommend.sequential import din, gru4rec, sasrec  # noqa: F401
