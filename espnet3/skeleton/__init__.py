"""Recipes to begin with; `templates/` holds their files, with words like ``@corpus@``."""
