"""Timing of blocks and networks, on this machine or on a board."""
