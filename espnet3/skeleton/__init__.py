"""The files that a new recipe begins with, as texts."""
