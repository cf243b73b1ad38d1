"""Compose the config of a run from the command line, and build plain objects from it.

Only this package and ``hpcml.upstream`` import hydra and omegaconf.
"""
