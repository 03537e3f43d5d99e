"""Audio files, read and written."""
