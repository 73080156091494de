"""Supernets: shared weights, sandwich training, and their relaxation for `darts`."""
