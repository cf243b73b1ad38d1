"""A strict fake of OpenPBS's commands: see :class:`tests.double.pbs.PbsDouble`.

It guards against regressions and is never evidence. tests/cluster/test_pbs_double.py holds it to the real one.
"""
