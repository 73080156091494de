"""`nas profile` and `nas count`."""
