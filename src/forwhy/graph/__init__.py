"""The interaction graph: normalised adjacency, LightGCN propagation, spectral embeddings."""
