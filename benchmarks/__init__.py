"""Figures of espnet3, side by side with what one would use instead; see README.md."""
