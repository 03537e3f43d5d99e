"""What recipes are made of: data sets and metrics."""
