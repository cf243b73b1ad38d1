"""The scripts of PBS jobs. This file makes the directory a package, so that it is installed with hpcml."""
