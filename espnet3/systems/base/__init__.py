"""The base system and its stages."""
