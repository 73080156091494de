"""Latency of a block on a device: protocol, roofline, measured tables."""
