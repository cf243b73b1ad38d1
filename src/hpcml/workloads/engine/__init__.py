"""Execution of units of work on a cluster: task pool, joblib backend, persisted blocks."""
