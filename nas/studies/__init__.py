"""Studies of methods: how well a supernet ranks, how good the networks of spaces are."""
