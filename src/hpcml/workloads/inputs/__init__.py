"""Preparation that workloads share: checks, splits, scorers, and scores of data in blocks."""
