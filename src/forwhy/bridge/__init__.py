"""The bridge: behaviour tokens into a frozen language model, words out (BEAT stage 2).

`config` (options, no torch) -> `prompt` (which ids stand where) -> `projector` (codes to word-like vectors)
-> `backbone` (the frozen model, its cached prefix, logits at chosen positions) -> `alignment` (SAR) and
`generation` (greedy decoding). Any Hugging Face causal language model, unforked.
"""
