"""Early-exit heads, and the network that runs them."""
