"""Every number about a candidate: what it costs and how good it is."""
