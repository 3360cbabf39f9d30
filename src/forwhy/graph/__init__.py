"""Interactions as a graph: normalised adjacency, LightGCN, and the vectors learnt on it."""
