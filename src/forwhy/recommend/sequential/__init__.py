"""Recommenders of the next item by a network, whichever it is; the networks stand with their systems."""
