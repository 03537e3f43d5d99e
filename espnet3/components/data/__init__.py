"""Data sets: builders, recipe-local modules, and the organizer that a config describes."""
