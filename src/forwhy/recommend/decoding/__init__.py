"""Constrained decoding: a model's codes become items that exist, and only those. Needs torch and transformers."""
