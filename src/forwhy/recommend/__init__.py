"""Recommenders: from people to ranked items, by the contract in `base`."""
