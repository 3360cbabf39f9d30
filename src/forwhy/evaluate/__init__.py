"""Numbers that survive a second look: full ranking, texts beside their controls, information gain."""
