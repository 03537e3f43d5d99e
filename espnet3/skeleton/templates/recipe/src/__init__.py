"""Code of this recipe that configs name as ``src.<module>.<name>``."""
