"""Measurement of blocks and networks, on this machine or another."""
