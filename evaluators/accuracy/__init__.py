"""Scores of architectures: inherited weights, early exits, zero-cost proxies, published tables."""
