"""Removing features, ops and weights from a network."""
