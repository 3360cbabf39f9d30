"""Intents, profiles and explanations out of raw reviews: by asking a language model, or extractively."""
