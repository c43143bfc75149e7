"""The fault suite: something is killed, damaged or full, and nothing may be lost or wrong.

The oracle everywhere: exit 0 and the values that another reader finds in the same files, or one
line of a typed error, no finished view, and a rerun that completes it. ``pytest -m faults``
runs the part that fits into every change's tests; ``--run-slow`` the rest.
"""
