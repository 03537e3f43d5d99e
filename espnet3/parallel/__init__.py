"""Providers, runners and where they run: describe the environment once, write one `forward`."""
