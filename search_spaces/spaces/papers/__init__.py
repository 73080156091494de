"""Spaces of papers, whose published encodings and measurements they keep."""
