"""Metrics over what the infer stage wrote."""
