"""Workloads: what a run computes. One class per module; a workload gets a client and inputs, and writes no file."""
