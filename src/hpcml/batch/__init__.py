"""Requests to batch schedulers: validation, cost, job scripts, submission and status."""
