"""Kaldi data directories, and what their values stand for."""
