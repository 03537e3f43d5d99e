"""Run scripts of a recipe: what they call its task script with, and what that becomes here."""
