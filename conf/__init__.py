"""hpcml's configs, as the package hpcml.conf; without this file Hydra does not find them in an editable install."""
