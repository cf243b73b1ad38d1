"""Workloads, the computations of a run: one class per module, given a client and inputs.

Workloads write no files; the launcher does.
"""
