"""Trial fits on a few samples, made in a process of their own before a run starts."""
