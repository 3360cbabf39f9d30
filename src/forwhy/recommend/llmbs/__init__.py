"""LLM-BS: a language model that generates the next item's index, and only items that exist."""
