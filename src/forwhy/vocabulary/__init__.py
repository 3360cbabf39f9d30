"""The behaviour vocabulary (BEAT stage 1) and item indices: users and items written in discrete words."""
