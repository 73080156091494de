"""Electricity grids, places and their carbon intensity."""
