"""Measures, fits, checks and lists the latency tables of devices: `nas device`.

Knows devices, tables and search spaces. Does not know how a network is timed or a latency model is
fitted.
"""
