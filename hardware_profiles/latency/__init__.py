"""Latency of a block on a device: protocol, roofline and measured tables."""
