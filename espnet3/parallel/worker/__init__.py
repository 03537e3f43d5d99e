"""What runs inside a worker process: the env, one lease at a time, the in-flight marker."""
