"""The prompts: how they are made and how they are read."""
