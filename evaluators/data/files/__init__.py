"""Reads data sets from files and the hub: which file belongs to which part, pixels, tokens."""
