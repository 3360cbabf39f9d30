"""A language model to ask: an OpenAI-compatible server or a local Hugging Face model, behind one contract."""
