"""A latency model fitted to a few timed networks."""
