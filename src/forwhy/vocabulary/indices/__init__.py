"""Item indices: short sequences of codes that a language model generates to name an item (LLM-BS, TIGER, LC-Rec)."""
