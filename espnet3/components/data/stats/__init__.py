"""What collect_stats is made of."""
