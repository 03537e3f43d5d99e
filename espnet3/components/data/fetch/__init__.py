"""What downloading and unpacking are made of."""
