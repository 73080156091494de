"""Shared storages: databases that keep the studies of many runs."""
