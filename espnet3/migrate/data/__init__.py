"""A recipe's data preparation: what its scripts do, and what does it here."""
