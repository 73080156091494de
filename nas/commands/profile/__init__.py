"""Counts and measures networks, and prints the result: `nas profile` and `nas count`.

Knows users' networks and the tables and pages of the result. Does not know how ops are counted or
timed.
"""
