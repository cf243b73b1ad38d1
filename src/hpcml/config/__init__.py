"""From the command line to plain objects. The only package that imports hydra and omegaconf."""
