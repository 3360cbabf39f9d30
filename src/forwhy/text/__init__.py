"""Strings to vectors: frozen text encoders behind one contract."""
