"""Reading shell scripts without running them: tokens, syntax, and what variables hold where."""
