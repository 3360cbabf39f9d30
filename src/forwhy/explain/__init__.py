"""Explainers: a pair in, a sentence and what it rests on out."""
