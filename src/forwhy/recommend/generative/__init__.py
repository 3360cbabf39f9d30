"""What recommenders that write items' codes have in common: LLM-BS and TIGER. Only `config` needs no torch."""
