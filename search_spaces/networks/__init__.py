"""Torch modules of op types, and the networks that are built from them."""
