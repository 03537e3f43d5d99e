"""Systems: the stages that a recipe runs."""
