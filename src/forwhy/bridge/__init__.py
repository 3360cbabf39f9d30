"""The bridge: vectors into a frozen language model, words out (BEAT stage 2, XRec's adaptor).

`prompt` (which ids stand where) -> `projectors` (codes and graph vectors to word-like ones) -> `backbone` (any Hugging
Face causal language model, its cached prefix, logits at chosen positions) -> `reader` (NLL of texts, and texts).
"""
