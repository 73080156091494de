"""Grids, places and the carbon intensity of their electricity."""
