"""Latency models fitted to a few timed networks."""
