"""Wrap private and undocumented interfaces of other packages, one module per package.

The rest of hpcml uses public interfaces only. ``tests/unit/test_upstream.py`` checks that the
installed versions still behave as these modules expect, and reports which function depends on a
missing interface. ``VERIFIED`` in each module is the version that it was last read and tested
against.
"""
